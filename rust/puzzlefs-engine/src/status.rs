//! What lstat(2) says of an inode, as far as a build asks.

use std::os::fd::AsFd;

use puzzlefs_core::digest::Sha256;
use puzzlefs_core::metadata::Kind;
use puzzlefs_core::tables::SourceRow;
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use crate::source::nanoseconds;

const NANO: i64 = 1_000_000_000;

/// Names all that the system said of an inode: one that was changed has another.
pub type Identity = [u8; 16];
/// The identity of an inode that may have changed without a sign.
pub const UNKNOWN: Identity = [0; 16];

/// An inode's properties.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Device and inode number.
    pub device: u64,
    /// See above.
    pub inode: u64,
    /// Kind and permissions.
    pub mode: u32,
    /// Whether it has more than one name.
    pub is_linked: bool,
    /// Owner and group.
    pub uid: u32,
    /// See above.
    pub gid: u32,
    /// Which device a device file means.
    pub special: u64,
    /// Bytes in it.
    pub size: u64,
    /// Seconds and nanoseconds of its last modification.
    pub mtime: (i64, u32),
    /// Time of its last change, in nanoseconds modulo 2^64.
    pub ctime: i64,
}

impl Status {
    /// Asks for an entry of an open directory, following no link.
    pub fn at(directory: impl AsFd, name: &[u8]) -> rustix::io::Result<Self> {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Self::new(&stat))
    }

    /// Asks for an open file.
    pub fn of(file: impl AsFd) -> rustix::io::Result<Self> {
        rustix::fs::fstat(file).map(|stat| Self::new(&stat))
    }

    fn new(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            is_linked: stat.st_nlink > 1,
            uid: stat.st_uid,
            gid: stat.st_gid,
            special: stat.st_rdev,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Returns what kind of inode it is.
    pub fn kind(&self) -> rustix::io::Result<Kind> {
        Ok(match FileType::from_raw_mode(self.mode) {
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Chr,
            FileType::Directory => Kind::Dir,
            FileType::BlockDevice => Kind::Blk,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Lnk,
            FileType::Socket => Kind::Sock,
            FileType::Unknown => return Err(Errno::INVAL),
        })
    }

    /// Returns what the reader of a file compares.
    pub fn source(&self) -> SourceRow {
        SourceRow {
            size: self.size,
            device: self.device,
            inode: self.inode,
            mtime: nanoseconds(self.mtime.0, self.mtime.1.into()),
            ctime: self.ctime,
        }
    }

    /// Returns its identity.
    ///
    /// The system sets the time of change whenever content, attributes, or a directory's entries change.
    /// But it is no evidence from `horizon` (nanoseconds) on, see [`is_evidence`].
    pub fn identity(&self, horizon: i64) -> Identity {
        if !is_evidence(self.ctime, horizon) {
            return UNKNOWN;
        }
        let mtime = nanoseconds(self.mtime.0, self.mtime.1.into());
        // 52 bytes, which SHA-256 takes as one block.
        let mut hasher = Sha256::new();
        let mut bytes = [0; 52];
        let numbers = [self.device, self.inode, self.size ^ self.special];
        let words = numbers.into_iter().chain([mtime as u64, self.ctime as u64]);
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let words = [self.mode, self.uid, self.gid];
        for (place, word) in bytes[40..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        hasher.update(&bytes);
        let mut identity = UNKNOWN;
        identity.copy_from_slice(&hasher.finish()[..16]);
        identity
    }
}

/// Tells whether a time of change tells a changed inode.
///
/// Two kinds do not: those from `horizon` on, because a later change may fall into the same tick of the
/// clock, and whole seconds, because filesystems that make times up, or take them from an image, give such.
pub fn is_evidence(ctime: i64, horizon: i64) -> bool {
    ctime < horizon && ctime % NANO != 0
}
