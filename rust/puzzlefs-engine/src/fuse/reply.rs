//! An answer under construction: the header's room, then the body.

use rustix::io::Errno;

use super::protocol::{LARGEST, OUT_HEADER};

/// A buffer for answers, one after another. It grows to the largest that was needed.
pub struct Reply {
    bytes: Vec<u8>,
    /// Bytes in use; those after it are left from earlier answers.
    length: usize,
}

impl Reply {
    /// Makes a buffer without a body.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; OUT_HEADER],
            length: OUT_HEADER,
        }
    }

    /// Empties the body.
    pub fn clear(&mut self) {
        self.length = OUT_HEADER;
    }

    /// Returns the bytes of the body.
    pub fn body_length(&self) -> usize {
        self.length - OUT_HEADER
    }

    /// Adds `count` bytes for the caller to fill, all of them. Fails with `EINVAL` where the body
    /// would be larger than any answer.
    pub fn space(&mut self, count: usize) -> Result<&mut [u8], Errno> {
        let start = self.length;
        let end = start.checked_add(count).ok_or(Errno::INVAL)?;
        if end > OUT_HEADER + LARGEST {
            return Err(Errno::INVAL);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.length = end;
        Ok(&mut self.bytes[start..end])
    }

    /// Adds bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.space(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Adds 32-bit numbers.
    pub fn words(&mut self, words: &[u32]) -> Result<(), Errno> {
        words
            .iter()
            .try_for_each(|word| self.put(&word.to_ne_bytes()))
    }

    /// Adds 64-bit numbers.
    pub fn longs(&mut self, longs: &[u64]) -> Result<(), Errno> {
        longs
            .iter()
            .try_for_each(|long| self.put(&long.to_ne_bytes()))
    }

    /// Writes the header and returns the whole answer. `error` is 0, a negative error number, or the
    /// number of a message that answers nothing, for which `unique` is 0.
    pub fn finish(&mut self, unique: u64, error: i32) -> &[u8] {
        // A body is at most 1 MiB.
        let length = self.length as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[4..8].copy_from_slice(&error.to_ne_bytes());
        self.bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
        &self.bytes[..self.length]
    }
}
