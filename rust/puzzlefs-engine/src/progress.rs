//! What the threads of a build tell each other and whoever watches: counters, and when to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use puzzlefs_core::{Error, Result};

/// Counters of a build and its reasons to stop.
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
    chunks: AtomicU64,
    distinct: AtomicU64,
    repeated: AtomicU64,
    written: AtomicU64,
    cancelled: AtomicBool,
    /// The lowest number of a chunk that could not be stored: nothing after it matters.
    failed: AtomicUsize,
}

impl Progress {
    /// Starts at zero.
    pub fn new() -> Self {
        Self {
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            distinct: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            written: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            failed: AtomicUsize::new(usize::MAX),
        }
    }

    /// Returns (files read, bytes read, chunks cut, bytes in repeated chunks, bytes written, distinct
    /// chunks).
    pub fn counters(&self) -> [u64; 6] {
        [
            &self.files,
            &self.bytes,
            &self.chunks,
            &self.repeated,
            &self.written,
            &self.distinct,
        ]
        .map(|counter| counter.load(Relaxed))
    }

    /// Starts again at zero, unless cancelled.
    pub fn restart(&self) {
        let counters = [
            &self.files,
            &self.bytes,
            &self.chunks,
            &self.distinct,
            &self.repeated,
            &self.written,
        ];
        for counter in counters {
            counter.store(0, Relaxed);
        }
        self.failed.store(usize::MAX, Relaxed);
    }

    /// Makes every thread stop soon.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    /// Notes that a chunk could not be stored; chunks before it are still worth the work, because
    /// the first error in stream order is the one that is told.
    pub fn fail(&self, chunk: usize) {
        self.failed.fetch_min(chunk, Relaxed);
    }

    /// Fails where work on this chunk is no longer wanted.
    pub fn check(&self, chunk: usize) -> Result<()> {
        let wanted = !self.cancelled.load(Relaxed) && chunk <= self.failed.load(Relaxed);
        if wanted {
            Ok(())
        } else {
            Err(Error::Cancelled)
        }
    }

    /// Notes how many files and bytes of the stream are read, or need not be.
    pub fn reach(&self, files: usize, bytes: u64) {
        self.files.fetch_max(files as u64, Relaxed);
        self.bytes.fetch_max(bytes, Relaxed);
    }

    /// Counts a chunk.
    pub fn chunk_cut(&self) {
        self.chunks.fetch_add(1, Relaxed);
    }

    /// Counts a chunk that did not come before.
    pub fn chunk_new(&self) {
        self.distinct.fetch_add(1, Relaxed);
    }

    /// Counts the bytes of a chunk that came before.
    pub fn bytes_repeated(&self, count: usize) {
        self.repeated.fetch_add(count as u64, Relaxed);
    }

    /// Counts the bytes of a new blob.
    pub fn bytes_written(&self, count: usize) {
        self.written.fetch_add(count as u64, Relaxed);
    }
}
