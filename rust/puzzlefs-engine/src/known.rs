//! What an earlier build says of chunks: a trace, as far as the store still has its blobs.

use std::collections::HashMap;

use puzzlefs_core::Digest;
use puzzlefs_core::tables::BlobRow;

use crate::put::BlobDirectory;
use crate::trace::{Trace, TraceBlob};

/// The trace of an earlier build, checked against the store.
pub struct Known {
    trace: Trace,
    /// Whether the store has the blob of a row.
    stored: Vec<bool>,
    /// The rows of these, by the digest of the chunk.
    rows: HashMap<Digest, u32>,
}

impl Known {
    /// Looks for every blob of the trace once.
    pub fn new(trace: Trace, directory: &BlobDirectory) -> Self {
        let blobs = &trace.blobs;
        let stored: Vec<bool> = blobs
            .iter()
            .map(|known| directory.holds(&known.blob))
            .collect();
        let rows = (0..).zip(blobs).zip(&stored).filter(|(_, stored)| **stored);
        let rows = rows.map(|((row, known), _)| (known.content, row)).collect();
        Self {
            trace,
            stored,
            rows,
        }
    }

    /// The trace, missing blobs included.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Returns the blob of a chunk of the earlier stream, if it is stored.
    pub fn chunk(&self, number: usize) -> Option<&TraceBlob> {
        let row = *self.trace.chunks.get(number)? as usize;
        self.trace.blobs.get(row).filter(|_| self.stored[row])
    }

    /// Returns the blob of a chunk by its SHA-256, if it is stored.
    pub fn blob(&self, content: &Digest) -> Option<BlobRow> {
        let row = *self.rows.get(content)? as usize;
        Some(self.trace.blobs.get(row)?.blob)
    }
}
