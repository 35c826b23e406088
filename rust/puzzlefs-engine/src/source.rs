//! Files of a root filesystem: opened beneath it without following a link, and checked for change.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use puzzlefs_core::tables::SourceRow;
use puzzlefs_core::{Error, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use crate::status::Status;

/// Bytes of a path that one system call takes; the kernel's limit is 4,096 with the final NUL.
const PIECE: usize = 4000;
/// How often an open is tried again when a rename elsewhere disturbed it.
const ATTEMPTS: usize = 16;

/// Returns a time in nanoseconds since the epoch, modulo 2^64: times beyond the year 2262 still differ.
pub(crate) fn nanoseconds(seconds: i64, rest: u64) -> i64 {
    seconds
        .wrapping_mul(1_000_000_000)
        .wrapping_add(rest as i64)
}

/// Tells whether an open file is still the regular file that was scanned.
fn is_unchanged(file: BorrowedFd<'_>, row: &SourceRow) -> rustix::io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    Ok(
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && u64::try_from(stat.st_size) == Ok(row.size)
            && stat.st_dev as u64 == row.device
            && stat.st_ino as u64 == row.inode
            && nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as u64) == row.mtime
            && nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as u64) == row.ctime,
    )
}

/// The root filesystem of a build.
pub struct SourceRoot {
    root: OwnedFd,
    /// Whether the kernel resolves paths under our conditions (openat2, Linux 5.6).
    resolves: bool,
}

/// A file of the root filesystem that is being read.
pub struct SourceFile<'a> {
    path: &'a [u8],
    row: SourceRow,
    file: OwnedFd,
}

impl SourceRoot {
    /// Opens the root directory; links in `path` itself are followed.
    pub fn open(path: &[u8]) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(
            CWD,
            Path::new(OsStr::from_bytes(path)),
            flags,
            Mode::empty(),
        )
        .map_err(|errno| source_error(b".", errno))?;
        let resolves = resolve(root.as_fd(), b".", flags).is_ok();
        Ok(Self { root, resolves })
    }

    /// Opens a file, which must be what `row` says, to be read from `offset` on.
    pub fn file<'a>(&self, path: &'a [u8], row: SourceRow, offset: u64) -> Result<SourceFile<'a>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Only a file's owner may leave its access time alone.
        let file = self
            .walk(path, flags | OFlags::NOATIME)
            .or_else(|errno| {
                if errno == Errno::PERM {
                    self.walk(path, flags)
                } else {
                    Err(errno)
                }
            })
            .map_err(|errno| source_error(path, errno))?;
        let file = SourceFile { path, row, file };
        file.check()?;
        if offset > 0 {
            rustix::fs::seek(&file.file, SeekFrom::Start(offset))
                .map_err(|errno| source_error(path, errno))?;
        }
        Ok(file)
    }

    /// Opens a directory to be listed, the root by an empty path; no component of it may be a link.
    pub(crate) fn directory(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.opened(path, OFlags::RDONLY)
    }

    /// Opens a directory to look up its entries, as [`SourceRoot::directory`] does.
    pub(crate) fn place(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.opened(path, OFlags::PATH)
    }

    fn opened(&self, path: &[u8], access: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if path.is_empty() {
            return rustix::fs::openat(&self.root, ".", flags, Mode::empty());
        }
        self.walk(path, flags)
    }

    /// Returns what the system says of the root.
    pub(crate) fn status(&self) -> rustix::io::Result<Status> {
        Status::of(&self.root)
    }

    fn walk(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let step = if self.resolves { resolve } else { open_child };
        let mut rest = path;
        let mut directory: Option<OwnedFd> = None;
        loop {
            let at = directory.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            let Some((piece, after)) = self.split(rest)? else {
                return step(at, rest, flags);
            };
            let next = step(
                at,
                piece,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            )?;
            directory = Some(next);
            rest = after;
        }
    }

    /// Splits a path into what one call can take and the rest; `None` when one call can take all.
    fn split<'a>(&self, path: &'a [u8]) -> rustix::io::Result<Option<(&'a [u8], &'a [u8])>> {
        let slash = if !self.resolves {
            path.iter().position(|&byte| byte == b'/')
        } else if path.len() > PIECE {
            let last = path[..PIECE].iter().rposition(|&byte| byte == b'/');
            Some(last.ok_or(Errno::NAMETOOLONG)?)
        } else {
            None
        };
        Ok(slash.map(|at| (&path[..at], &path[at + 1..])))
    }
}

