//! Where in blobs a range of a file lies.

use crate::tables::{COMPRESSED, ChunkRow};

/// A part of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRange {
    /// Row of the image's blob table.
    pub blob: u32,
    /// Whether the blob's bytes are Zstandard frames.
    pub compressed: bool,
    /// Where the part starts, in uncompressed bytes of the blob.
    pub offset: u64,
    /// Bytes in the part, at least 1.
    pub length: u64,
}

/// A file's chunks, and where in the file each of them ends.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    chunks: &'a [ChunkRow],
    /// Running sums of the chunks' lengths, one for each.
    ends: &'a [u64],
}

impl<'a> Layout<'a> {
    /// `ends` holds the running sums of the lengths of `chunks`.
    pub fn new(chunks: &'a [ChunkRow], ends: &'a [u64]) -> Self {
        Self { chunks, ends }
    }

    /// Returns the file's chunks.
    pub fn chunks(&self) -> &'a [ChunkRow] {
        self.chunks
    }

    /// Returns the file's size in bytes.
    pub fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns the parts of blobs that hold up to `size` bytes of the file from `offset`, in order:
    /// all of those bytes that the file has.
    pub fn ranges(&self, offset: u64, size: u64) -> Ranges<'a> {
        let end = offset.saturating_add(size).min(self.size());
        let first = self.ends.partition_point(|&end| end <= offset);
        Ranges {
            layout: *self,
            next: first,
            position: offset,
            end,
        }
    }
}

/// Iterator over the parts of blobs that hold a range of a file.
#[derive(Clone, Debug)]
pub struct Ranges<'a> {
    layout: Layout<'a>,
    /// Row of the next chunk.
    next: usize,
    /// Where in the file the next part starts.
    position: u64,
    end: u64,
}

impl Iterator for Ranges<'_> {
    type Item = BlobRange;

    fn next(&mut self) -> Option<BlobRange> {
        while self.position < self.end {
            let chunk = self.layout.chunks.get(self.next)?;
            let chunk_end = *self.layout.ends.get(self.next)?;
            self.next += 1;
            let stop = chunk_end.min(self.end);
            // A chunk of no bytes gives no part.
            let Some(length) = stop.checked_sub(self.position).filter(|&length| length > 0) else {
                continue;
            };
            let before = chunk_end.checked_sub(chunk.length)?;
            let offset = chunk
                .offset
                .checked_add(self.position.checked_sub(before)?)?;
            self.position = stop;
            let compressed = chunk.flags & COMPRESSED != 0;
            return Some(BlobRange {
                blob: chunk.blob,
                compressed,
                offset,
                length,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn chunk(blob: u32, offset: u64, length: u64) -> ChunkRow {
        ChunkRow {
            blob,
            flags: blob & COMPRESSED,
            offset,
            length,
        }
    }

    /// Bytes of a file as (blob, position in the blob), one for each.
    fn bytes(ranges: Ranges<'_>) -> Vec<(u32, u64)> {
        let each =
            |range: BlobRange| (0..range.length).map(move |at| (range.blob, range.offset + at));
        ranges.flat_map(each).collect()
    }

    #[test]
    fn every_range_of_a_file() {
        let chunks = [
            chunk(0, 5, 3),
            chunk(1, 0, 0),
            chunk(1, 7, 1),
            chunk(2, 0, 4),
            chunk(3, 9, 0),
        ];
        let ends = [3, 3, 4, 8, 8];
        let layout = Layout::new(&chunks, &ends);
        let whole = bytes(layout.ranges(0, u64::MAX));
        let wanted = [
            (0, 5),
            (0, 6),
            (0, 7),
            (1, 7),
            (2, 0),
            (2, 1),
            (2, 2),
            (2, 3),
        ];
        assert_eq!(whole, wanted);
        for offset in 0..10 {
            for size in 0..10 {
                let end = (offset + size).min(8);
                let part = wanted.get(offset..end).unwrap_or(&[]);
                let ranges = layout.ranges(offset as u64, size as u64);
                assert!(
                    ranges
                        .clone()
                        .all(|range| range.compressed == (range.blob == 1 || range.blob == 3))
                );
                assert_eq!(bytes(ranges), part, "{size} bytes from {offset}");
            }
        }
        assert_eq!(layout.ranges(u64::MAX, u64::MAX).next(), None);
    }

    #[test]
    fn an_empty_file_has_no_ranges() {
        let layout = Layout::new(&[], &[]);
        assert_eq!((layout.size(), layout.ranges(0, 1).next()), (0, None));
    }
}
