//! Cap'n Proto, as far as the format uses it: the framing of a message, and where pointers lead.
//!
//! Nothing is allocated and nothing recurses. Every object may be used once: a budget of the words
//! of all segments pays for each, so that a small blob cannot pretend to be a large tree. The rules
//! and their order stand in docs/format.md §9.

use core::cell::Cell;

use crate::error::Rule;
use crate::limits::{ROOTFS_SIZE_LIMIT, SEGMENT_LIMIT};
use crate::object::Struct;

pub(crate) type Checked<T> = Result<T, Rule>;

pub(crate) const WORD: usize = 8;
/// Kinds of pointer, the lowest two bits of its word.
pub(crate) const KIND_STRUCT: u64 = 0;
const KIND_LIST: u64 = 1;
const KIND_FAR: u64 = 2;

/// Where a segment lies, in words of the body. A blob has less than 2^27 of them.
#[derive(Clone, Copy, Default)]
struct Segment {
    start: u32,
    words: u32,
}

/// A framed message: its segments, and the budget of words not yet used.
pub struct Message<'a> {
    /// All segments, one after the other.
    body: &'a [u8],
    segments: [Segment; SEGMENT_LIMIT as usize],
    count: usize,
    budget: Cell<u64>,
}

impl<'a> Message<'a> {
    /// Checks the framing of `blob`.
    pub fn parse(blob: &'a [u8]) -> Checked<Self> {
        if blob.len() > ROOTFS_SIZE_LIMIT {
            return Err(Rule::TooLarge);
        }
        let (first, _) = blob
            .split_first_chunk::<WORD>()
            .ok_or(Rule::TruncatedSegmentTable)?;
        let count = u64::from(half(first, 0)) + 1;
        if count > u64::from(SEGMENT_LIMIT) {
            return Err(Rule::TooManySegments);
        }
        let count = count as usize;
        // The count and the sizes, four bytes each, padded to a whole word.
        let (table, body) = blob
            .split_at_checked((count / 2 + 1) * WORD)
            .ok_or(Rule::TruncatedSegmentTable)?;
        let mut message = Self {
            body,
            segments: [Segment::default(); SEGMENT_LIMIT as usize],
            count,
            budget: Cell::new(body.len() as u64 / WORD as u64),
        };
        message.place_segments(table)?;
        Ok(message)
    }

    /// Notes where each segment lies; together they must fill the body.
    fn place_segments(&mut self, table: &[u8]) -> Checked<()> {
        let (halves, _) = table.as_chunks::<4>();
        let mut start = 0_u64;
        for (segment, size) in self
            .segments
            .iter_mut()
            .zip(halves.iter().skip(1))
            .take(self.count)
        {
            let words = u32::from_le_bytes(*size);
            // `start` is checked below before it is used; a wrapped one never passes.
            *segment = Segment {
                start: start as u32,
                words,
            };
            start += u64::from(words);
        }
        if start * WORD as u64 == self.body.len() as u64 {
            Ok(())
        } else {
            Err(Rule::SegmentsDoNotFill)
        }
    }

