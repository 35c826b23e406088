//! An inode's attributes in the kernel's layout.

use puzzlefs_core::index::Stat;
use puzzlefs_core::metadata::Kind;
use rustix::io::Errno;

use super::protocol::{ENTRY_OUT, FOREVER};
use super::reply::Reply;

/// Bytes in a block as stat(2) counts them.
const SECTOR: u64 = 512;
/// Bytes that reads should have.
const BLOCK: u32 = 4096;
/// What fits the kernel's 32-bit device number.
const MAJOR_LIMIT: u64 = 1 << 12;
const MINOR_LIMIT: u64 = 1 << 20;

/// Returns the type bits of an inode's mode.
pub fn file_type(kind: Kind) -> u32 {
    match kind {
        Kind::Fifo => 0o01_0000,
        Kind::Chr => 0o02_0000,
        Kind::Dir => 0o04_0000,
        Kind::Blk => 0o06_0000,
        Kind::File => 0o10_0000,
        Kind::Lnk => 0o12_0000,
        Kind::Sock => 0o14_0000,
        _ => 0,
    }
}

/// Returns a device number. Fails with `EOVERFLOW`: a truncated one would name another device.
pub fn device(stat: &Stat) -> Result<u32, Errno> {
    if stat.major >= MAJOR_LIMIT || stat.minor >= MINOR_LIMIT {
        return Err(Errno::OVERFLOW);
    }
    let (major, minor) = (stat.major as u32, stat.minor as u32);
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// Adds a `fuse_attr`; access and change time are the time of modification too.
pub fn put_attributes(stat: &Stat, reply: &mut Reply) -> Result<(), Errno> {
    let rdev = device(stat)?;
    let seconds = stat.mtime_sec as u64;
    let blocks = stat.size.div_ceil(SECTOR);
    reply.longs(&[stat.ino, stat.size, blocks, seconds, seconds, seconds])?;
    let mode = file_type(stat.kind) | u32::from(stat.permissions);
    let nanoseconds = stat.mtime_nsec;
    reply.words(&[nanoseconds, nanoseconds, nanoseconds, mode, stat.nlink])?;
    reply.words(&[stat.uid, stat.gid, rdev, BLOCK, 0])
}

/// Adds a `fuse_entry_out`.
pub fn put_entry(stat: &Stat, reply: &mut Reply) -> Result<(), Errno> {
    reply.longs(&[stat.ino, 0, FOREVER, FOREVER])?;
    reply.words(&[0, 0])?;
    put_attributes(stat, reply)
}

/// Adds a `fuse_entry_out` for a name that does not exist; the kernel remembers that too.
pub fn put_absent(reply: &mut Reply) -> Result<(), Errno> {
    reply.longs(&[0, 0, FOREVER, FOREVER])?;
    reply.space(ENTRY_OUT - 32)?.fill(0);
    Ok(())
}
