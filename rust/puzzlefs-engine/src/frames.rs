//! Decoding a compressed blob to see that it can be done, frame by frame.

use std::os::fd::BorrowedFd;

use puzzlefs_core::{Error, Result, Rule};
use rustix::io::{Errno, retry_on_intr};

use crate::codec::decode_frame;
use crate::seek_table::{FOOTER_SIZE, SeekTable};

/// Decodes the frames of a compressed blob that hold its first `end` bytes, as far as there are so
/// many; returns how many bytes it holds. No more than one frame is in memory.
///
/// Fails with `Corrupt` or `Os`.
pub fn check_frames(file: BorrowedFd<'_>, end: u64) -> Result<u64> {
    let stat = rustix::fs::fstat(file).map_err(system)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let footer = size.checked_sub(FOOTER_SIZE as u64);
    let footer = footer.ok_or(Rule::SeekTableMissing)?;
    let mut bytes = [0; FOOTER_SIZE];
    fill(file, footer, &mut bytes)?;
    let table_size = SeekTable::size_of(&bytes, size)?;
    let table = SeekTable::parse(&read(file, size - table_size, table_size)?, size)?;
    for number in 0..table.frames() {
        if table.content_before(number) >= end {
            break;
        }
        let start = table.before(number);
        let stored = read(file, start, table.before(number + 1) - start)?;
        let content = table.content_before(number + 1) - table.content_before(number);
        decode_frame(&stored, content as usize)?;
    }
    Ok(table.content_size())
}

/// Returns bytes of a file; their number was checked against its size.
fn read(file: BorrowedFd<'_>, offset: u64, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| system(Errno::FBIG))?];
    fill(file, offset, &mut bytes)?;
    Ok(bytes)
}

fn fill(file: BorrowedFd<'_>, offset: u64, bytes: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        let count = retry_on_intr(|| rustix::io::pread(file, &mut *rest, offset + filled as u64));
        match count.map_err(system)? {
            0 => return Err(system(Errno::IO)),
            count => filled += count,
        }
    }
    Ok(())
}

fn system(errno: Errno) -> Error {
    Error::Os(errno.raw_os_error())
}