    /// Returns the root struct.
    pub fn root(&self) -> Checked<Struct<'_>> {
        let pointer = self.word(0, 0).ok_or(Rule::ObjectOutOfBounds)?;
        self.spend(1)?;
        self.structure(
            pointer,
            Place {
                segment: 0,
                word: 0,
            },
        )
    }

    /// Returns a word of a segment, or `None` past its end.
    pub(crate) fn word(&self, segment: u32, word: u32) -> Option<u64> {
        let bytes = self.slice(segment, word, 1)?;
        Some(u64::from_le_bytes(*bytes.first_chunk()?))
    }

    /// Returns `words` words of a segment from `start`, or `None` where they are not all inside it.
    pub(crate) fn slice(&self, segment: u32, start: u32, words: u32) -> Option<&'a [u8]> {
        let bounds = self.segments.get(..self.count)?.get(segment as usize)?;
        if start.checked_add(words)? > bounds.words {
            return None;
        }
        let first = bounds.start.checked_add(start)? as usize * WORD;
        let length = words as usize * WORD;
        self.body.get(first..first.checked_add(length)?)
    }

    /// Takes the words of an object from the budget.
    pub(crate) fn spend(&self, words: u64) -> Checked<()> {
        let left = self.budget.get().checked_sub(words);
        self.budget.set(left.ok_or(Rule::ObjectsOverlap)?);
        Ok(())
    }

    /// Follows far pointers from the pointer that stands at `place`.
    pub(crate) fn resolve(&self, pointer: u64, place: Place) -> Checked<Target> {
        if pointer & 3 != KIND_FAR {
            let target = place.offset(pointer);
            return Ok(Target {
                tag: pointer,
                segment: place.segment,
                start: target,
            });
        }
        let pad = Place::of_far(pointer);
        if pointer & 4 == 0 {
            return self.single_far(pad);
        }
        self.double_far(pad)
    }

    /// A landing pad of one word: the object's pointer, relative to itself.
    fn single_far(&self, pad: Place) -> Checked<Target> {
        let tag = self
            .word(pad.segment, pad.word)
            .ok_or(Rule::FarPointerOutOfBounds)?;
        self.spend(1)?;
        if tag & 3 == KIND_FAR {
            return Err(Rule::NestedFarPointer);
        }
        Ok(Target {
            tag,
            segment: pad.segment,
            start: pad.offset(tag),
        })
    }

    /// A landing pad of two words: a far pointer to the object itself, and the object's sizes.
    fn double_far(&self, pad: Place) -> Checked<Target> {
        let words = self
            .slice(pad.segment, pad.word, 2)
            .ok_or(Rule::FarPointerOutOfBounds)?;
        let far = read_u64(words, 0);
        let object = Place::of_far(far);
        let inside = self.slice(object.segment, object.word, 0).is_some();
        if far & 7 != KIND_FAR || !inside {
            return Err(Rule::FarPointerOutOfBounds);
        }
        self.spend(2)?;
        let tag = read_u64(words, WORD);
        if tag & 3 == KIND_FAR {
            return Err(Rule::NestedFarPointer);
        }
        Ok(Target {
            tag,
            segment: object.segment,
            start: Some(object.word),
        })
    }

    /// Resolves a pointer that must be a list with this element code; returns where the list starts.
    pub(crate) fn list_target(
        &self,
        pointer: u64,
        place: Place,
        code: u64,
    ) -> Checked<(Target, u32)> {
        let target = self.resolve(pointer, place)?;
        if target.tag & 3 != KIND_LIST {
            return Err(Rule::WrongPointerKind);
        }
        if (target.tag >> 32) & 7 != code {
            return Err(Rule::WrongElementSize);
        }
        let start = target.start.ok_or(Rule::ObjectOutOfBounds)?;
        Ok((target, start))
    }
}

/// A word of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) word: u32,
}

impl Place {
    /// Returns the place to which a far pointer leads: 29 bits of word, 32 bits of segment.
    fn of_far(pointer: u64) -> Self {
        Self {
            segment: (pointer >> 32) as u32,
            word: (pointer as u32) >> 3,
        }
    }

    /// Returns the word to which a pointer here leads, or `None` before the segment's start.
    fn offset(self, pointer: u64) -> Option<u32> {
        // 30 signed bits above the kind, counted from the word after the pointer.
        let offset = (pointer as u32 as i32) >> 2;
        self.word.checked_add(1)?.checked_add_signed(offset)
    }
}

/// An object: the pointer that describes it, and where it starts.
pub(crate) struct Target {
    pub(crate) tag: u64,
    pub(crate) segment: u32,
    /// `None` where that is before the segment.
    pub(crate) start: Option<u32>,
}

/// Words of a struct's two sections.
#[derive(Clone, Copy, Default)]
pub(crate) struct StructSize {
    pub(crate) data: u32,
    pub(crate) pointers: u32,
}

impl StructSize {
    pub(crate) fn of(tag: u64) -> Self {
        Self {
            data: (tag >> 32) as u32 & 0xffff,
            pointers: (tag >> 48) as u32,
        }
    }

    pub(crate) fn words(self) -> u32 {
        self.data + self.pointers
    }
}

fn half(word: &[u8; WORD], at: usize) -> u32 {
    word.get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Returns the little-endian number at byte `at`, or 0 where there is none.
pub(crate) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
