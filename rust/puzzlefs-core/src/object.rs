//! Cap'n Proto objects, as far as the format uses them: structs, lists of structs, Data.

use crate::error::Rule;
use crate::message::{Checked, KIND_STRUCT, Message, Place, StructSize, WORD, read_u64};

/// Element codes of a list pointer.
const CODE_BYTE: u64 = 2;
const CODE_STRUCT: u64 = 7;

impl<'a> Message<'a> {
    /// Returns the struct that the pointer at `place` refers to.
    pub(crate) fn structure(&self, pointer: u64, place: Place) -> Checked<Struct<'_>> {
        if pointer == 0 {
            return Ok(self.empty_struct());
        }
        let target = self.resolve(pointer, place)?;
        if target.tag & 3 != KIND_STRUCT {
            return Err(Rule::WrongPointerKind);
        }
        let size = StructSize::of(target.tag);
        let start = target.start.ok_or(Rule::ObjectOutOfBounds)?;
        let found = self
            .place_struct(target.segment, start, size)
            .ok_or(Rule::ObjectOutOfBounds)?;
        self.spend(u64::from(size.words()))?;
        Ok(found)
    }

    fn empty_struct(&self) -> Struct<'_> {
        Struct {
            message: self,
            data: &[],
            pointers: &[],
            first_pointer: Place {
                segment: 0,
                word: 0,
            },
        }
    }

    /// Returns the struct of this size at `start`, or `None` where it is not inside the segment.
    fn place_struct(&self, segment: u32, start: u32, size: StructSize) -> Option<Struct<'_>> {
        let bytes = self.slice(segment, start, size.words())?;
        let (data, pointers) = bytes.split_at_checked(size.data as usize * WORD)?;
        let first_pointer = Place {
            segment,
            word: start.checked_add(size.data)?,
        };
        Some(Struct {
            message: self,
            data,
            pointers,
            first_pointer,
        })
    }

    /// Returns the list of structs that the pointer at `place` refers to.
    fn list(&self, pointer: u64, place: Place) -> Checked<List<'_>> {
        if pointer == 0 {
            return Ok(List {
                message: self,
                segment: 0,
                next: 0,
                left: 0,
                size: StructSize::default(),
            });
        }
        let (target, start) = self.list_target(pointer, place, CODE_STRUCT)?;
        let words = (target.tag >> 35) as u32;
        self.slice(target.segment, start, words + 1)
            .ok_or(Rule::ObjectOutOfBounds)?;
        let tag = self
            .word(target.segment, start)
            .ok_or(Rule::ObjectOutOfBounds)?;
        if tag & 3 != KIND_STRUCT {
            return Err(Rule::WrongElementSize);
        }
        let elements = (tag as u32) >> 2;
        let size = StructSize::of(tag);
        let used = u64::from(elements) * u64::from(size.words());
        if used > u64::from(words) {
            return Err(Rule::ObjectOutOfBounds);
        }
        self.spend(1 + used.max(u64::from(elements)))?;
        Ok(List {
            message: self,
            segment: target.segment,
            next: start + 1,
            left: elements,
            size,
        })
    }

    /// Returns the Data that the pointer at `place` refers to.
    fn data(&self, pointer: u64, place: Place) -> Checked<&'a [u8]> {
        if pointer == 0 {
            return Ok(&[]);
        }
        let (target, start) = self.list_target(pointer, place, CODE_BYTE)?;
        let length = (target.tag >> 35) as u32;
        let words = length.div_ceil(WORD as u32);
        let bytes = self
            .slice(target.segment, start, words)
            .ok_or(Rule::ObjectOutOfBounds)?;
        self.spend(u64::from(words))?;
        bytes.get(..length as usize).ok_or(Rule::ObjectOutOfBounds)
    }
}

/// A struct. Fields beyond its sizes read as zero or null.
#[derive(Clone, Copy)]
pub struct Struct<'m> {
    message: &'m Message<'m>,
    data: &'m [u8],
    pointers: &'m [u8],
    first_pointer: Place,
}

impl<'m> Struct<'m> {
    /// Returns the 64-bit number at byte `at` of the data section.
    pub fn u64(&self, at: usize) -> u64 {
        read_u64(self.data, at)
    }

    /// Returns the 32-bit number at byte `at`.
    pub fn u32(&self, at: usize) -> u32 {
        self.data
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Returns the 16-bit number at byte `at`.
    pub fn u16(&self, at: usize) -> u16 {
        self.data
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .map_or(0, |bytes| u16::from_le_bytes(*bytes))
    }

    /// Returns the lowest bit of byte `at`.
    pub fn bit(&self, at: usize) -> bool {
        self.data.get(at).is_some_and(|byte| byte & 1 == 1)
    }

    /// Says whether pointer `number` is anything but null.
    pub fn has(&self, number: usize) -> bool {
        self.pointer(number) != 0
    }

    /// Returns the struct of pointer `number`; each object can be taken once.
    pub fn structure(&self, number: usize) -> Result<Struct<'m>, Rule> {
        self.message
            .structure(self.pointer(number), self.place(number))
    }

    /// Returns the list of structs of pointer `number`; each object can be taken once.
    pub fn list(&self, number: usize) -> Result<List<'m>, Rule> {
        self.message.list(self.pointer(number), self.place(number))
    }

    /// Returns the bytes of pointer `number`; each object can be taken once.
    pub fn data(&self, number: usize) -> Result<&'m [u8], Rule> {
        self.message.data(self.pointer(number), self.place(number))
    }

    fn pointer(&self, number: usize) -> u64 {
        read_u64(self.pointers, number * WORD)
    }

    fn place(&self, number: usize) -> Place {
        // Only meaningful for a pointer that is there, whose word is inside the segment.
        let word = self.first_pointer.word.saturating_add(number as u32);
        Place {
            word,
            ..self.first_pointer
        }
    }
}

/// A list of structs, and the iterator over them.
#[derive(Clone)]
pub struct List<'m> {
    message: &'m Message<'m>,
    segment: u32,
    next: u32,
    left: u32,
    size: StructSize,
}

impl<'m> Iterator for List<'m> {
    type Item = Struct<'m>;

    fn next(&mut self) -> Option<Struct<'m>> {
        self.left = self.left.checked_sub(1)?;
        // The list was found to be inside its segment, so that this never fails.
        let found = self
            .message
            .place_struct(self.segment, self.next, self.size)?;
        self.next = self.next.checked_add(self.size.words())?;
        Some(found)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for List<'_> {}
