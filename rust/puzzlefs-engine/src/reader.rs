//! File contents of one image.

use std::mem;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use puzzlefs_core::index::Index;
use puzzlefs_core::{BlobFault, Result, Rule};

use crate::blob::{self, Blob, Verify};
use crate::blobs::Blobs;
use crate::cache::{Found, Frame, FrameCache};
use crate::codec::{decode_frame, decode_frame_into};
use crate::extract::Extraction;
use crate::seek_table::SeekTable;
use crate::waiting;

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
        let end = part.offset + buffer.len() as u64;
        let frames = table.find(part.offset)..table.find(end - 1) + 1;
        let whole = whole_frames(&table, &frames, part.offset..end);
        for number in (frames.start..whole.start).chain(whole.end..frames.end) {
            let frame = self.frame(part.blob, &table, number)?;
            copy_overlap(table.content_before(number), &frame, part.offset, buffer);
        }
        let inside = |frame| (table.content_before(frame).saturating_sub(part.offset)) as usize;
        let length = buffer.len();
        let buffer = &mut buffer[inside(whole.start).min(length)..inside(whole.end).min(length)];
        self.fill_frames(part.blob, &table, whole, buffer)
    }

    /// Returns a frame of which others may want a part too: it is kept.
    fn frame(&self, blob: u32, table: &SeekTable, number: usize) -> Result<Frame> {
        let claim = match self.cache.get(blob, number) {
            Found::Frame(frame) => return Ok(frame),
            Found::Claim(claim) => claim,
        };
        let mut frame = Frame::default();
        self.decode(blob, table, number..number + 1, |number, stored| {
            frame = Arc::new(decode_frame(stored, frame_size(table, number))?);
            Ok(())
        })?;
        claim.keep(&frame);
        Ok(frame)
    }

    /// Fills `buffer` with whole frames. They are not kept: whoever reads so much has it in its own
    /// cache, and it would drive out what small reads share.
    fn fill_frames(
        &self,
        blob: u32,
        table: &SeekTable,
        frames: Range<usize>,
        buffer: &mut [u8],
    ) -> Result<()> {
        let mut rest = buffer;
        let mut frames = frames;
        for frame in self.cache.run(blob, frames.start, frames.len()) {
            let (now, later) = rest.split_at_mut(frame.len());
            now.copy_from_slice(&frame);
            rest = later;
            frames.start += 1;
        }
        self.decode(blob, table, frames, |number, stored| {
            let (now, later) = mem::take(&mut rest).split_at_mut(frame_size(table, number));
            rest = later;
            decode_frame_into(stored, now)
        })
    }

    /// Reads neighbouring frames of a blob, many in one go, and gives each one's number and stored
    /// bytes to `take`.
    fn decode(
        &self,
        blob: u32,
        table: &SeekTable,
        frames: Range<usize>,
        mut take: impl FnMut(usize, &[u8]) -> std::result::Result<(), Rule>,
    ) -> Result<()> {
        let content = |number| table.content_before(number);
        waiting::expect_work(content(frames.end) - content(frames.start));
        let mut next = frames.start;
        while next < frames.end {
            let part = next..table.span(next, frames.end, SPAN);
            next = part.end;
            self.blobs.with(blob, |blob| {
                let start = table.before(part.start);
                let mut stored = vec![0; (table.before(part.end) - start) as usize];
                blob.read(start, &mut stored)?;
                part.into_iter().try_for_each(|number| {
                    let from = (table.before(number) - start) as usize;
                    let to = (table.before(number + 1) - start) as usize;
                    take(number, &stored[from..to]).map_err(BlobFault::Corrupt)
                })
            })?;
        }
        Ok(())
    }
}

/// Returns the uncompressed bytes of a frame.
fn frame_size(table: &SeekTable, number: usize) -> usize {
    (table.content_before(number + 1) - table.content_before(number)) as usize
}

/// Returns those of `frames`, which reach over `wanted`, that lie wholly in it: all but the first and
/// the last, and perhaps these.
fn whole_frames(table: &SeekTable, frames: &Range<usize>, wanted: Range<u64>) -> Range<usize> {
    let cut_before = table.content_before(frames.start) < wanted.start;
    let cut_after = table.content_before(frames.end) > wanted.end;
    let start = frames.start + usize::from(cut_before);
    start..(frames.end - usize::from(cut_after)).max(start)
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
