//! File contents of one image.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use puzzlefs_core::index::Index;
use puzzlefs_core::{BlobFault, Result};

use crate::blob::{self, Blob, Verify};
use crate::blobs::Blobs;
use crate::cache::{Frame, FrameCache};
use crate::codec::decode_frame;
use crate::extract::Extraction;
use crate::seek_table::SeekTable;

/// Frames that are looked up in the cache at a time.
const BATCH: usize = 64;
/// Compressed bytes that are read at a time, unless one frame alone has more.
const SPAN: usize = 256 << 10;
/// Bytes that [`Reader::read`] and [`Reader::extract`] read at a time.
const STEP: usize = 1 << 20;
/// A file of more bytes gets its size first, so that one which the disk can never take costs no work.
const LARGE: u64 = 1 << 30;

/// Reads files of an image; threads may share it.
pub struct Reader {
    index: Arc<Index>,
    blobs: Blobs,
    cache: FrameCache,
}

/// A part of a blob that is wanted.
struct Part {
    blob: u32,
    offset: u64,
    /// Where the chunk ends, of which it is a part; the blob must reach there.
    chunk_end: u64,
}

impl Reader {
    /// Reads blobs from `directory`, which holds them by hex digest, and keeps up to `cache_size`
    /// bytes of decompressed data.
    pub fn new(index: Arc<Index>, directory: &[u8], verify: Verify, cache_size: usize) -> Self {
        let blobs = Blobs::new(index.blobs(), directory, verify);
        Self {
            index,
            blobs,
            cache: FrameCache::new(cache_size),
        }
    }

    /// Returns the image's tree.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Returns how many of `size` bytes a file has from `offset`. Fails with `NoInode`.
    pub fn available(&self, ino: u64, offset: u64, size: u64) -> Result<u64> {
        Ok(self
            .index
            .layout(ino)?
            .size()
            .saturating_sub(offset)
            .min(size))
    }

    /// Fills `buffer`, as far as the file goes, with its bytes from `offset`. Fails with `NoInode` or
    /// an error that names the blob.
    pub fn read_into(&self, ino: u64, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut rest = buffer;
        // Ranges to the file's end, so that each tells where its chunk ends.
        for range in self.index.layout(ino)?.ranges(offset, u64::MAX) {
            if rest.is_empty() {
                break;
            }
            let length = usize::try_from(range.length)
                .unwrap_or(usize::MAX)
                .min(rest.len());
            let (now, later) = rest.split_at_mut(length);
            let chunk_end = range.offset.saturating_add(range.length);
            let part = Part {
                blob: range.blob,
                offset: range.offset,
                chunk_end,
            };
            if range.compressed {
                self.read_frames(&part, now)?;
            } else {
                self.blobs
                    .with(part.blob, |blob| read_stored(blob, &part, now))?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Returns up to `size` bytes of a file from `offset`; short only at its end. Memory grows with
    /// what was really read, never with what the image claims.
    pub fn read(&self, ino: u64, offset: u64, size: u64) -> Result<Vec<u8>> {
        let available = self.available(ino, offset, size)?;
        let mut content = Vec::new();
        while (content.len() as u64) < available {
            let start = content.len();
            let step = (available - start as u64).min(STEP as u64) as usize;
            content.resize(start + step, 0);
            self.read_into(ino, offset + start as u64, &mut content[start..])?;
        }
        Ok(content)
    }

    /// Writes a whole file to the empty regular file `to`, leaving holes for aligned blocks of zeros,
    /// and sets its size. Also fails with `Os`.
    pub fn extract(&self, ino: u64, to: BorrowedFd<'_>) -> Result<()> {
        self.extract_with(ino, to, &mut Vec::new())
    }

    /// Does what [`Reader::extract`] does; `buffer` is for use by one file after another.
    pub(crate) fn extract_with(
        &self,
        ino: u64,
        to: BorrowedFd<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let size = self.index.layout(ino)?.size();
        let mut extraction = Extraction::new(to);
        if size > LARGE {
            extraction.reserve(size)?;
        }
        while extraction.position() < size {
            let step = (size - extraction.position()).min(STEP as u64) as usize;
            if buffer.len() < step {
                buffer.resize(step, 0);
            }
            let content = &mut buffer[..step];
            self.read_into(ino, extraction.position(), content)?;
            extraction.write(content)?;
        }
        extraction.finish()
    }

    /// Fills `buffer` from the frames of a compressed blob.
    fn read_frames(&self, part: &Part, buffer: &mut [u8]) -> Result<()> {
        let table = self.blobs.with(part.blob, |blob| {
            let table = blob.table()?;
            if part.chunk_end > table.content_size() {
                return Err(BlobFault::Short);
            }
            Ok(table)
        })?;
        let last = table.find(part.offset + buffer.len() as u64 - 1);
        let mut next = table.find(part.offset);
        while next <= last {
            let batch = next..(last + 1).min(next + BATCH);
            next = batch.end;
            for (number, frame) in batch.clone().zip(self.frames(part.blob, &table, batch)?) {
                copy_overlap(table.content_before(number), &frame, part.offset, buffer);
            }
        }
        Ok(())
    }

    /// Returns decoded frames, from the cache or else from the blob.
    fn frames(&self, blob: u32, table: &SeekTable, batch: Range<usize>) -> Result<Vec<Frame>> {
        let mut kept = vec![None; batch.len()];
        self.cache.get(blob, batch.start, &mut kept);
        let mut frames = Vec::with_capacity(batch.len());
        while frames.len() < kept.len() {
            let at = frames.len();
            if let Some(frame) = kept[at].take() {
                frames.push(frame);
                continue;
            }
            let missing = kept[at..]
                .iter()
                .take_while(|frame| frame.is_none())
                .count();
            let first = batch.start + at;
            let run = first..table.span(first, first + missing, SPAN);
            for (number, frame) in run.clone().zip(self.decode(blob, table, run)?) {
                self.cache.insert(blob, number, &frame);
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    /// Reads neighbouring frames of a blob in one go and decodes them.
    fn decode(&self, blob: u32, table: &SeekTable, run: Range<usize>) -> Result<Vec<Frame>> {
        self.blobs.with(blob, |blob| {
            let start = table.before(run.start);
            let mut stored = vec![0; (table.before(run.end) - start) as usize];
            blob.read(start, &mut stored)?;
            let decode = |number| {
                let bytes = (table.before(number) - start) as usize
                    ..(table.before(number + 1) - start) as usize;
                let size =
                    (table.content_before(number + 1) - table.content_before(number)) as usize;
                let frame = decode_frame(&stored[bytes], size).map_err(BlobFault::Corrupt)?;
                Ok(Arc::new(frame))
            };
            run.map(decode).collect()
        })
    }
}

/// Fills `buffer` from a blob that is stored as it is.
fn read_stored(blob: &Blob, part: &Part, buffer: &mut [u8]) -> blob::Result<()> {
    if part.chunk_end > blob.size() {
        return Err(BlobFault::Short);
    }
    blob.read(part.offset, buffer)
}

/// Copies the bytes that `frame`, which starts at `start`, and `buffer`, at `offset`, have in common.
fn copy_overlap(start: u64, frame: &[u8], offset: u64, buffer: &mut [u8]) {
    let from = start.max(offset);
    let to = (start + frame.len() as u64).min(offset + buffer.len() as u64);
    if from < to {
        let source = &frame[(from - start) as usize..(to - start) as usize];
        buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
    }
}
