//! Giving a new inode what its image says of it, in the order that works.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use puzzlefs_core::index::{Index, Stat};
use puzzlefs_core::metadata::Kind;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::{Errno, Result};

/// Attributes that a change of the mode changes too.
const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// What could not be given to an inode, an attribute's key or `owner`, `mode`, `times`, and why.
pub(crate) type Refusal = (Vec<u8>, Errno);

/// An inode whose properties are set.
pub(crate) enum Target<'a> {
    /// A file or directory that is open.
    Open(BorrowedFd<'a>),
    /// Anything else, by the path in /proc that leads to this very inode.
    Path(&'a str),
}

/// Sets an inode's properties. What the system refuses is no error, but noted in `refused`.
pub(crate) fn restore(
    index: &Index,
    stat: &Stat,
    target: &Target<'_>,
    same_owner: bool,
    refused: &mut Vec<Refusal>,
) -> Result<()> {
    // Owner first, for a new one costs setuid bits and capabilities.
    if same_owner {
        attempt(refused, "owner", target.set_owner(stat.uid, stat.gid))?;
    }
    let xattrs = |lists: bool| {
        let xattrs = index.has_xattrs().then(|| index.xattrs(stat.ino).ok());
        let all = xattrs.flatten().into_iter().flatten();
        all.filter(move |(key, _)| ACCESS_LISTS.contains(key) == lists)
    };
    // Attributes while the owner may write; lists after the mode, which would change them.
    target.set_xattrs(xattrs(false), refused);
    if stat.kind != Kind::Lnk {
        let mode = Mode::from_raw_mode(u32::from(stat.permissions));
        attempt(refused, "mode", target.set_mode(mode))?;
    }
    target.set_xattrs(xattrs(true), refused);
    attempt(refused, "times", target.set_times(stat))
}

/// Sets the properties of a link, device, pipe or socket just made in `directory`. It is never opened
/// for reading or writing, nor followed.
pub(crate) fn restore_named(
    index: &Index,
    stat: &Stat,
    (directory, name): (&OwnedFd, &[u8]),
    same_owner: bool,
    refused: &mut Vec<Refusal>,
) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inode = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let found = FileType::from_raw_mode(rustix::fs::fstat(inode.as_fd())?.st_mode);
    if found != file_type(stat.kind) {
        return Err(Errno::EXIST);
    }
    let path = format!("/proc/self/fd/{}", inode.as_raw_fd());
    restore(index, stat, &Target::Path(&path), same_owner, refused)
}

/// Returns the system's type of a kind of inode that is no directory.
pub(crate) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Fifo => FileType::Fifo,
        Kind::Chr => FileType::CharacterDevice,
        Kind::Blk => FileType::BlockDevice,
        Kind::Lnk => FileType::Symlink,
        Kind::Sock => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

/// Notes a refusal for lack of privilege, or of a number for the owner in this namespace.
fn attempt(refused: &mut Vec<Refusal>, what: &str, result: Result<()>) -> Result<()> {
    match result {
        Err(errno @ (Errno::PERM | Errno::INVAL)) => {
            refused.push((what.as_bytes().to_vec(), errno));
            Ok(())
        }
        other => other,
    }
}

impl Target<'_> {
    fn set_owner(&self, uid: u32, gid: u32) -> Result<()> {
        // The highest number means "as it is" to the system.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Open(file) => rustix::fs::fchown(file, uid, gid),
            Self::Path(path) => rustix::fs::chownat(CWD, *path, uid, gid, AtFlags::empty()),
        }
    }

    fn set_mode(&self, mode: Mode) -> Result<()> {
        match self {
            Self::Open(file) => rustix::fs::fchmod(file, mode),
            Self::Path(path) => rustix::fs::chmod(*path, mode),
        }
    }

    fn set_times(&self, stat: &Stat) -> Result<()> {
        let time = Timespec {
            tv_sec: stat.mtime_sec,
            tv_nsec: stat.mtime_nsec.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        match self {
            Self::Open(file) => rustix::fs::futimens(file, &times),
            Self::Path(path) => rustix::fs::utimensat(CWD, *path, &times, AtFlags::empty()),
        }
    }

    /// Sets attributes; which a filesystem takes, and how many, is its own affair.
    fn set_xattrs<'x>(
        &self,
        xattrs: impl Iterator<Item = (&'x [u8], &'x [u8])>,
        refused: &mut Vec<Refusal>,
    ) {
        for (key, value) in xattrs {
            let result = match self {
                Self::Open(file) => rustix::fs::fsetxattr(file, key, value, XattrFlags::empty()),
                Self::Path(path) => rustix::fs::setxattr(*path, key, value, XattrFlags::empty()),
            };
            if let Err(errno) = result {
                refused.push((key.to_vec(), errno));
            }
        }
    }
}
