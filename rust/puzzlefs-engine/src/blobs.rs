//! The blobs of one image: which are open, which were found good, which bad.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use puzzlefs_core::tables::VerityRow;
use puzzlefs_core::{BlobFault, Digest, Error};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::blob::{Blob, Proof, Result, Verify};
use crate::lru::Lru;
use crate::waiting;

/// Blobs that are kept open.
const OPEN_LIMIT: usize = 512;

/// The blobs of one image, by their row in the index's table.
pub struct Blobs {
    /// The directory; the error of opening it is every blob's own.
    directory: std::result::Result<OwnedFd, Errno>,
    verify: Verify,
    slots: Vec<Slot>,
    open: Mutex<Lru<u32, Arc<Blob>>>,
}

struct Slot {
    digest: Digest,
    verity: Digest,
    knowledge: Mutex<Knowledge>,
}

/// What was found out about a blob; it outlives the open file.
enum Knowledge {
    Nothing,
    Good(Arc<Proof>),
    Bad,
}

impl Blobs {
    /// Takes the directory that holds the blobs, named by hex digest; links are followed.
    pub fn new(rows: &[VerityRow], directory: &[u8], verify: Verify) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = Path::new(OsStr::from_bytes(directory));
        let slot = |row: &VerityRow| Slot {
            digest: row.digest,
            verity: row.verity,
            knowledge: Mutex::new(Knowledge::Nothing),
        };
        Self {
            directory: rustix::fs::openat(CWD, path, flags, Mode::empty()),
            verify,
            slots: rows.iter().map(slot).collect(),
            open: Mutex::new(Lru::new(OPEN_LIMIT)),
        }
    }

    /// Does `work` with an open, checked blob; a fault becomes an error that names the blob.
    ///
    /// A blob whose content was once wrong is bad from then on: its bytes are not tried again.
    pub fn with<T>(
        &self,
        row: u32,
        work: impl FnOnce(&Blob) -> Result<T>,
    ) -> puzzlefs_core::Result<T> {
        let slot = self
            .slots
            .get(row as usize)
            .ok_or(Error::Contradiction("no such blob"))?;
        let result = self.get(row, slot).and_then(|blob| work(&blob));
        result.map_err(|fault| {
            if fault == BlobFault::WrongContent {
                *lock(&slot.knowledge) = Knowledge::Bad;
                let closed = lock(&self.open).remove(row);
                drop(closed);
            }
            Error::Blob {
                digest: slot.digest,
                fault,
            }
        })
    }

    fn get(&self, row: u32, slot: &Slot) -> Result<Arc<Blob>> {
        if let Some(blob) = lock(&self.open).get(row) {
            return Ok(blob);
        }
        // Held while the blob is hashed, so that threads that want the same blob hash it once.
        let mut knowledge = slot.knowledge.try_lock().unwrap_or_else(|_| {
            waiting::expect();
            lock(&slot.knowledge)
        });
        let proof = match &*knowledge {
            Knowledge::Bad => return Err(BlobFault::WrongContent),
            Knowledge::Good(proof) => Some(Arc::clone(proof)),
            Knowledge::Nothing => None,
        };
        if let Some(blob) = lock(&self.open).get(row) {
            return Ok(blob);
        }
        let directory = self.directory.as_ref().map_err(|errno| match *errno {
            Errno::NOENT => BlobFault::Missing,
            errno => BlobFault::CannotBeRead(errno.raw_os_error()),
        })?;
        let (blob, proof) = Blob::open(
            directory.as_fd(),
            &slot.digest,
            &slot.verity,
            self.verify,
            proof,
        )?;
        if let Some(proof) = proof {
            *knowledge = Knowledge::Good(proof);
        }
        let blob = Arc::new(blob);
        let closed = lock(&self.open).insert(row, Arc::clone(&blob), 1);
        drop(closed);
        Ok(blob)
    }
}

/// Locks; a thread that panicked while it held the lock left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
