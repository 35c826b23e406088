//! The seek table of a compressed blob: where its frames are.

use puzzlefs_core::limits::{FRAME_COUNT_LIMIT, FRAME_SIZE_LIMIT, STORED_FRAME_LIMIT};
use puzzlefs_core::{Error, Result, Rule};

/// Bytes of the footer: frame count, descriptor, magic number.
pub const FOOTER_SIZE: usize = 9;
const HEADER_SIZE: usize = 8;
const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const CHECKSUMS: u8 = 0x80;
const RESERVED: u8 = 0x7C;

/// A parsed seek table: for each frame, and for the end, the (compressed, uncompressed) bytes before.
#[derive(Debug)]
pub struct SeekTable(Vec<(u64, u64)>);

impl SeekTable {
    /// Returns the bytes that the table takes at the end of a blob of `blob_size` bytes, its header
    /// and its footer included, from the blob's last [`FOOTER_SIZE`] bytes.
    pub fn size_of(footer: &[u8; FOOTER_SIZE], blob_size: u64) -> std::result::Result<u64, Rule> {
        let [c0, c1, c2, c3, descriptor, m0, m1, m2, m3] = *footer;
        let frames = u32::from_le_bytes([c0, c1, c2, c3]);
        let entries = u64::from(frames) * entry_size(descriptor) as u64;
        let size = entries + (HEADER_SIZE + FOOTER_SIZE) as u64;
        if u32::from_le_bytes([m0, m1, m2, m3]) != SEEKABLE_MAGIC || size > blob_size {
            return Err(Rule::SeekTableMissing);
        }
        if frames > FRAME_COUNT_LIMIT {
            return Err(Rule::TooManyFrames);
        }
        Ok(size)
    }

    /// Parses a whole table, whose length [`SeekTable::size_of`] gave, of a blob of `blob_size` bytes.
    pub fn parse(table: &[u8], blob_size: u64) -> std::result::Result<Self, Rule> {
        let (header, rest) = table
            .split_first_chunk::<HEADER_SIZE>()
            .ok_or(Rule::SeekTableMissing)?;
        let (entries, footer) = rest
            .split_last_chunk::<FOOTER_SIZE>()
            .ok_or(Rule::SeekTableMissing)?;
        let magic = word(header, 0);
        if magic != SKIPPABLE_MAGIC || word(header, 4) as usize != rest.len() {
            return Err(Rule::SeekTableMissing);
        }
        let descriptor = footer[4];
        if descriptor & RESERVED != 0 {
            return Err(Rule::SeekTableMalformed);
        }
        Self::add_up(
            entries.chunks_exact(entry_size(descriptor)),
            blob_size - table.len() as u64,
        )
    }

    /// Makes the prefix sums of all frames, which must fill the `expected` bytes before the table.
    fn add_up<'a>(
        entries: impl ExactSizeIterator<Item = &'a [u8]>,
        expected: u64,
    ) -> std::result::Result<Self, Rule> {
        let mut sums = Vec::with_capacity(entries.len() + 1);
        let (mut compressed, mut content) = (0u64, 0u64);
        let (mut largest_stored, mut largest) = (0, 0);
        sums.push((0, 0));
        for entry in entries {
            // At most 2^32 frames of less than 2^32 bytes: these sums do not overflow.
            compressed += u64::from(word(entry, 0));
            content += u64::from(word(entry, 4));
            largest_stored = largest_stored.max(word(entry, 0));
            largest = largest.max(word(entry, 4));
            sums.push((compressed, content));
        }
        if compressed != expected {
            return Err(Rule::SeekTableMismatch);
        }
        if largest as usize > FRAME_SIZE_LIMIT || largest_stored as usize > STORED_FRAME_LIMIT {
            return Err(Rule::FrameTooLarge);
        }
        Ok(Self(sums))
    }

    /// Returns the number of frames.
    pub fn frames(&self) -> usize {
        self.0.len() - 1
    }

    /// Returns the uncompressed bytes of the blob.
    pub fn content_size(&self) -> u64 {
        self.0.last().map_or(0, |end| end.1)
    }

    /// Returns the bytes of the blob before a frame. `number` is at most [`SeekTable::frames`].
    pub fn before(&self, number: usize) -> u64 {
        self.0[number].0
    }

    /// Returns the uncompressed bytes before a frame. `number` is at most [`SeekTable::frames`].
    pub fn content_before(&self, number: usize) -> u64 {
        self.0[number].1
    }

    /// Returns the end of the longest run of frames from `first` on, not past `end`, that takes at
    /// most `limit` bytes of the blob; at least one frame.
    pub fn span(&self, first: usize, end: usize, limit: usize) -> usize {
        let start = self.before(first);
        let fits = |next: &(u64, u64)| next.0 - start <= limit as u64;
        (first + self.0[first + 1..=end].partition_point(fits)).max(first + 1)
    }

    /// Returns the number of the frame that holds the uncompressed byte at `offset`.
    pub fn find(&self, offset: u64) -> usize {
        self.0
            .partition_point(|start| start.1 <= offset)
            .saturating_sub(1)
    }
}

/// Returns the bytes of the seek table of so many frames, its header and its footer included.
pub fn table_size(frames: usize) -> usize {
    HEADER_SIZE + frames * entry_size(0) + FOOTER_SIZE
}

/// Appends the seek table of `frames`, each (compressed, uncompressed) bytes, to `output`.
pub fn write_seek_table(frames: &[(u32, u32)], output: &mut Vec<u8>) -> Result<()> {
    let body = frames.len() * entry_size(0) + FOOTER_SIZE;
    let (Ok(body), Ok(count)) = (u32::try_from(body), u32::try_from(frames.len())) else {
        return Err(Error::Contradiction("too many frames for a seek table"));
    };
    output.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    output.extend_from_slice(&body.to_le_bytes());
    for (compressed, content) in frames {
        output.extend_from_slice(&compressed.to_le_bytes());
        output.extend_from_slice(&content.to_le_bytes());
    }
    output.extend_from_slice(&count.to_le_bytes());
    output.push(0);
    output.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    Ok(())
}

/// Bytes of an entry: two sizes and, where the descriptor announces it, a checksum.
fn entry_size(descriptor: u8) -> usize {
    if descriptor & CHECKSUMS == 0 { 8 } else { 12 }
}

/// Reads a little-endian word; the callers' slices are long enough.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk::<4>()
        .map_or(0, |word| u32::from_le_bytes(*word))
}
