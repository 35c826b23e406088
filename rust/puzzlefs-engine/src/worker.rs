//! The second stage of a build: hashes chunks, finds repeated ones, compresses and stores new ones.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Receiver;
use puzzlefs_core::tables::{BlobRow, COMPRESSED};
use puzzlefs_core::{Digest, Result};

use crate::block::Chunk;
use crate::codec::Compressor;
use crate::hashing::{blob_digests, verity_digest};
use crate::known::Known;
use crate::progress::Progress;
use crate::put::BlobDirectory;
use crate::sha_each::sha256_each;
use crate::trace::TraceBlob;

/// Chunks that a worker takes at a time: hashing them side by side is faster.
const BATCH: usize = 4;

/// How blobs are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Blobs are the chunks.
    None,
    /// As the original writes it. Where compressing does not make a chunk smaller, the chunk is
    /// stored, but its fs-verity digest is still that of the compressed bytes.
    Upstream,
    /// Frames of this many bytes (1 to 16 MiB), where that makes a chunk smaller.
    Frames(usize),
}

/// What happened to the chunks so far. A chunk's number in it is its *slot*.
#[derive(Default)]
pub struct Ledger {
    slots: HashMap<Digest, u32>,
    blobs: Vec<Option<Result<BlobRow>>>,
    stream: Vec<Option<u32>>,
}

impl Ledger {
    /// Notes the content of chunk `number`; returns its slot if that content is new.
    fn claim(&mut self, number: usize, raw: Digest) -> Option<u32> {
        let next = self.blobs.len() as u32;
        let slot = *self.slots.entry(raw).or_insert(next);
        if self.stream.len() <= number {
            self.stream.resize(number + 1, None);
        }
        self.stream[number] = Some(slot);
        if slot < next {
            return None;
        }
        self.blobs.push(None);
        Some(slot)
    }

    /// Returns the slot of chunk `number` and what became of it, if a worker finished it.
    pub fn outcome(&self, number: usize) -> Option<(usize, &Result<BlobRow>)> {
        let slot = (*self.stream.get(number)?)? as usize;
        Some((slot, self.blobs.get(slot)?.as_ref()?))
    }

    /// Returns the digest of each content that was met, and its slot.
    pub fn contents(&self) -> impl Iterator<Item = (&Digest, usize)> {
        self.slots
            .iter()
            .map(|(digest, slot)| (digest, *slot as usize))
    }

    /// Returns the number of slots.
    pub fn slots(&self) -> usize {
        self.blobs.len()
    }
}

/// What the workers of one build share.
pub struct Shared<'a> {
    /// Where blobs go.
    pub directory: &'a BlobDirectory,
    /// How they are compressed.
    pub compression: Compression,
    /// Chunks of an earlier build.
    pub known: &'a Known,
    /// Counters and the reasons to stop.
    pub progress: &'a Progress,
    /// What happened to the chunks.
    pub ledger: Mutex<Ledger>,
}

impl Shared<'_> {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until the queue ends.
    pub fn work(&self, queue: &Receiver<Chunk>) {
        let mut encoder = Encoder {
            compressor: None,
            buffer: Vec::new(),
        };
        let mut batch = Vec::with_capacity(BATCH);
        while let Ok(chunk) = queue.recv() {
            batch.push(chunk);
            batch.extend(queue.try_iter().take(BATCH - 1));
            let digests = self.hash(&batch);
            for (chunk, (raw, verity)) in batch.drain(..).zip(digests) {
                if self.progress.check(chunk.number).is_ok() {
                    self.store(&chunk, raw, verity, &mut encoder);
                }
            }
        }
    }

    /// Notes that chunk `number` is one of an earlier build, whose blob is stored.
    pub fn recall(&self, number: usize, known: &TraceBlob) {
        let mut ledger = self.ledger();
        match ledger.claim(number, known.content) {
            Some(slot) => ledger.blobs[slot as usize] = Some(Ok(known.blob)),
            None => self.progress.bytes_repeated(known.blob.raw_size as usize),
        }
    }

    /// Returns the SHA-256 of each chunk and, where chunks are stored as they are, the fs-verity
    /// digest, which beside the other costs next to nothing, for repeated chunks too.
    fn hash(&self, batch: &[Chunk]) -> Vec<(Digest, Digest)> {
        let contents = batch.iter().map(Chunk::bytes);
        if self.compression == Compression::None {
            return contents.map(blob_digests).collect();
        }
        let digests = sha256_each(&contents.collect::<Vec<_>>());
        let unknown = Digest::default();
        digests.into_iter().map(|raw| (raw, unknown)).collect()
    }

    /// Stores one chunk, unless a worker has met its content before.
    fn store(&self, chunk: &Chunk, raw: Digest, verity: Digest, encoder: &mut Encoder) {
        let claimed = self.ledger().claim(chunk.number, raw);
        let Some(slot) = claimed else {
            self.progress.bytes_repeated(chunk.bytes().len());
            return;
        };
        let result = match self.known.blob(&raw) {
            Some(blob) => Ok(blob),
            None => self.store_new(chunk.bytes(), raw, verity, encoder),
        };
        if result.is_err() {
            self.progress.fail(chunk.number);
        }
        self.ledger().blobs[slot as usize] = Some(result);
    }

    /// Stores a chunk with the SHA-256 `raw`, compressed if that is wanted, else with this `verity`.
    fn store_new(
        &self,
        chunk: &[u8],
        raw: Digest,
        verity: Digest,
        encoder: &mut Encoder,
    ) -> Result<BlobRow> {
        let (blob, content) = match self.compression {
            Compression::None => (uncompressed(chunk, raw, verity), chunk),
            compression => encoder.encode(chunk, raw, compression)?,
        };
        if self.directory.put(&blob.digest, content)? {
            self.progress.bytes_written(content.len());
        }
        Ok(blob)
    }
}

/// A worker's own compressor, made when it is needed, and its buffer.
struct Encoder {
    compressor: Option<Compressor>,
    buffer: Vec<u8>,
}

impl Encoder {
    /// Returns the blob of a chunk, compressed if that makes it smaller, and the bytes to store.
    fn encode<'a>(
        &'a mut self,
        chunk: &'a [u8],
        raw: Digest,
        compression: Compression,
    ) -> Result<(BlobRow, &'a [u8])> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            None => self.compressor.insert(Compressor::new()?),
        };
        match compression {
            Compression::Frames(size) => compressor.compress(chunk, size, &mut self.buffer)?,
            _ => compressor.compress_upstream(chunk, &mut self.buffer)?,
        }
        if self.buffer.len() >= chunk.len() {
            let measured = match compression {
                Compression::Upstream => &self.buffer,
                _ => chunk,
            };
            return Ok((uncompressed(chunk, raw, verity_digest(measured)), chunk));
        }
        let (digest, verity) = blob_digests(&self.buffer);
        let (size, raw_size) = (self.buffer.len() as u64, chunk.len() as u64);
        Ok((
            BlobRow {
                digest,
                verity,
                size,
                raw_size,
                flags: COMPRESSED,
                reserved: 0,
            },
            &self.buffer,
        ))
    }
}

/// Returns the blob of a chunk that is stored as it is.
fn uncompressed(chunk: &[u8], digest: Digest, verity: Digest) -> BlobRow {
    let size = chunk.len() as u64;
    BlobRow {
        digest,
        verity,
        size,
        raw_size: size,
        flags: 0,
        reserved: 0,
    }
}
