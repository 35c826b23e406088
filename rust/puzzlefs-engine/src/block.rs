//! Buffers of the build: blocks of the stream, filled once, shared by the chunks cut from them.

use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

/// Bytes in a block: many chunks, so that little of each block is carried over into the next.
pub const BLOCK_SIZE: usize = 1 << 21;
/// Blocks that exist at a time; with their size they bound the memory of a build.
const BLOCK_LIMIT: usize = 10;

/// The blocks of one build; whoever wants one waits until one is free.
pub struct Blocks {
    free: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
    made: usize,
}

impl Blocks {
    /// Makes no block yet.
    pub fn new() -> Self {
        let (home, free) = crossbeam_channel::unbounded();
        Self {
            free,
            home,
            made: 0,
        }
    }

    /// Returns a block of [`BLOCK_SIZE`] bytes with any content.
    pub fn take(&mut self) -> Block {
        let bytes = match self.free.try_recv() {
            Ok(bytes) => bytes,
            Err(_) if self.made < BLOCK_LIMIT => {
                self.made += 1;
                vec![0; BLOCK_SIZE]
            }
            // This end holds a sender, so that the channel stays open.
            Err(_) => self.free.recv().unwrap_or_default(),
        };
        Block {
            bytes,
            home: self.home.clone(),
        }
    }
}

/// A block; when the last chunk of it is done, it goes back to where it came from.
pub struct Block {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Block {
    /// The bytes of the block.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of the block, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Fails only when the build is over and nobody wants the block.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// A chunk of the stream.
pub struct Chunk {
    /// Its place in stream order, from 0.
    pub number: usize,
    block: Arc<Block>,
    range: Range<usize>,
}

impl Chunk {
    /// Makes the chunk that is `range` of `block`.
    pub fn new(number: usize, block: Arc<Block>, range: Range<usize>) -> Self {
        Self {
            number,
            block,
            range,
        }
    }

    /// Goes on to the end of `next`, if that follows in the same block; tells whether it does.
    pub fn extend(&mut self, next: &Self) -> bool {
        let follows = Arc::ptr_eq(&self.block, &next.block) && self.range.end == next.range.start;
        if follows {
            self.range.end = next.range.end;
        }
        follows
    }

    /// The bytes of the chunk.
    pub fn bytes(&self) -> &[u8] {
        &self.block.bytes()[self.range.clone()]
    }
}