impl SourceFile<'_> {
    /// Reads the next bytes into `buffer`; returns how many, at least one.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        match retry_on_intr(|| rustix::io::read(&self.file, &mut *buffer)) {
            Ok(0) => Err(self.was_changed()),
            Ok(count) => Ok(count),
            Err(errno) => Err(source_error(self.path, errno)),
        }
    }

    /// Fails unless the file is still what its row says.
    pub fn check(&self) -> Result<()> {
        match is_unchanged(self.file.as_fd(), &self.row) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.was_changed()),
            Err(errno) => Err(source_error(self.path, errno)),
        }
    }

    fn was_changed(&self) -> Error {
        Error::SourceChanged {
            path: self.path.to_vec(),
        }
    }
}

/// Opens a path beneath `at`, no component of it a link.
fn resolve(at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let conditions = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        result = retry_on_intr(|| rustix::fs::openat2(at, path, flags, Mode::empty(), conditions));
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    result
}

/// Opens one entry of the directory `at`, for kernels that cannot [`resolve`].
fn open_child(at: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    if matches!(name, b"" | b"." | b"..") {
        return Err(Errno::INVAL);
    }
    retry_on_intr(|| rustix::fs::openat(at, name, flags, Mode::empty()))
}

pub(crate) fn source_error(path: &[u8], errno: Errno) -> Error {
    Error::Source {
        path: path.to_vec(),
        errno: errno.raw_os_error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    fn row(path: &Path) -> SourceRow {
        let stat = fs::metadata(path).unwrap();
        SourceRow {
            size: stat.size(),
            device: stat.dev(),
            inode: stat.ino(),
            mtime: stat.mtime() * 1_000_000_000 + stat.mtime_nsec(),
            ctime: stat.ctime() * 1_000_000_000 + stat.ctime_nsec(),
        }
    }

    fn root(path: &Path, resolves: bool) -> SourceRoot {
        let opened = SourceRoot::open(path.as_os_str().as_bytes()).unwrap();
        SourceRoot { resolves, ..opened }
    }

    #[test]
    fn reads_beneath_the_root_and_follows_no_link() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("a/b")).unwrap();
        fs::write(home.path().join("a/b/file"), b"content").unwrap();
        symlink("a", home.path().join("link")).unwrap();
        symlink("a/b/file", home.path().join("file")).unwrap();
        let row = row(&home.path().join("a/b/file"));
        for resolves in [false, true] {
            let root = root(home.path(), resolves);
            let mut buffer = [0; 16];
            let file = root.file(b"a/b/file", row, 0).unwrap();
            assert_eq!(file.read(&mut buffer), Ok(7));
            assert_eq!(&buffer[..7], b"content");
            for bad in ["link/b/file", "file", "../x", "a/missing", ""] {
                let error = root.file(bad.as_bytes(), row, 0).err();
                assert!(
                    matches!(error, Some(Error::Source { .. })),
                    "{bad}: {error:?}"
                );
            }
        }
    }

    #[test]
    fn a_path_may_be_longer_than_the_kernel_takes() {
        let home = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut at = rustix::fs::openat(CWD, home.path(), OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, &name, OFlags::PATH, Mode::empty()).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = rustix::fs::openat(&at, "f", flags, Mode::from_raw_mode(0o644)).unwrap();
        let row = row(Path::new(&format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&file)
        )));
        let path = [format!("{name}/").repeat(30), "f".into()].concat();
        for resolves in [false, true] {
            assert!(
                root(home.path(), resolves)
                    .file(path.as_bytes(), row, 0)
                    .is_ok()
            );
        }
    }

    #[test]
    fn any_change_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, b"content").unwrap();
        let before = row(&path);
        let root = root(home.path(), true);
        let wrong = [
            SourceRow { size: 8, ..before },
            SourceRow {
                device: before.device + 1,
                ..before
            },
            SourceRow {
                inode: before.inode + 1,
                ..before
            },
            SourceRow {
                mtime: before.mtime + 1,
                ..before
            },
            SourceRow {
                ctime: before.ctime + 1,
                ..before
            },
        ];
        let changed = Some(Error::SourceChanged {
            path: b"file".to_vec(),
        });
        for row in wrong {
            assert_eq!(root.file(b"file", row, 0).err(), changed);
        }
        let file = root.file(b"file", before, 0).unwrap();
        fs::write(&path, b"cont").unwrap();
        assert_eq!(file.read(&mut [0; 16]), Ok(4));
        assert_eq!(file.read(&mut [0; 16]).err(), changed);
        assert_eq!(file.check().err(), changed);
    }
}
