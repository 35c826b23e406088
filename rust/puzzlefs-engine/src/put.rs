//! Atomic storing of blobs: a blob gets its name only when it is whole.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use puzzlefs_core::digest::Hex;
use puzzlefs_core::tables::BlobRow;
use puzzlefs_core::{Digest, Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

/// The directories into which blobs are put.
pub struct BlobDirectory {
    path: Vec<u8>,
    blobs: OwnedFd,
    temporary: OwnedFd,
    sync: bool,
    serial: AtomicU64,
}

impl BlobDirectory {
    /// Opens the directory of the blobs and one on the same filesystem for unfinished ones. With
    /// `sync` each blob is on stable storage before it gets its name.
    pub fn open(blobs: &[u8], temporary: &[u8], sync: bool) -> Result<Self> {
        Ok(Self {
            path: blobs.to_vec(),
            blobs: open_directory(blobs)?,
            temporary: open_directory(temporary)?,
            sync,
            serial: AtomicU64::new(0),
        })
    }

    /// Stores a blob, given in pieces, under its digest; returns whether it is new.
    ///
    /// A file of that name and size is kept as it is; one of another size, which a crash or another
    /// program left, is replaced.
    pub fn put(&self, digest: &Digest, pieces: &[&[u8]]) -> Result<bool> {
        let name = Hex(digest).to_string();
        self.put_named(&name, pieces).map_err(|errno| {
            let path = [self.path.as_slice(), b"/", name.as_bytes()].concat();
            Error::Store {
                path,
                errno: errno.raw_os_error(),
            }
        })
    }

    /// Tells whether a file of the blob's name and size is there.
    pub fn holds(&self, blob: &BlobRow) -> bool {
        self.has(&Hex(&blob.digest).to_string(), blob.size) == Ok(true)
    }

    fn put_named(&self, name: &str, pieces: &[&[u8]]) -> rustix::io::Result<bool> {
        let size: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.has(name, size as u64)? {
            return Ok(false);
        }
        let mut unfinished = String::with_capacity(48);
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        // Writing to a string does not fail.
        let _ = write!(unfinished, "{}-{serial}", std::process::id());
        let result = self
            .write(&unfinished, pieces)
            .and_then(|()| rustix::fs::renameat(&self.temporary, &unfinished, &self.blobs, name));
        if result.is_err() {
            // The first error is the one that matters.
            let _ = rustix::fs::unlinkat(&self.temporary, &unfinished, AtFlags::empty());
        }
        result.map(|()| true)
    }

    fn has(&self, name: &str, size: u64) -> rustix::io::Result<bool> {
        match rustix::fs::statat(&self.blobs, name, AtFlags::empty()) {
            Ok(stat) => {
                let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                Ok(regular && u64::try_from(stat.st_size) == Ok(size))
            }
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn write(&self, name: &str, pieces: &[&[u8]]) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.temporary, name, flags, Mode::from_raw_mode(0o644))?;
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let written = retry_on_intr(|| rustix::io::write(&file, rest))?;
                rest = rest
                    .get(written..)
                    .filter(|_| written > 0)
                    .ok_or(Errno::IO)?;
            }
        }
        if self.sync {
            retry_on_intr(|| rustix::fs::fsync(&file))?;
        }
        Ok(())
    }
}

fn open_directory(path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(
        CWD,
        Path::new(OsStr::from_bytes(path)),
        flags,
        Mode::empty(),
    )
    .map_err(|errno| Error::Store {
        path: path.to_vec(),
        errno: errno.raw_os_error(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use puzzlefs_core::digest::sha256;
    use std::fs;

    fn directory() -> (tempfile::TempDir, BlobDirectory) {
        let home = tempfile::tempdir().unwrap();
        for name in ["blobs", "temporary"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        let path = |name: &str| home.path().join(name).into_os_string().into_encoded_bytes();
        let opened = BlobDirectory::open(&path("blobs"), &path("temporary"), true).unwrap();
        (home, opened)
    }

    fn listing(home: &tempfile::TempDir, name: &str) -> usize {
        fs::read_dir(home.path().join(name)).unwrap().count()
    }

    #[test]
    fn stores_once_and_replaces_what_has_another_size() {
        let (home, blobs) = directory();
        let digest = sha256(b"content");
        let path = home.path().join("blobs").join(Hex(&digest).to_string());
        assert_eq!(blobs.put(&digest, &[b"con", b"tent"]), Ok(true));
        assert_eq!(blobs.put(&digest, &[b"content"]), Ok(false));
        fs::write(&path, b"cont").unwrap();
        assert_eq!(blobs.put(&digest, &[b"con", b"tent"]), Ok(true));
        assert_eq!(fs::read(&path).unwrap(), b"content");
        assert_eq!(listing(&home, "temporary"), 0);
    }

    #[test]
    fn a_failure_names_the_blob_and_leaves_nothing() {
        let (home, blobs) = directory();
        let digest = sha256(b"content");
        let path = home.path().join("blobs").join(Hex(&digest).to_string());
        fs::create_dir(&path).unwrap();
        let errno = Errno::ISDIR.raw_os_error();
        let path = path.into_os_string().into_encoded_bytes();
        assert_eq!(
            blobs.put(&digest, &[b"content"]),
            Err(Error::Store { path, errno })
        );
        assert_eq!(listing(&home, "temporary"), 0);
    }
}
