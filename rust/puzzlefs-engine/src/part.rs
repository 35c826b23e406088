//! Parts of packs: what is compressed by itself, and a whole pack from its parts.

use puzzlefs_core::tables::{BlobRow, COMPRESSED};
use puzzlefs_core::{BlobFault, Digest, Result};

use crate::blob::Blob;
use crate::blobs::Blobs;
use crate::block::Chunk;
use crate::codec::{Compressor, decode_frame};
use crate::form::{Compression, Form};
use crate::hashing::{BlobHasher, verity_digest};
use crate::seek_table::{SeekTable, table_size, write_seek_table};

/// Bytes of the stream that a part owns, or the chunk in whose block they are.
pub enum Content {
    /// A chunk where it was read.
    Chunk(Chunk),
    /// Some chunks, one after another.
    Bytes(Vec<u8>),
}

/// Bytes of an earlier build's blob, before compression.
#[derive(Clone, Copy)]
pub struct Stored {
    /// Row of the blob in the trace.
    pub blob: u32,
    /// Whether it is compressed.
    pub is_compressed: bool,
    /// Whether that build made it, in the form of this one.
    pub is_own: bool,
    /// Where the bytes start, and how many they are.
    pub offset: u64,
    /// See above.
    pub length: u64,
}

/// Some bytes of a part.
pub enum Piece {
    /// Bytes that were read.
    Read(Content),
    /// Bytes that are known.
    Stored(Stored),
}

/// Chunks that are compressed together.
pub struct Part {
    /// The pack, and the part's number in it.
    pub pack: usize,
    /// See above.
    pub number: usize,
    /// The number of its first chunk in the stream.
    pub chunk: usize,
    /// Uncompressed bytes in a frame.
    pub frame_size: usize,
    /// Its bytes.
    pub pieces: Vec<Piece>,
}

/// A part as it is stored.
pub struct Encoded {
    frames: Vec<(u32, u32)>,
    compressed: Vec<u8>,
    /// The part itself, where compressing it gained nothing.
    raw: Option<Content>,
}

impl Content {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Chunk(chunk) => chunk.bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Part {
    /// Appends a chunk that was read. Its block is not kept from the reader for long: where more than one
    /// chunk comes together, they are copied.
    pub fn push(&mut self, chunk: Chunk) {
        let Some(Piece::Read(content)) = self.pieces.last_mut() else {
            self.pieces.push(Piece::Read(Content::Chunk(chunk)));
            return;
        };
        if let Content::Chunk(first) = content {
            let mut bytes = Vec::with_capacity(self.frame_size);
            bytes.extend_from_slice(first.bytes());
            *content = Content::Bytes(bytes);
        }
        if let Content::Bytes(bytes) = content {
            bytes.extend_from_slice(chunk.bytes());
        }
    }

    /// Appends bytes that are known.
    pub fn push_stored(&mut self, stored: Stored) {
        if let Some(Piece::Stored(last)) = self.pieces.last_mut()
            && last.blob == stored.blob
            && last.offset + last.length == stored.offset
        {
            last.length += stored.length;
        } else {
            self.pieces.push(Piece::Stored(stored));
        }
    }

    /// Returns the bytes of the part.
    fn content(self, blobs: &Blobs, decoded: &mut Decoded) -> Result<Content> {
        let mut pieces = self.pieces;
        if pieces.len() == 1
            && let Some(Piece::Read(content)) =
                pieces.pop_if(|piece| matches!(piece, Piece::Read(_)))
        {
            return Ok(content);
        }
        let mut bytes = Vec::with_capacity(self.frame_size);
        for piece in pieces {
            match piece {
                Piece::Read(content) => bytes.extend_from_slice(content.bytes()),
                Piece::Stored(stored) => decoded.append(blobs, stored, &mut bytes)?,
            }
        }
        Ok(Content::Bytes(bytes))
    }
}

/// The frame that was decoded last: neighbouring parts of a blob are often in the same one.
#[derive(Default)]
pub struct Decoded {
    /// Row of the blob, and number of the frame.
    place: Option<(u32, usize)>,
    content: Vec<u8>,
}

impl Decoded {
    /// Appends bytes of a blob to `to`.
    pub fn append(&mut self, blobs: &Blobs, stored: Stored, to: &mut Vec<u8>) -> Result<()> {
        blobs.with(stored.blob, |blob| self.append_from(blob, stored, to))
    }

    fn append_from(
        &mut self,
        blob: &Blob,
        stored: Stored,
        to: &mut Vec<u8>,
    ) -> std::result::Result<(), BlobFault> {
        let end = stored.offset.saturating_add(stored.length);
        if !stored.is_compressed {
            if end > blob.size() {
                return Err(BlobFault::Short);
            }
            let start = to.len();
            to.resize(start + stored.length as usize, 0);
            return blob.read(stored.offset, &mut to[start..]);
        }
        let table = blob.table()?;
        if end > table.content_size() {
            return Err(BlobFault::Short);
        }
        let mut number = table.find(stored.offset);
        while table.content_before(number) < end {
            let start = table.content_before(number);
            let size = (table.content_before(number + 1) - start) as usize;
            if self.place != Some((stored.blob, number)) {
                let frame = frame(blob, &table, number)?;
                self.place = None;
                self.content = decode_frame(&frame, size).map_err(BlobFault::Corrupt)?;
                self.place = Some((stored.blob, number));
            }
            let from = stored.offset.saturating_sub(start) as usize;
            to.extend_from_slice(&self.content[from..size.min((end - start) as usize)]);
            number += 1;
        }
        Ok(())
    }
}

fn frame(blob: &Blob, table: &SeekTable, number: usize) -> std::result::Result<Vec<u8>, BlobFault> {
    let mut bytes = vec![0; (table.before(number + 1) - table.before(number)) as usize];
    blob.read(table.before(number), &mut bytes)?;
    Ok(bytes)
}

/// A worker's own compressor, made when it is needed.
pub struct Encoder<'a> {
    form: &'a Form,
    blobs: &'a Blobs,
    compressor: Option<Compressor>,
    decoded: Decoded,
}

