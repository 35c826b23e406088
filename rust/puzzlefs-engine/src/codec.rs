//! Compressed blobs: Zstandard frames and, in a skippable frame after them, their seek table.
//!
//! The layout is the Zstandard seekable format: every frame can be decoded alone, and the table gives
//! its compressed and uncompressed sizes. docs/format.md §10 says what a reader rejects.

use std::cell::RefCell;
use std::io::Cursor;

use puzzlefs_core::limits::{FRAME_SIZE_LIMIT, UPSTREAM_FRAME_SIZE, ZSTD_LEVEL};
use puzzlefs_core::{Error, Result, Rule};
use zstd_safe::zstd_sys::ZSTD_EndDirective::{self, ZSTD_e_continue, ZSTD_e_end};
use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, WriteBuf};

use crate::seek_table::{FOOTER_SIZE, SeekTable, write_seek_table};

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor>> = const { RefCell::new(None) };
    static DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// A compression context; making one is dear, so a thread keeps its own.
pub struct Compressor {
    context: CCtx<'static>,
}

/// The (compressed, uncompressed) bytes of each frame.
pub type Frames = Vec<(u32, u32)>;

impl Compressor {
    /// Makes a context. Fails only where memory does.
    pub fn new() -> Result<Self> {
        let mut context =
            CCtx::try_create().ok_or(Error::Os(rustix::io::Errno::NOMEM.raw_os_error()))?;
        context
            .set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL))
            .map_err(failed)?;
        Ok(Self { context })
    }

    /// Appends `data` to `output` as frames of `frame_size` bytes.
    ///
    /// Each frame is compressed in one call, so that its header tells its size and zstd fits its
    /// tables to it. `frame_size` must be from 1 to 16 MiB.
    pub fn frames(
        &mut self,
        data: &[u8],
        frame_size: usize,
        output: &mut Vec<u8>,
    ) -> Result<Frames> {
        if frame_size == 0 || frame_size > FRAME_SIZE_LIMIT {
            return Err(Error::Contradiction(
                "frame size is not between 1 and 16777216",
            ));
        }
        let mut frames = Frames::new();
        for frame in data.chunks(frame_size) {
            let start = output.len();
            output.reserve(zstd_safe::compress_bound(frame.len()));
            let mut cursor = Cursor::new(&mut *output);
            cursor.set_position(start as u64);
            self.context.compress2(&mut cursor, frame).map_err(failed)?;
            frames.push(sizes(output.len() - start, frame.len())?);
        }
        Ok(frames)
    }

    /// Appends `data` to `output`, byte for byte as the original compresses it.
    ///
    /// The original streams 4,096 bytes into each frame without telling zstd how many will come.
    pub fn upstream_frames(&mut self, data: &[u8], output: &mut Vec<u8>) -> Result<Frames> {
        let mut frames = Frames::new();
        for frame in data.chunks(UPSTREAM_FRAME_SIZE) {
            let start = output.len();
            self.stream_frame(frame, output)?;
            frames.push(sizes(output.len() - start, frame.len())?);
        }
        Ok(frames)
    }

    fn stream_frame(&mut self, frame: &[u8], output: &mut Vec<u8>) -> Result<()> {
        self.context
            .reset(ResetDirective::SessionOnly)
            .map_err(failed)?;
        self.stream(frame, ZSTD_e_continue, output)?;
        self.stream(&[], ZSTD_e_end, output)
    }

    /// Feeds `data` to the open frame; with `e_end`, until zstd has nothing left to flush.
    fn stream(
        &mut self,
        data: &[u8],
        directive: ZSTD_EndDirective,
        output: &mut Vec<u8>,
    ) -> Result<()> {
        let mut input = InBuffer::around(data);
        loop {
            if input.pos() == data.len() && matches!(directive, ZSTD_e_continue) {
                return Ok(());
            }
            output.reserve(CCtx::out_size());
            let position = output.len();
            let mut buffer = OutBuffer::around_pos(output, position);
            let left = self
                .context
                .compress_stream2(&mut buffer, &mut input, directive)
                .map_err(failed)?;
            if left == 0 && matches!(directive, ZSTD_e_end) {
                return Ok(());
            }
        }
    }
}

