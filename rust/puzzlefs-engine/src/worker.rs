//! The second stage of a build: threads that hash chunks, compress parts of packs, and store packs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, select};
use puzzlefs_core::Result;
use puzzlefs_core::tables::{BlobRow, ContentRow};

use crate::blobs::Blobs;
use crate::block::Chunk;
use crate::buffers::Buffers;
use crate::encoder::{Encoder, pack};
use crate::form::Form;
use crate::packer::{Complete, Item, Packer};
use crate::part::{Content, Part};
use crate::progress::Progress;
use crate::put::BlobDirectory;
use crate::sha_each::sha256_each;

/// Chunks that a worker takes at a time: hashing them side by side is faster.
const BATCH: usize = 4;

/// What the workers of one build share.
pub struct Shared<'a, 'b> {
    /// Where blobs go.
    pub directory: &'a BlobDirectory,
    /// Where those of an earlier build are.
    pub known: &'a Blobs,
    /// How they are stored.
    pub form: &'a Form,
    /// Memory for parts of packs.
    pub buffers: Buffers,
    /// Counters and the reasons to stop.
    pub progress: &'a Progress,
    /// What happened to the chunks.
    pub packer: Mutex<Packer<'b>>,
}

impl<'b> Shared<'_, 'b> {
    /// Gives access to what happened to the chunks.
    pub fn packer(&self) -> MutexGuard<'_, Packer<'b>> {
        self.packer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until both queues end. Parts go first, so that few chunks wait in them.
    pub fn work(&self, chunks: &Receiver<Chunk>, parts: &Receiver<Part>) {
        let mut encoder = Encoder::new(self.form, self.known, &self.buffers);
        loop {
            if let Ok(part) = parts.try_recv() {
                self.encode(part, &mut encoder);
                continue;
            }
            select! {
                recv(parts) -> part => match part {
                    Ok(part) => self.encode(part, &mut encoder),
                    Err(_) => return,
                },
                recv(chunks) -> chunk => match chunk {
                    Ok(chunk) => self.hash(chunk, chunks),
                    Err(_) => break,
                },
            }
        }
        for part in parts {
            self.encode(part, &mut encoder);
        }
    }

    /// Notes that chunk `number` is one of an earlier build.
    pub fn recall(&self, number: usize, known: &ContentRow) {
        let item = Item {
            content: known.content,
            length: known.length,
            chunk: None,
        };
        self.packer().take(number, item);
    }

    fn hash(&self, first: Chunk, more: &Receiver<Chunk>) {
        let mut batch = Vec::with_capacity(BATCH);
        batch.push(first);
        batch.extend(more.try_iter().take(BATCH - 1));
        let contents: Vec<&[u8]> = batch.iter().map(Chunk::bytes).collect();
        let digests = sha256_each(&contents);
        let mut packer = self.packer();
        for (chunk, content) in batch.into_iter().zip(digests) {
            let number = chunk.number;
            let item = Item {
                content,
                length: chunk.bytes().len() as u32,
                chunk: Some(chunk),
            };
            packer.take(number, item);
        }
    }

    fn encode(&self, part: Part, encoder: &mut Encoder<'_>) {
        if self.progress.check(part.chunk).is_err() {
            return;
        }
        let (number, place) = (part.pack, part.number);
        let encoded = encoder.encode(part);
        let complete = self.packer().encoded(number, place, encoded);
        if let Some(complete) = complete {
            let number = complete.pack;
            let blob = self.store(complete);
            self.packer().settle(number, blob);
        }
    }

    /// Stores a pack.
    fn store(&self, complete: Complete) -> Result<BlobRow> {
        let (blob, pieces) = pack(self.form, complete.sole, complete.parts)?;
        let pieces: Vec<&[u8]> = pieces.iter().map(Content::bytes).collect();
        if self.directory.put(&blob.digest, &pieces)? {
            self.progress.bytes_written(blob.size as usize);
        }
        Ok(blob)
    }
}
