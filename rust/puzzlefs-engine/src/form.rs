//! The form in which a build stores chunks: all that decides about blobs, besides the chunks' bytes.

use puzzlefs_core::limits::CHUNK_MAX;
use puzzlefs_core::pack::PackRule;

/// How blobs are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Blobs are the chunks.
    None,
    /// As the original writes it. Where compressing does not make a chunk smaller, the chunk is
    /// stored, but its fs-verity digest is still that of the compressed bytes.
    Upstream,
    /// Frames of this many bytes (1 to 16 MiB), where that makes them smaller.
    Frames(usize),
}

/// Compression, and which chunks share a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// How blobs are compressed.
    pub compression: Compression,
    /// Where packs end; `None` where every chunk is a blob.
    pub packs: Option<PackRule>,
}

impl Form {
    /// Returns what a trace of blobs of this form begins with, after its magic: u32 kind of
    /// compression, u32 size of frames, u64 size of packs, each 0 where there is none.
    pub fn header(&self) -> [u8; 16] {
        let (kind, frame_size) = match self.compression {
            Compression::None => (0_u32, 0),
            Compression::Upstream => (1, 0),
            Compression::Frames(size) => (2, size as u32),
        };
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&frame_size.to_le_bytes());
        bytes[8..].copy_from_slice(&self.packs.map_or(0, PackRule::average).to_le_bytes());
        bytes
    }

    /// Returns the most bytes that several chunks share a frame with.
    pub fn frame_size(&self) -> usize {
        match self.compression {
            Compression::Frames(size) => size,
            _ => CHUNK_MAX,
        }
    }
}