fn sizes(compressed: usize, content: usize) -> Result<(u32, u32)> {
    let sizes = (u32::try_from(compressed), u32::try_from(content));
    let (Ok(compressed), Ok(content)) = sizes else {
        return Err(Error::Contradiction("a frame does not fit the seek table"));
    };
    Ok((compressed, content))
}

/// Compression of valid input fails only where memory does.
fn failed(_code: zstd_safe::ErrorCode) -> Error {
    Error::Os(rustix::io::Errno::NOMEM.raw_os_error())
}

/// Returns `data` as [`Compressor::frames`] writes it, and the seek table.
pub fn compress(data: &[u8], frame_size: usize) -> Result<Vec<u8>> {
    blob(|compressor, output| compressor.frames(data, frame_size, output))
}

/// Returns `data` as [`Compressor::upstream_frames`] writes it, and the seek table.
pub fn compress_upstream(data: &[u8]) -> Result<Vec<u8>> {
    blob(|compressor, output| compressor.upstream_frames(data, output))
}

fn blob(work: impl FnOnce(&mut Compressor, &mut Vec<u8>) -> Result<Frames>) -> Result<Vec<u8>> {
    let mut output = Vec::new();
    let frames = COMPRESSOR.with_borrow_mut(|slot| match slot {
        Some(compressor) => work(compressor, &mut output),
        None => work(slot.insert(Compressor::new()?), &mut output),
    })?;
    write_seek_table(&frames, &mut output)?;
    Ok(output)
}

/// Returns the content of a compressed blob of any frame size.
///
/// Memory grows with what was really decoded, never with what the seek table claims.
pub fn decompress(blob: &[u8]) -> std::result::Result<Vec<u8>, Rule> {
    let size = blob.len() as u64;
    let footer = blob
        .last_chunk::<FOOTER_SIZE>()
        .ok_or(Rule::SeekTableMissing)?;
    let table_size = SeekTable::size_of(footer, size)?;
    let table_start = usize::try_from(size - table_size).map_err(|_| Rule::SeekTableMissing)?;
    let table = SeekTable::parse(&blob[table_start..], size)?;
    let mut content = Vec::new();
    for number in 0..table.frames() {
        let frame = &blob[table.before(number) as usize..table.before(number + 1) as usize];
        let size = table.content_before(number + 1) - table.content_before(number);
        append_frame(frame, size as usize, &mut content)?;
    }
    Ok(content)
}

/// Returns the content of one frame, which must be exactly `size` bytes.
pub fn decode_frame(frame: &[u8], size: usize) -> std::result::Result<Vec<u8>, Rule> {
    let mut content = Vec::new();
    append_frame(frame, size, &mut content)?;
    Ok(content)
}

/// Fills `content`, all of it, with the content of one frame, which must have exactly its size.
pub fn decode_frame_into(frame: &[u8], content: &mut [u8]) -> std::result::Result<(), Rule> {
    let size = content.len();
    decode(frame, size, content)
}

/// Decodes `frame`, what stands for one frame in the seek table, to the end of `content`.
fn append_frame(frame: &[u8], size: usize, content: &mut Vec<u8>) -> std::result::Result<(), Rule> {
    content.try_reserve(size).map_err(|_| Rule::FrameDamaged)?;
    let start = content.len() as u64;
    let mut cursor = Cursor::new(content);
    cursor.set_position(start);
    decode(frame, size, &mut cursor)
}

fn decode<C: WriteBuf + ?Sized>(
    frame: &[u8],
    size: usize,
    content: &mut C,
) -> std::result::Result<(), Rule> {
    let decoded = DECODER.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) => context,
            None => slot.insert(DCtx::try_create().ok_or(Rule::FrameDamaged)?),
        };
        context
            .decompress(content, frame)
            .map_err(|_| Rule::FrameDamaged)
    })?;
    if decoded == size {
        Ok(())
    } else {
        Err(Rule::FrameDamaged)
    }
}
