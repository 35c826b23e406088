//! Cap'n Proto messages being written, with the allocation of capnp-rust's default builder.
//!
//! The first segment has room for 1,024 words; each further one as many as all before it and
//! 1,024 together, or more if one object needs more. An object goes into the segment of its pointer where it fits,
//! else behind a landing pad into the first segment with room. Byte identity rests on this.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Error, Result};
use crate::limits::ROOTFS_SIZE_LIMIT;

const WORD: usize = 8;
const FIRST_SEGMENT_WORDS: usize = 1024;
const SEGMENT_WORDS_LIMIT: usize = 1 << 29;

/// Lower halves of pointers, before the offset is added.
const STRUCT: u32 = 0;
const LIST: u32 = 1;
const FAR: u32 = 2;
/// Element codes of list pointers.
const BYTES: u32 = 2;
const STRUCTS: u32 = 7;

/// A word of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    segment: usize,
    word: usize,
}

impl Place {
    /// Returns the place `words` further on.
    pub(crate) fn plus(self, words: usize) -> Self {
        Self {
            word: self.word + words,
            ..self
        }
    }
}

/// Words of a struct's data section and of its pointers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape(pub(crate) usize, pub(crate) usize);

impl Shape {
    pub(crate) fn words(self) -> usize {
        self.0 + self.1
    }

    fn upper(self) -> u32 {
        self.0 as u32 | (self.1 as u32) << 16
    }
}

/// Bytes of a segment that lie together, so that none of them moves, and each is freed as soon as it is used.
const BLOCK: usize = 1 << 20;

#[derive(Default)]
struct Segment {
    /// What was written, [`BLOCK`] bytes in each; what a block lacks is 0.
    blocks: Vec<Vec<u8>>,
    /// The words in use; the allocator's capacity is only a number.
    words: usize,
    capacity: usize,
}

impl Segment {
    fn extend(&mut self, words: usize) {
        self.words += words;
        let blocks = (self.words * WORD).div_ceil(BLOCK);
        self.blocks.resize_with(blocks, Vec::new);
    }
}

/// A message being written.
pub(crate) struct Segments {
    segments: Vec<Segment>,
    next_size: usize,
    words: usize,
}

impl Segments {
    /// Starts a message whose first word is the root pointer.
    pub(crate) fn new() -> Result<(Self, Place)> {
        let mut new = Self {
            segments: Vec::new(),
            next_size: FIRST_SEGMENT_WORDS,
            words: 0,
        };
        let root = new.allocate_anywhere(1)?;
        Ok((new, root))
    }

    /// Returns how many bytes the framed message has.
    pub(crate) fn size(&self) -> usize {
        self.header() + self.words * WORD
    }

    /// Gives the framed message piece by piece to `take`, and frees each piece as soon as it was taken.
    pub(crate) fn write<E>(
        self,
        mut take: impl FnMut(&[u8]) -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        let mut header = vec![0; self.header()];
        let lengths = self.segments.iter().map(|segment| segment.words);
        let numbers = core::iter::once(self.segments.len() - 1).chain(lengths);
        for (place, number) in header.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&(number as u32).to_le_bytes());
        }
        take(&header)?;
        for segment in self.segments {
            let mut left = segment.words * WORD;
            for mut block in segment.blocks {
                block.resize(left.min(BLOCK), 0);
                take(&block)?;
                left -= block.len();
            }
        }
        Ok(())
    }

    fn header(&self) -> usize {
        (self.segments.len() / 2 + 1) * WORD
    }

    /// Allocates a struct that `pointer` refers to.
    pub(crate) fn structure(&mut self, pointer: Place, shape: Shape) -> Result<Place> {
        self.object(pointer, STRUCT, shape.upper(), shape.words())
    }

    /// Allocates a list of `count` structs; returns the first one's place.
    pub(crate) fn list(&mut self, pointer: Place, count: usize, shape: Shape) -> Result<Place> {
        let words = count.saturating_mul(shape.words());
        self.check_room(words)?;
        let tag = self.object(pointer, LIST, (words as u32) << 3 | STRUCTS, words + 1)?;
        self.put_pointer(tag, (count as u32) << 2, shape.upper());
        Ok(tag.plus(1))
    }

    /// Allocates Data and fills it.
    pub(crate) fn data(&mut self, pointer: Place, data: &[u8]) -> Result<()> {
        let words = data.len().div_ceil(WORD);
        self.check_room(words)?;
        let upper = (data.len() as u32) << 3 | BYTES;
        let place = self.object(pointer, LIST, upper, words)?;
        self.put(place, 0, data);
        Ok(())
    }

    /// Stores bytes at byte `at` of an object.
    pub(crate) fn put(&mut self, place: Place, at: usize, bytes: &[u8]) {
        let blocks = &mut self.segments[place.segment].blocks;
        let (mut start, mut rest) = (place.word * WORD + at, bytes);
        while !rest.is_empty() {
            let offset = start % BLOCK;
            let (piece, after) = rest.split_at(rest.len().min(BLOCK - offset));
            let (block, end) = (&mut blocks[start / BLOCK], offset + piece.len());
            if block.len() < end {
                block.resize(end, 0);
            }
            block[offset..end].copy_from_slice(piece);
            (start, rest) = (start + piece.len(), after);
        }
    }

    fn put_pointer(&mut self, place: Place, lower: u32, upper: u32) {
        let pointer = u64::from(upper) << 32 | u64::from(lower);
        self.put(place, 0, &pointer.to_le_bytes());
    }

    /// Allocates an object and lets the pointer refer to it; `upper` is the pointer's upper half.
    fn object(&mut self, pointer: Place, kind: u32, upper: u32, words: usize) -> Result<Place> {
        self.check_room(words)?;
        let (pointer, place) = match self.allocate(pointer.segment, words) {
            Some(place) => (pointer, place),
            None => {
                let pad = self.allocate_anywhere(words + 1)?;
                self.put_pointer(pointer, (pad.word as u32) << 3 | FAR, pad.segment as u32);
                (pad, pad.plus(1))
            }
        };
        let offset = (place.word as u32).wrapping_sub(pointer.word as u32 + 1);
        self.put_pointer(pointer, offset << 2 | kind, upper);
        Ok(place)
    }

    fn allocate(&mut self, segment: usize, words: usize) -> Option<Place> {
        let found = &mut self.segments[segment];
        let word = found.words;
        if words > found.capacity - word {
            return None;
        }
        found.extend(words);
        self.words += words;
        Some(Place { segment, word })
    }

    fn allocate_anywhere(&mut self, words: usize) -> Result<Place> {
        self.check_room(words)?;
        for segment in 0..self.segments.len() {
            if let Some(place) = self.allocate(segment, words) {
                return Ok(place);
            }
        }
        let capacity = words.max(self.next_size);
        self.next_size = (self.next_size + capacity).min(SEGMENT_WORDS_LIMIT);
        let mut segment = Segment {
            capacity,
            ..Segment::default()
        };
        segment.extend(words);
        self.segments.push(segment);
        self.words += words;
        Ok(Place {
            segment: self.segments.len() - 1,
            word: 0,
        })
    }

    /// Refuses what would make the blob larger than a reader accepts.
    fn check_room(&self, words: usize) -> Result<()> {
        let room = (ROOTFS_SIZE_LIMIT / WORD).saturating_sub(self.words + self.segments.len());
        if words < room {
            return Ok(());
        }
        Err(Error::Contradiction(
            "the rootfs blob would be larger than 1 GiB",
        ))
    }
}
