//! The FUSE kernel protocol, major version 7: its numbers, and requests as they come.
//!
//! Structures are read and written field by field in the machine's byte order.

use rustix::io::Errno;

/// The protocol's major version.
pub const MAJOR: u32 = 7;
/// The minor version that is spoken here, or less where the kernel knows less.
pub const MINOR: u32 = 38;
/// Before it, answers had another layout.
pub const OLDEST_MINOR: u32 = 23;

/// Bytes of the header of a request.
pub const IN_HEADER: usize = 40;
/// Bytes of the header of an answer.
pub const OUT_HEADER: usize = 16;
/// Bytes of a `fuse_entry_out`.
pub const ENTRY_OUT: usize = 128;
/// Bytes of the largest answer's body: what 256 pages hold, the most that the kernel asks for.
pub const LARGEST: usize = 1 << 20;
/// Seconds for which the kernel may keep what it is told.
pub const FOREVER: u64 = u32::MAX as u64;

/// What a request asks for. Numbers that are not here are of no use to a filesystem that is only read.
pub mod opcode {
    #![allow(missing_docs)]
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const CREATE: u32 = 35;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const TMPFILE: u32 = 51;
}

/// What kernel and server agree on at the start.
pub mod flag {
    #![allow(missing_docs)]
    pub const ASYNC_READ: u32 = 1;
    pub const EXPORT_SUPPORT: u32 = 1 << 4;
    pub const DO_READDIRPLUS: u32 = 1 << 13;
    pub const ASYNC_DIO: u32 = 1 << 15;
    pub const NO_OPEN_SUPPORT: u32 = 1 << 17;
    pub const PARALLEL_DIROPS: u32 = 1 << 18;
    pub const POSIX_ACL: u32 = 1 << 20;
    pub const MAX_PAGES: u32 = 1 << 22;
    pub const CACHE_SYMLINKS: u32 = 1 << 23;
    pub const NO_OPENDIR_SUPPORT: u32 = 1 << 24;
}

/// In the answer to an open: keep the file's pages, keep the directory's entries.
pub const KEEP_CACHE: u32 = 1 << 1;
/// In the answer to an opendir: let the kernel cache entries.
pub const CACHE_DIR: u32 = 1 << 3;
/// The message that puts bytes of a file into the page cache.
pub const NOTIFY_STORE: i32 = 4;

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it asks for, of [`opcode`].
    pub opcode: u32,
    /// What the answer repeats.
    pub unique: u64,
    /// The inode in question.
    pub node: u64,
    /// What follows the header.
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Takes a request apart; `None` where it is shorter than it says.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = word(bytes, 0)?;
        if length as usize != bytes.len() {
            return None;
        }
        Some(Self {
            opcode: word(bytes, 4)?,
            unique: long(bytes, 8)?,
            node: long(bytes, 16)?,
            body: bytes.get(IN_HEADER..)?,
        })
    }

    /// Returns the 32-bit number at a byte of the body.
    pub fn word(&self, at: usize) -> Result<u32, Errno> {
        word(self.body, at).ok_or(Errno::INVAL)
    }

    /// Returns the 64-bit number at a byte of the body.
    pub fn long(&self, at: usize) -> Result<u64, Errno> {
        long(self.body, at).ok_or(Errno::INVAL)
    }

    /// Returns the name that starts at a byte of the body and ends with a zero.
    pub fn name(&self, at: usize) -> Result<&'a [u8], Errno> {
        let rest = self.body.get(at..).ok_or(Errno::INVAL)?;
        let end = rest.iter().position(|&byte| byte == 0);
        Ok(&rest[..end.ok_or(Errno::INVAL)?])
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
