//! Chunks in blobs of other images, which a build may refer to.

use std::collections::HashMap;

use puzzlefs_core::tables::{BlobRow, ContentRow};
use puzzlefs_core::{Digest, Error, Result};

/// Chunks by their SHA-256; of several with the same content the first counts.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    blobs: Vec<BlobRow>,
    chunks: HashMap<Digest, ContentRow>,
}

impl Offered {
    /// Takes blobs, and chunks inside them.
    pub fn new(blobs: Vec<BlobRow>, chunks: &[ContentRow]) -> Result<Self> {
        let mut offered = Self {
            blobs,
            chunks: HashMap::with_capacity(chunks.len()),
        };
        for chunk in chunks {
            let end = chunk.offset.checked_add(u64::from(chunk.length));
            let blob = offered.blobs.get(chunk.blob as usize);
            if end.zip(blob).is_none_or(|(end, blob)| end > blob.raw_size) {
                return Err(Error::Contradiction("an offered chunk is not in its blob"));
            }
            offered.chunks.entry(chunk.content).or_insert(*chunk);
        }
        Ok(offered)
    }

    /// Returns where a chunk of this SHA-256 is.
    pub fn find(&self, content: &Digest) -> Option<&ContentRow> {
        self.chunks.get(content)
    }

    /// Returns a blob by the row that a chunk names.
    pub fn blob(&self, row: u32) -> BlobRow {
        self.blobs[row as usize]
    }
}
