//! Parts of packs: what is compressed by itself, from chunks that were read and from those of earlier blobs.

use puzzlefs_core::{BlobFault, Result};

use crate::blob::Blob;
use crate::blobs::Blobs;
use crate::block::Chunk;
use crate::buffers::{Buffer, Buffers};
use crate::codec::decode_frame;
use crate::seek_table::SeekTable;

/// Bytes of the stream, where they were read or copied.
pub enum Content {
    /// A chunk, or some that follow each other, in the block into which they were read.
    Chunk(Chunk),
    /// Some chunks, one after another.
    Bytes(Buffer),
}

/// Bytes of an earlier build's blob, before compression.
#[derive(Clone, Copy)]
pub struct Stored {
    /// Row of the blob in the trace.
    pub blob: u32,
    /// Whether it is compressed.
    pub is_compressed: bool,
    /// Whether that build made it, in the form of this one.
    pub is_own: bool,
    /// Where the bytes start, and how many they are.
    pub offset: u64,
    /// See above.
    pub length: u64,
}

/// Some bytes of a part.
pub enum Piece {
    /// Bytes that were read.
    Read(Content),
    /// Bytes that are known.
    Stored(Stored),
}

/// Chunks that are compressed together.
pub struct Part {
    /// The pack, and the part's number in it.
    pub pack: usize,
    /// See above.
    pub number: usize,
    /// The number of its first chunk in the stream.
    pub chunk: usize,
    /// Uncompressed bytes in a frame.
    pub frame_size: usize,
    /// Its bytes. Only a part that is one piece has it in a block.
    pub pieces: Vec<Piece>,
}

impl Content {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Chunk(chunk) => chunk.bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// Returns these bytes and those of the chunk after them.
    fn followed_by(mut self, chunk: &Chunk, buffers: &Buffers, capacity: usize) -> Self {
        if let Self::Chunk(first) = &mut self
            && first.extend(chunk)
        {
            return self;
        }
        let mut bytes = self.copied(buffers, capacity);
        bytes.extend_from_slice(chunk.bytes());
        Self::Bytes(bytes)
    }

