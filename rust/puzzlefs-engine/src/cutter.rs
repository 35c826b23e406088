//! The first stage of a build: reads the stream into blocks and cuts it into chunks, passing by those
//! that are known.

use std::sync::Arc;

use crossbeam_channel::Sender;
use puzzlefs_core::chunk::next_cut;
use puzzlefs_core::limits::CHUNK_MAX;
use puzzlefs_core::{Error, Result};

use crate::block::{BLOCK_SIZE, Block, Blocks, Chunk};
use crate::plan::Plan;
use crate::stream::Input;
use crate::worker::Shared;

/// Bytes read at once where known chunks are near: what is read beyond the cut was read in vain.
const STEP: usize = 1 << 16;

/// Reads and cuts; made for one stream.
pub struct Cutter<'a, 'b, I> {
    stream: I,
    plan: Plan<'a>,
    shared: &'a Shared<'a, 'b>,
    queue: Sender<Chunk>,
    blocks: Blocks,
    block: Block,
    filled: usize,
    /// Where in the stream the block begins; there is a cut.
    at: u64,
    /// Chunks so far.
    number: usize,
}

impl<'a, 'b, I: Input> Cutter<'a, 'b, I> {
    /// Makes a cutter that hands chunks to `queue`, known ones to the packer.
    pub fn new(
        stream: I,
        plan: Plan<'a>,
        shared: &'a Shared<'a, 'b>,
        queue: Sender<Chunk>,
    ) -> Self {
        let mut blocks = Blocks::new();
        let block = blocks.take();
        Self {
            stream,
            plan,
            shared,
            queue,
            blocks,
            block,
            filled: 0,
            at: 0,
            number: 0,
        }
    }

    /// Cuts the stream; returns how many chunks there were, and why no more.
    pub fn run(mut self) -> (usize, Result<()>) {
        let result = self.cut_all();
        (self.number, result)
    }

    fn cut_all(&mut self) -> Result<()> {
        loop {
            self.pass()?;
            if self.stream.is_over() {
                return Ok(());
            }
            self.read()?;
        }
    }

    /// Passes by chunks that are known.
    fn pass(&mut self) -> Result<()> {
        while let Some(known) = self.plan.chunk_at(self.at) {
            self.shared.progress.check(self.number)?;
            self.shared.recall(self.number, known);
            self.note(known.length);
        }
        self.stream.seek(self.at)
    }

    /// Reads and cuts up to the end, or to a chunk that is known.
    fn read(&mut self) -> Result<()> {
        self.filled = 0;
        loop {
            self.shared.progress.check(self.number)?;
            let hasty = self.plan.is_near(self.at, self.at + BLOCK_SIZE as u64);
            let end = if hasty {
                self.filled + STEP
            } else {
                BLOCK_SIZE
            };
            let room = &mut self.block.bytes_mut()[self.filled..end.min(BLOCK_SIZE)];
            self.filled += self.stream.read(room)?;
            let last = self.stream.is_over();
            if self.cut(hasty, last)? || last {
                return Ok(());
            }
        }
    }

    /// Hands out the chunks of the block; what cannot be cut yet begins the next block. Tells whether
    /// it came to a chunk that is known.
    fn cut(&mut self, hasty: bool, last: bool) -> Result<bool> {
        let first = self.number;
        let mut ranges = Vec::new();
        let mut end = 0;
        let mut known = false;
        loop {
            let left = self.plan.group_end(self.at) - self.at;
            let ends = left <= (self.filled - end) as u64;
            let filled = if ends {
                end + left as usize
            } else {
                self.filled
            };
            let rest = &self.block.bytes()[end..filled];
            let Some(length) = next_chunk(rest, hasty, last || ends) else {
                break;
            };
            ranges.push(end..end + length);
            end += length;
            self.note(length as u32);
            known = self.plan.chunk_at(self.at).is_some();
            if known {
                break;
            }
        }
        if end == 0 {
            return Ok(false);
        }
        let full = Arc::new(std::mem::replace(&mut self.block, self.blocks.take()));
        let rest = &full.bytes()[end..self.filled];
        self.filled = rest.len();
        self.block.bytes_mut()[..rest.len()].copy_from_slice(rest);
        for (number, range) in (first..).zip(ranges) {
            let chunk = Chunk::new(number, Arc::clone(&full), range);
            self.queue.send(chunk).map_err(|_| Error::Cancelled)?;
        }
        Ok(known)
    }

    fn note(&mut self, length: u32) {
        self.at += u64::from(length);
        self.number += 1;
        self.shared.progress.chunk_cut();
    }
}

/// Returns the length of the next chunk, `None` if that takes more bytes to tell.
///
/// A cut that is found stays where it is whatever follows. Looking for it before all the bytes that
/// may be needed are there costs time if it is not there: only who is `hasty` does so.
fn next_chunk(rest: &[u8], hasty: bool, last: bool) -> Option<usize> {
    let whole = rest.len() >= CHUNK_MAX || (last && !rest.is_empty());
    if !whole && !hasty {
        return None;
    }
    let length = next_cut(rest);
    (whole || length < rest.len() & !1).then_some(length)
}
