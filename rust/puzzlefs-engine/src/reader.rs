//! File contents of one image.

use std::mem;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use puzzlefs_core::index::Index;
use puzzlefs_core::{BlobFault, Result, Rule};

use crate::blob::{self, Blob, Verify};
use crate::blobs::Blobs;
use crate::cache::{FrameCache, Key};
use crate::codec::decode_frame_into;
use crate::decoder::Contexts;
use crate::extract::Extraction;
use crate::frame::{Change, Frame};
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
    contexts: Arc<Contexts>,
    /// Frames that are decoded in part, the last one begun at the end.
    begun: Mutex<Vec<Begun>>,
    /// Held by whoever finishes them.
    finishing: Mutex<()>,
}

/// A frame that is decoded in part, unless it was forgotten or read further meanwhile.
struct Begun {
    frame: Weak<Frame>,
    place: Place,
}

impl Begun {
    fn is_left(&self) -> bool {
        let frame = self.frame.upgrade();
        frame.is_some_and(|frame| frame.whole().is_none())
    }
}

/// Where a frame is.
#[derive(Clone)]
struct Place {
    key: Key,
    /// Uncompressed bytes of the blob before it.
    start: u64,
    size: usize,
}

impl Place {
    fn new(blob: u32, table: &SeekTable, number: usize) -> Self {
        Self {
            key: (blob, number),
            start: table.content_before(number),
            size: frame_size(table, number),
        }
    }

    /// Returns which of its bytes are among the `length` bytes from `offset` in the blob.
    fn overlap(&self, offset: u64, length: usize) -> Range<usize> {
        let inside = |at: u64| at.saturating_sub(self.start).min(self.size as u64) as usize;
        inside(offset)..inside(offset + length as u64)
    }
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
            contexts: Arc::default(),
            begun: Mutex::default(),
            finishing: Mutex::default(),
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
            self.copy_overlap(part, &table, number, buffer)?;
        }
        let inside = |frame| (table.content_before(frame).saturating_sub(part.offset)) as usize;
        let length = buffer.len();
        let buffer = &mut buffer[inside(whole.start).min(length)..inside(whole.end).min(length)];
        self.fill_frames(part.blob, &table, whole, buffer)
    }

    /// Copies the bytes that a frame and `buffer` have in common. Others may want the rest of the frame: it
    /// is kept.
    fn copy_overlap(
        &self,
        part: &Part,
        table: &SeekTable,
        number: usize,
        buffer: &mut [u8],
    ) -> Result<()> {
        let place = Place::new(part.blob, table, number);
        let wanted = place.overlap(part.offset, buffer.len());
        if wanted.is_empty() {
            return Ok(());
        }
        let to = (place.start + wanted.start as u64 - part.offset) as usize;
        let buffer = &mut buffer[to..to + wanted.len()];
        let frame = self.cache.get(place.key, place.size);
        let copied = self.blobs.with(part.blob, |blob| {
            let read = || read_frames(blob, table, number..number + 1);
            frame.with(wanted.end, &self.contexts, read, |content| {
                buffer.copy_from_slice(&content[wanted]);
            })
        });
        match copied {
            Ok(((), change)) => self.note(&place, &frame, change),
            Err(_) => self.cache.forget(place.key, &frame),
        }
        copied.map(drop)
    }

    /// Notes what became of a frame.
    fn note(&self, place: &Place, frame: &Arc<Frame>, change: Change) {
        match change {
            Change::None => {}
            Change::Begun(more) => {
                self.cache.weigh(place.key, frame, place.size + more);
                let (frame, place) = (Arc::downgrade(frame), place.clone());
                let mut begun = lock(&self.begun);
                begun.retain(Begun::is_left);
                begun.push(Begun { frame, place });
            }
            Change::Finished => self.cache.weigh(place.key, frame, place.size),
        }
    }

    /// Tells whether there is something for [`Reader::finish`], and nobody at it.
    pub(crate) fn has_begun(&self) -> bool {
        !lock(&self.begun).is_empty() && self.finishing.try_lock().is_ok()
    }

    /// Decodes the rest of what reads have left, unless another thread is at that.
    pub(crate) fn finish(&self) {
        let Ok(_guard) = self.finishing.try_lock() else {
            return;
        };
        loop {
            let last = lock(&self.begun).pop();
            let Some(begun) = last else {
                return;
            };
            if let Some(frame) = begun.frame.upgrade()
                && frame.finish()
            {
                self.note(&begun.place, &frame, Change::Finished);
            }
        }
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
            let Some(content) = frame.whole() else {
                break;
            };
            let (now, later) = rest.split_at_mut(content.len());
            now.copy_from_slice(content);
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
                let stored = read_frames(blob, table, part.clone())?;
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

/// Returns what is stored of neighbouring frames.
fn read_frames(blob: &Blob, table: &SeekTable, frames: Range<usize>) -> blob::Result<Vec<u8>> {
    let (start, end) = (table.before(frames.start), table.before(frames.end));
    let mut stored = vec![0; (end - start) as usize];
    blob.read(start, &mut stored)?;
    Ok(stored)
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

/// Locks; a thread that panicked while it held the lock left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
