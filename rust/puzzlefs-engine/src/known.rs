//! What an earlier build says of chunks: a trace, as far as the store still has its blobs.

use std::collections::HashMap;

use puzzlefs_core::Digest;
use puzzlefs_core::tables::{BlobRow, ContentRow, VerityRow};

use crate::packer::OFFERED;
use crate::put::BlobDirectory;
use crate::trace::Trace;

/// The trace of an earlier build, checked against the store.
pub struct Known {
    trace: Trace,
    /// Whether the store has a blob, by its row.
    stored: Vec<bool>,
    /// Rows of the chunks in these, by their SHA-256.
    rows: HashMap<Digest, u32>,
    /// Rows of all chunks by blob and offset, and for each row its place there.
    order: Vec<u32>,
    places: Vec<u32>,
    /// Whether the earlier build made a blob, whose chunks are then all that is in it, by its row.
    whole: Vec<bool>,
}

impl Known {
    /// Looks for every blob of the trace once.
    pub fn new(trace: Trace, directory: &BlobDirectory) -> Self {
        let stored: Vec<bool> = trace.blobs.iter().map(|row| directory.holds(row)).collect();
        let rows = (0..).zip(&trace.chunks);
        let rows = rows.filter(|(_, chunk)| stored[chunk.blob as usize]);
        let rows = rows.map(|(row, chunk)| (chunk.content, row)).collect();
        let mut order: Vec<u32> = (0..trace.chunks.len() as u32).collect();
        order.sort_unstable_by_key(|&row| {
            let chunk = &trace.chunks[row as usize];
            (chunk.blob, chunk.offset)
        });
        let mut places = vec![0; order.len()];
        for (place, &row) in (0..).zip(&order) {
            places[row as usize] = place;
        }
        let whole = whole(&trace, &order);
        Self {
            trace,
            stored,
            rows,
            order,
            places,
            whole,
        }
    }

    /// The trace, missing blobs included.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The digests of all blobs of the trace.
    pub fn digests(&self) -> Vec<VerityRow> {
        let digests = |blob: &BlobRow| VerityRow {
            digest: blob.digest,
            verity: blob.verity,
        };
        self.trace.blobs.iter().map(digests).collect()
    }

    /// Returns a chunk of the earlier stream, if its blob is stored.
    pub fn chunk(&self, number: usize) -> Option<&ContentRow> {
        let row = *self.trace.stream.get(number)?;
        let chunk = self.trace.chunks.get(row as usize)?;
        self.stored[chunk.blob as usize].then_some(chunk)
    }

    /// Returns a chunk by its SHA-256, if its blob is stored.
    pub fn find(&self, content: &Digest) -> Option<&ContentRow> {
        self.trace.chunks.get(*self.rows.get(content)? as usize)
    }

    /// Returns the place of a chunk among those of all blobs, if a stored blob begins with it and holds
    /// nothing but chunks.
    pub fn begin(&self, content: &Digest) -> Option<usize> {
        let row = *self.rows.get(content)? as usize;
        let chunk = self.trace.chunks[row];
        (chunk.offset == 0 && self.whole[chunk.blob as usize]).then_some(self.places[row] as usize)
    }

    /// Returns the chunk at a place.
    pub fn at(&self, place: usize) -> Option<&ContentRow> {
        self.trace.chunks.get(*self.order.get(place)? as usize)
    }

    /// Returns the blob whose last chunk is before `place`.
    pub fn ended(&self, place: usize) -> Option<&BlobRow> {
        let last = self.at(place.checked_sub(1)?)?;
        let goes_on = self.at(place).is_some_and(|next| next.blob == last.blob);
        (!goes_on).then(|| &self.trace.blobs[last.blob as usize])
    }
}

/// Tells of each blob whether the build made it of its chunks, which `order` has by offset, and which
/// fill it without overlapping.
fn whole(trace: &Trace, order: &[u32]) -> Vec<bool> {
    let mut ends = vec![Some(0_u64); trace.blobs.len()];
    for &row in order {
        let chunk = &trace.chunks[row as usize];
        let end = &mut ends[chunk.blob as usize];
        *end = end
            .filter(|&end| end == chunk.offset)
            .map(|end| end + u64::from(chunk.length));
    }
    let filled = ends.iter().zip(&trace.blobs);
    filled
        .map(|(end, blob)| *end == Some(blob.raw_size) && blob.reserved != OFFERED)
        .collect()
}