    /// Returns the bytes in a buffer, which holds no block.
    pub fn copied(self, buffers: &Buffers, capacity: usize) -> Buffer {
        match self {
            Self::Chunk(chunk) => {
                let mut bytes = buffers.take(capacity);
                bytes.extend_from_slice(chunk.bytes());
                bytes
            }
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Part {
    /// Appends a chunk that was read.
    ///
    /// A part that waits for more must not keep the reader from its blocks: it holds one, and as soon as
    /// there are bytes elsewhere it holds none.
    pub fn push(&mut self, chunk: Chunk, buffers: &Buffers) {
        let content = match self.pieces.pop() {
            None => Content::Chunk(chunk),
            Some(Piece::Read(content)) => content.followed_by(&chunk, buffers, self.frame_size),
            Some(stored) => {
                self.pieces.push(stored);
                Content::Bytes(Content::Chunk(chunk).copied(buffers, 0))
            }
        };
        self.pieces.push(Piece::Read(content));
    }

    /// Appends bytes that are known.
    pub fn push_stored(&mut self, stored: Stored, buffers: &Buffers) {
        match self.pieces.pop() {
            Some(Piece::Stored(mut last))
                if last.blob == stored.blob && last.offset + last.length == stored.offset =>
            {
                last.length += stored.length;
                self.pieces.push(Piece::Stored(last));
                return;
            }
            Some(Piece::Read(content)) => {
                let bytes = content.copied(buffers, 0);
                self.pieces.push(Piece::Read(Content::Bytes(bytes)));
            }
            last => self.pieces.extend(last),
        }
        self.pieces.push(Piece::Stored(stored));
    }

    /// Returns the bytes of the part.
    pub fn content(
        self,
        blobs: &Blobs,
        decoded: &mut Decoded,
        buffers: &Buffers,
    ) -> Result<Content> {
        let mut pieces = self.pieces;
        if pieces.len() == 1
            && let Some(Piece::Read(content)) =
                pieces.pop_if(|piece| matches!(piece, Piece::Read(_)))
        {
            return Ok(content);
        }
        let mut bytes = buffers.take(self.frame_size);
        for piece in pieces {
            match piece {
                Piece::Read(content) => bytes.extend_from_slice(content.bytes()),
                Piece::Stored(stored) => decoded.append(blobs, stored, &mut bytes)?,
            }
        }
        Ok(Content::Bytes(bytes))
    }
}

/// The frame that was decoded last: neighbouring parts of a blob are often in the same one.
#[derive(Default)]
pub struct Decoded {
    /// Row of the blob, and number of the frame.
    place: Option<(u32, usize)>,
    content: Vec<u8>,
}

impl Decoded {
    /// Appends bytes of a blob to `to`.
    pub fn append(&mut self, blobs: &Blobs, stored: Stored, to: &mut Vec<u8>) -> Result<()> {
        blobs.with(stored.blob, |blob| self.append_from(blob, stored, to))
    }

    fn append_from(
        &mut self,
        blob: &Blob,
        stored: Stored,
        to: &mut Vec<u8>,
    ) -> std::result::Result<(), BlobFault> {
        let end = stored.offset.saturating_add(stored.length);
        if !stored.is_compressed {
            if end > blob.size() {
                return Err(BlobFault::Short);
            }
            let start = to.len();
            to.resize(start + stored.length as usize, 0);
            return blob.read(stored.offset, &mut to[start..]);
        }
        let table = blob.table()?;
        if end > table.content_size() {
            return Err(BlobFault::Short);
        }
        let mut number = table.find(stored.offset);
        while table.content_before(number) < end {
            let start = table.content_before(number);
            let size = (table.content_before(number + 1) - start) as usize;
            if self.place != Some((stored.blob, number)) {
                let mut frame = Vec::new();
                read_frame(blob, &table, number, &mut frame)?;
                self.place = None;
                self.content = decode_frame(&frame, size).map_err(BlobFault::Corrupt)?;
                self.place = Some((stored.blob, number));
            }
            let from = stored.offset.saturating_sub(start) as usize;
            to.extend_from_slice(&self.content[from..size.min((end - start) as usize)]);
            number += 1;
        }
        Ok(())
    }
}

/// Reads a frame into `bytes`, which is empty.
pub fn read_frame(
    blob: &Blob,
    table: &SeekTable,
    number: usize,
    bytes: &mut Vec<u8>,
) -> std::result::Result<(), BlobFault> {
    bytes.resize(
        (table.before(number + 1) - table.before(number)) as usize,
        0,
    );
    blob.read(table.before(number), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, Blocks};
    use std::ops::Range;
    use std::sync::Arc;

    const STORED: Stored = Stored {
        blob: 0,
        is_compressed: false,
        is_own: true,
        offset: 0,
        length: 1,
    };

    fn part() -> Part {
        Part {
            pack: 0,
            number: 0,
            chunk: 0,
            frame_size: 64,
            pieces: Vec::new(),
        }
    }

    fn block(byte: u8) -> Arc<Block> {
        let mut block = Blocks::new().take();
        block.bytes_mut()[..8].fill(byte);
        Arc::new(block)
    }

    fn chunk(block: &Arc<Block>, range: Range<usize>) -> Chunk {
        Chunk::new(0, Arc::clone(block), range)
    }

    fn is_held(block: &Arc<Block>) -> bool {
        Arc::strong_count(block) > 1
    }

    /// The bytes of the only piece.
    fn bytes(part: &Part) -> &[u8] {
        let [Piece::Read(content)] = &part.pieces[..] else {
            panic!("not one piece");
        };
        content.bytes()
    }

    #[test]
    fn chunks_of_one_block_stay_in_it_until_others_come() {
        let (buffers, mut part) = (Buffers::default(), part());
        let (first, second) = (block(1), block(2));
        part.push(chunk(&first, 0..2), &buffers);
        part.push(chunk(&first, 2..4), &buffers);
        assert_eq!((bytes(&part), is_held(&first)), (&[1; 4][..], true));
        part.push(chunk(&second, 0..1), &buffers);
        part.push(chunk(&second, 1..2), &buffers);
        assert_eq!(bytes(&part), [1, 1, 1, 1, 2, 2]);
        assert!(!is_held(&first) && !is_held(&second));
    }

    #[test]
    fn chunks_apart_in_one_block_are_put_together() {
        let (buffers, mut part, block) = (Buffers::default(), part(), block(3));
        part.push(chunk(&block, 4..6), &buffers);
        part.push(chunk(&block, 0..1), &buffers);
        assert_eq!((bytes(&part), is_held(&block)), (&[3; 3][..], false));
    }

    #[test]
    fn a_part_with_known_bytes_holds_no_block() {
        let (buffers, mut part, block) = (Buffers::default(), part(), block(4));
        for number in 1..5 {
            part.push(chunk(&block, 0..2), &buffers);
            assert_eq!(is_held(&block), number == 1);
            part.push_stored(STORED, &buffers);
            assert!(!is_held(&block));
            assert_eq!(part.pieces.len(), 2 * number);
        }
    }
}
