//! The last stage of a build: what the workers did, put together in stream order.

use puzzlefs_core::tables::{BlobRow, ChunkRow};
use puzzlefs_core::{Digest, Error, Result};

use crate::worker::Ledger;

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
/// trace, and the digest of the chunk in each blob.
///
/// `cut` holds the lengths of all chunks, or why they are not all; `sizes` those of the files.
pub fn assemble(
    ledger: &Ledger,
    cut: Result<Vec<u32>>,
    sizes: impl IntoIterator<Item = u64>,
) -> Result<(Stored, Vec<Digest>)> {
    let mut stored = Stored::default();
    let mut places = vec![None; ledger.slots()];
    while let Some((slot, result)) = ledger.outcome(stored.stream.len()) {
        let blob = result.as_ref().map_err(Clone::clone)?;
        let row = *places[slot].get_or_insert(stored.blobs.len() as u32);
        if row as usize == stored.blobs.len() {
            stored.blobs.push(*blob);
        }
        stored.stream.push(row);
    }
    let lengths = cut?;
    if stored.stream.len() < lengths.len() {
        return Err(Error::Cancelled);
    }
    stored.divide(&lengths, sizes);
    let mut contents = vec![Digest::default(); stored.blobs.len()];
    for (digest, slot) in ledger.contents() {
        if let Some(row) = places[slot] {
            contents[row as usize] = *digest;
        }
    }
    Ok((stored, contents))
}

impl Stored {
    /// Divides the chunks of the stream among the files, whose sizes add up to theirs.
    fn divide(&mut self, lengths: &[u32], sizes: impl IntoIterator<Item = u64>) {
        let mut chunks = self.stream.iter().zip(lengths);
        let (mut blob, mut length, mut offset) = (0, 0, 0);
        for size in sizes {
            let first = self.chunks.len();
            let mut left = size;
            while left > 0 {
                if offset == length {
                    let Some((row, next)) = chunks.next() else {
                        break;
                    };
                    (blob, length, offset) = (*row, u64::from(*next), 0);
                }
                let taken = left.min(length - offset);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_no_worker_took_mean_that_the_build_was_cancelled() {
        let ledger = Ledger::default();
        assert_eq!(assemble(&ledger, Ok(vec![9]), []), Err(Error::Cancelled));
        let nothing = (Stored::default(), vec![]);
        assert_eq!(assemble(&ledger, Ok(vec![]), []), Ok(nothing));
        assert_eq!(assemble(&ledger, Err(Error::Os(5)), []), Err(Error::Os(5)));
    }
}
