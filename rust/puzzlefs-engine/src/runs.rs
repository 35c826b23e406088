//! The digests of parts of blobs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use puzzlefs_core::digest::sha256;
use puzzlefs_core::tables::{COMPRESSED, ChunkRow, VerityRow};
use puzzlefs_core::{Digest, Error, Result};

use crate::blob::Verify;
use crate::blobs::Blobs;
use crate::part::{Decoded, Stored};

/// Returns the SHA-256 of each run of bytes of the blobs in `directory`, which are checked on the way.
///
/// Runs of one blob must be neighbours, best by offset, and each blob is read by one of `jobs` threads.
/// Fails with `Blob`, or `Contradiction` for a run of a blob that there is not.
pub fn digest_runs(
    directory: &[u8],
    blobs: &[VerityRow],
    runs: &[ChunkRow],
    jobs: usize,
) -> Result<Vec<Digest>> {
    let blobs = Blobs::new(blobs, directory, Verify::Once);
    let groups: Vec<&[ChunkRow]> = runs.chunk_by(|one, other| one.blob == other.blob).collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; groups.len()]);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(runs) = groups.get(number) else {
                return;
            };
            let digests = digest_blob(&blobs, runs);
            results.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(digests);
        }
    };
    thread::scope(|scope| {
        for _ in 1..jobs.min(groups.len()) {
            // One thread is enough where the system has no room for more.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut digests = Vec::with_capacity(runs.len());
    for result in results {
        digests.extend(result.ok_or(Error::Cancelled)??);
    }
    Ok(digests)
}

fn digest_blob(blobs: &Blobs, runs: &[ChunkRow]) -> Result<Vec<Digest>> {
    let mut decoded = Decoded::default();
    let mut bytes = Vec::new();
    let digest = |run: &ChunkRow| {
        bytes.clear();
        let stored = Stored {
            blob: run.blob,
            is_compressed: run.flags & COMPRESSED != 0,
            is_own: false,
            offset: run.offset,
            length: run.length,
        };
        decoded.append(blobs, stored, &mut bytes)?;
        Ok(sha256(&bytes))
    };
    runs.iter().map(digest).collect()
}
