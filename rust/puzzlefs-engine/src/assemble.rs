//! The last stage of a build: what the workers did, put together in stream order.

use std::collections::HashMap;

use puzzlefs_core::tables::{BlobRow, ChunkRow, ContentRow};
use puzzlefs_core::{Error, Result};

use crate::packer::Packer;
use crate::trace::Trace;

/// The tables that describe what a build stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// One row for each distinct (digest, flags), in order of first use.
    pub blobs: Vec<BlobRow>,
    /// The chunks of all files, file after file.
    pub chunks: Vec<ChunkRow>,
    /// For each file, how many of those rows are its own.
    pub counts: Vec<u32>,
    /// For each chunk in stream order, repeats included, its row in `blobs`.
    pub stream: Vec<u32>,
    /// The trace of the stream, for the next build.
    pub trace: Vec<u8>,
}

/// Puts the tables together, or finds the first error in stream order. Returns them, without the
/// trace, and the distinct chunks with the rows of their blobs.
///
/// `cut` tells why not all chunks are there, if so; `sizes` are those of the files.
pub fn assemble(
    packer: Packer<'_>,
    cut: Result<()>,
    sizes: impl IntoIterator<Item = u64>,
) -> Result<(Stored, Trace)> {
    let mut stored = Stored::default();
    let mut blobs: Vec<BlobRow> = Vec::new();
    let mut numbers = HashMap::new();
    let mut places = Vec::with_capacity(packer.packs.len());
    let mut is_whole = true;
    for pack in packer.packs {
        let Some(blob) = pack.blob.transpose()? else {
            is_whole = false;
            continue;
        };
        let row = *numbers
            .entry((blob.digest, blob.flags))
            .or_insert(blobs.len() as u32);
        if row as usize == blobs.len() {
            blobs.push(blob);
        }
        places.push(row);
    }
    cut?;
    if !is_whole {
        return Err(Error::Cancelled);
    }
    let mut chunks = packer.chunks;
    for chunk in &mut chunks {
        chunk.blob = places[chunk.blob as usize];
    }
    let plain = |blob: &BlobRow| BlobRow {
        reserved: 0,
        ..*blob
    };
    stored.blobs = blobs.iter().map(plain).collect();
    stored.divide(&packer.stream, &chunks, sizes);
    let trace = Trace {
        files: Vec::new(),
        groups: Vec::new(),
        blobs,
        chunks,
        stream: packer.stream,
    };
    Ok((stored, trace))
}

impl Stored {
    /// Divides the chunks of the stream among the files, whose sizes add up to theirs.
    fn divide(
        &mut self,
        stream: &[u32],
        chunks: &[ContentRow],
        sizes: impl IntoIterator<Item = u64>,
    ) {
        let mut rest = stream.iter().map(|&row| &chunks[row as usize]);
        self.stream = rest.clone().map(|chunk| chunk.blob).collect();
        let (mut blob, mut offset, mut end) = (0, 0, 0);
        for size in sizes {
            let first = self.chunks.len();
            let mut left = size;
            while left > 0 {
                if offset == end {
                    let Some(chunk) = rest.next() else {
                        break;
                    };
                    (blob, offset) = (chunk.blob, chunk.offset);
                    end = offset + u64::from(chunk.length);
                }
                let taken = left.min(end - offset);
                let flags = self.blobs[blob as usize].flags;
                self.chunks.push(ChunkRow {
                    blob,
                    flags,
                    offset,
                    length: taken,
                });
                offset += taken;
                left -= taken;
            }
            self.counts.push((self.chunks.len() - first) as u32);
        }
    }
}
