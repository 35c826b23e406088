//! Stable storage.

use std::os::fd::BorrowedFd;

use puzzlefs_core::{Error, Result};

/// Brings all that was written to a file's filesystem to stable storage.
pub fn sync_filesystem(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::syncfs(file).map_err(|errno| Error::Os(errno.raw_os_error()))
}
