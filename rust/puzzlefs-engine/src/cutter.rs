//! The first stage of a build: reads files into blocks, one after another, and cuts them into chunks.

use std::sync::Arc;

use crossbeam_channel::Sender;
use puzzlefs_core::chunk::next_cut;
use puzzlefs_core::limits::CHUNK_MAX;
use puzzlefs_core::tables::SourceRow;
use puzzlefs_core::{Error, Result};

use crate::block::{BLOCK_SIZE, Block, Blocks, Chunk};
use crate::progress::Progress;
use crate::source::SourceRoot;

/// Reads and cuts; made for one stream.
pub struct Cutter<'a> {
    root: &'a SourceRoot,
    progress: &'a Progress,
    queue: Sender<Chunk>,
    blocks: Blocks,
    block: Block,
    filled: usize,
    lengths: Vec<u32>,
}

impl<'a> Cutter<'a> {
    /// Makes a cutter that hands its chunks to `queue`.
    pub fn new(root: &'a SourceRoot, progress: &'a Progress, queue: Sender<Chunk>) -> Self {
        let mut blocks = Blocks::new();
        let block = blocks.take();
        Self {
            root,
            progress,
            queue,
            blocks,
            block,
            filled: 0,
            lengths: Vec::new(),
        }
    }

    /// Cuts the files; returns the length of each chunk in stream order.
    pub fn run(mut self, paths: &[impl AsRef<[u8]>], rows: &[SourceRow]) -> Result<Vec<u32>> {
        for (path, row) in paths.iter().zip(rows) {
            self.append(path.as_ref(), *row)?;
        }
        self.cut(true)?;
        Ok(self.lengths)
    }

    /// Appends a file's bytes, exactly as many as its row says, to the stream.
    fn append(&mut self, path: &[u8], row: SourceRow) -> Result<()> {
        self.progress.check(self.lengths.len())?;
        let file = self.root.file(path, row)?;
        let mut left = row.size;
        while left > 0 {
            if self.filled == BLOCK_SIZE {
                self.cut(false)?;
            }
            let room = &mut self.block.bytes_mut()[self.filled..];
            let wanted = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut room[..wanted])?;
            self.filled += count;
            left -= count as u64;
            self.progress.bytes_read(count);
        }
        self.progress.file_read();
        file.check()
    }

    /// Hands out the chunks of the block; what cannot be cut yet begins the next block.
    fn cut(&mut self, last: bool) -> Result<()> {
        self.progress.check(self.lengths.len())?;
        let bytes = &self.block.bytes()[..self.filled];
        let first = self.lengths.len();
        let mut rest = bytes;
        while rest.len() >= CHUNK_MAX || (last && !rest.is_empty()) {
            let length = next_cut(rest);
            rest = &rest[length..];
            self.lengths.push(length as u32);
        }
        let mut at = 0;
        let end = self.filled - rest.len();
        self.filled = rest.len();
        let full = Arc::new(std::mem::replace(&mut self.block, self.blocks.take()));
        self.block.bytes_mut()[..self.filled]
            .copy_from_slice(&full.bytes()[end..end + self.filled]);
        for number in first..self.lengths.len() {
            let range = at..at + self.lengths[number] as usize;
            at = range.end;
            self.progress.chunk_cut();
            let chunk = Chunk::new(number, Arc::clone(&full), range);
            self.queue.send(chunk).map_err(|_| Error::Cancelled)?;
        }
        Ok(())
    }
}
