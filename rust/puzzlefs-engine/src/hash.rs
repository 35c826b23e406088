//! The digests of a file on disk.

use std::os::fd::BorrowedFd;

use puzzlefs_core::{Digest, Error, Result};
use rustix::io::retry_on_intr;

use crate::hashing::BlobHasher;

/// Bytes that are read at a time.
const STEP: usize = 256 << 10;

/// Returns (size, SHA-256, fs-verity digest) of a file, read from its start by position.
pub fn hash_file(file: BorrowedFd<'_>) -> Result<(u64, Digest, Digest)> {
    let mut buffer = vec![0; STEP];
    let mut hasher = BlobHasher::new();
    let mut size = 0;
    loop {
        let count = retry_on_intr(|| rustix::io::pread(file, &mut *buffer, size))
            .map_err(|errno| Error::Os(errno.raw_os_error()))?;
        if count == 0 {
            let (sha256, verity) = hasher.finish();
            return Ok((size, sha256, verity));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}
