//! Parts of packs as they are stored, and a whole pack from its parts.

use puzzlefs_core::tables::{BlobRow, COMPRESSED};
use puzzlefs_core::{Digest, Result};

use crate::blobs::Blobs;
use crate::buffers::{Buffer, Buffers};
use crate::codec::Compressor;
use crate::form::{Compression, Form};
use crate::hashing::{BlobHasher, verity_digest};
use crate::part::{Content, Decoded, Part, Piece, read_frame};
use crate::seek_table::{table_size, write_seek_table};

/// A part as it is stored.
pub struct Encoded {
    frames: Vec<(u32, u32)>,
    compressed: Buffer,
    /// The part itself, where compressing it gained nothing.
    raw: Option<Content>,
}

/// A worker's own compressor, made when it is needed.
pub struct Encoder<'a> {
    form: &'a Form,
    blobs: &'a Blobs,
    buffers: &'a Buffers,
    compressor: Option<Compressor>,
    decoded: Decoded,
}

impl<'a> Encoder<'a> {
    /// Makes an encoder that finds known bytes in `blobs`.
    pub fn new(form: &'a Form, blobs: &'a Blobs, buffers: &'a Buffers) -> Self {
        Self {
            form,
            blobs,
            buffers,
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
        let content = part.content(self.blobs, &mut self.decoded, self.buffers)?;
        let mut compressed = self.buffers.take(0);
        if self.form.compression == Compression::None {
            return Ok(Encoded {
                frames: Vec::new(),
                compressed,
                raw: Some(self.kept(content)),
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
            raw: (!gains).then(|| self.kept(content)),
        })
    }

    /// Returns the bytes of a part that waits for the rest of its pack: the reader, which makes the rest, needs its
    /// blocks for that.
    fn kept(&self, content: Content) -> Content {
        Content::Bytes(content.copied(self.buffers, 0))
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
            let mut bytes = self.buffers.take(0);
            read_frame(blob, &table, number, &mut bytes)?;
            Ok(Some(Encoded {
                frames: vec![(compressed as u32, stored.length as u32)],
                compressed: bytes,
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
    let (digest, verity, size) = digests(pieces.iter().map(|piece| piece.as_slice()));
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