impl<'a> Encoder<'a> {
    /// Makes an encoder that finds known bytes in `blobs`.
    pub fn new(form: &'a Form, blobs: &'a Blobs) -> Self {
        Self {
            form,
            blobs,
            compressor: None,
            decoded: Decoded::default(),
        }
    }

    /// Compresses a part, or takes the frame that an earlier build made of the same bytes.
    pub fn encode(&mut self, part: Part) -> Result<Encoded> {
        if let Some(encoded) = self.copied(&part)? {
            return Ok(encoded);
        }
        let frame_size = part.frame_size;
        let content = part.content(self.blobs, &mut self.decoded)?;
        let mut compressed = Vec::new();
        if self.form.compression == Compression::None {
            return Ok(Encoded {
                frames: Vec::new(),
                compressed,
                raw: Some(content),
            });
        }
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            None => self.compressor.insert(Compressor::new()?),
        };
        let bytes = content.bytes();
        let frames = match self.form.compression {
            Compression::Upstream => compressor.upstream_frames(bytes, &mut compressed)?,
            _ => compressor.frames(bytes, frame_size, &mut compressed)?,
        };
        let gains = compressed.len() + table_size(frames.len()) < bytes.len();
        Ok(Encoded {
            frames,
            compressed,
            raw: (!gains).then_some(content),
        })
    }

    /// Returns the frame of an earlier blob that holds exactly this part, if there is one.
    fn copied(&self, part: &Part) -> Result<Option<Encoded>> {
        let [Piece::Stored(stored)] = part.pieces[..] else {
            return Ok(None);
        };
        if !stored.is_compressed || !stored.is_own {
            return Ok(None);
        }
        self.blobs.with(stored.blob, |blob| {
            let table = blob.table()?;
            let number = table.find(stored.offset);
            let (start, end) = (
                table.content_before(number),
                table.content_before(number + 1),
            );
            let wanted = (stored.offset, stored.offset + stored.length);
            let compressed = table.before(number + 1) - table.before(number);
            let gains = compressed + (table_size(1) as u64) < stored.length;
            if (start, end) != wanted || !gains {
                return Ok(None);
            }
            Ok(Some(Encoded {
                frames: vec![(compressed as u32, stored.length as u32)],
                compressed: frame(blob, &table, number)?,
                raw: None,
            }))
        })
    }
}

/// A pack as it is stored: its blob, and the bytes in pieces.
pub fn pack(
    form: &Form,
    sole: Option<Digest>,
    parts: Vec<Encoded>,
) -> Result<(BlobRow, Vec<Content>)> {
    if parts.iter().all(|part| part.raw.is_some()) {
        return raw_pack(form, sole, parts);
    }
    let mut frames = Vec::new();
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        frames.extend(part.frames);
        pieces.push(part.compressed);
    }
    if let Some(last) = pieces.last_mut() {
        write_seek_table(&frames, last)?;
    }
    let raw_size = frames.iter().map(|frame| u64::from(frame.1)).sum();
    let (digest, verity, size) = digests(pieces.iter().map(Vec::as_slice));
    let blob = BlobRow {
        digest,
        verity,
        size,
        raw_size,
        flags: COMPRESSED,
        reserved: 0,
    };
    Ok((blob, pieces.into_iter().map(Content::Bytes).collect()))
}

/// Returns the blob of a pack that is stored as it is. `sole` is the SHA-256 of its only chunk.
fn raw_pack(
    form: &Form,
    sole: Option<Digest>,
    mut parts: Vec<Encoded>,
) -> Result<(BlobRow, Vec<Content>)> {
    let raw = parts.iter_mut().filter_map(|part| part.raw.take());
    let pieces: Vec<Content> = raw.collect();
    let (digest, verity, size) = match (sole, &pieces[..]) {
        (Some(digest), [content]) => {
            let verity = match (form.compression, parts.pop()) {
                (Compression::Upstream, Some(mut part)) => {
                    write_seek_table(&part.frames, &mut part.compressed)?;
                    verity_digest(&part.compressed)
                }
                _ => verity_digest(content.bytes()),
            };
            (digest, verity, content.bytes().len() as u64)
        }
        _ => digests(pieces.iter().map(Content::bytes)),
    };
    let blob = BlobRow {
        digest,
        verity,
        size,
        raw_size: size,
        flags: 0,
        reserved: 0,
    };
    Ok((blob, pieces))
}

/// Returns (SHA-256, fs-verity digest, size) of bytes that come in pieces.
fn digests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Digest, Digest, u64) {
    let mut hasher = BlobHasher::new();
    let mut size = 0;
    for piece in pieces {
        hasher.update(piece);
        size += piece.len() as u64;
    }
    let (digest, verity) = hasher.finish();
    (digest, verity, size)
}
