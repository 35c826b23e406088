//! What a build leaves for the next one of the same tree: the *trace* of its stream.
//!
//! Little-endian, without padding: the eight bytes `PZTRACE1`; u32 kind of compression (0, 1, 2) and
//! u32 frame size (0 where frames have no size of their own); u64 number of files, of blobs, of
//! chunks. Then for each file with content, in stream order, its identity (16 bytes) and u64 size;
//! for each blob the SHA-256 of the chunk and its [`BlobRow`]; for each chunk in stream order, u32
//! row of its blob.

use puzzlefs_core::Digest;
use puzzlefs_core::digest::Sha256;
use puzzlefs_core::limits::CHUNK_MAX;
use puzzlefs_core::tables::{BlobRow, COMPRESSED, Record as _, SourceRow};

use crate::worker::Compression;

const MAGIC: &[u8; 8] = b"PZTRACE1";
const NANO: i64 = 1_000_000_000;

/// Names a path together with all that the system said of its file: a changed file has another.
pub type Identity = [u8; 16];
/// The identity of a file that may have changed without a sign.
pub const UNKNOWN: Identity = [0; 16];

/// A file with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceFile {
    /// Its identity, or [`UNKNOWN`].
    pub identity: Identity,
    /// Bytes in it.
    pub size: u64,
}

/// A blob, and the digest of the chunk that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceBlob {
    /// SHA-256 of the uncompressed chunk.
    pub content: Digest,
    /// What is stored for it.
    pub blob: BlobRow,
}

/// The trace of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The files with content, in stream order.
    pub files: Vec<TraceFile>,
    /// The blobs, one for each distinct chunk.
    pub blobs: Vec<TraceBlob>,
    /// For each chunk in stream order its row in `blobs`.
    pub chunks: Vec<u32>,
}

impl TraceFile {
    /// Describes a file as it was scanned.
    ///
    /// Two kinds of change times are no evidence that a file is still what it was: those from
    /// `horizon` (nanoseconds) on, because a later change may fall into the same tick of the clock,
    /// and whole seconds, because filesystems that make times up, or take them from an image, give such.
    pub fn new(path: &[u8], row: &SourceRow, horizon: i64) -> Self {
        let size = row.size;
        if row.ctime >= horizon || row.ctime % NANO == 0 {
            return Self {
                identity: UNKNOWN,
                size,
            };
        }
        let mut bytes = Vec::with_capacity(SourceRow::SIZE);
        row.write(&mut bytes);
        let mut hasher = Sha256::new();
        hasher.update(&bytes);
        hasher.update(path);
        let mut identity = UNKNOWN;
        identity.copy_from_slice(&hasher.finish()[..16]);
        Self { identity, size }
    }
}

impl Trace {
    /// Reads a trace; whatever is none, or one of blobs that are compressed otherwise, is as good as
    /// an empty one.
    pub fn read(bytes: &[u8], compression: Compression) -> Self {
        Self::parse(bytes, compression)
            .filter(Self::is_consistent)
            .unwrap_or_default()
    }

    fn parse(bytes: &[u8], compression: Compression) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&header(compression))?;
        let mut counts = [0; 3];
        for count in &mut counts {
            *count = usize::try_from(number(&mut rest)?).ok()?;
        }
        let [files, blobs, chunks] = counts;
        let files = table(&mut rest, files, 24)?;
        let blobs = table(&mut rest, blobs, 32 + BlobRow::SIZE)?;
        let chunks = table(&mut rest, chunks, 4)?;
        let trace = Self {
            files: files.map(read_file).collect::<Option<_>>()?,
            blobs: blobs.map(read_blob).collect::<Option<_>>()?,
            chunks: chunks.map(read_chunk).collect::<Option<_>>()?,
        };
        rest.is_empty().then_some(trace)
    }

    /// Tells whether the chunks are some, and as many bytes as the files.
    fn is_consistent(&self) -> bool {
        let sizes = self.files.iter().map(|file| Some(file.size));
        let lengths = self.chunks.iter().map(|&row| self.length(row));
        let known = |blob: &TraceBlob| {
            (1..=CHUNK_MAX as u64).contains(&blob.blob.raw_size)
                && blob.blob.flags & !COMPRESSED == 0
        };
        let total = sum(sizes);
        self.blobs.iter().all(known) && total.is_some() && total == sum(lengths)
    }

    /// Returns the bytes of the chunk in a blob, `None` for a row that there is not.
    pub fn length(&self, row: u32) -> Option<u64> {
        Some(self.blobs.get(row as usize)?.blob.raw_size)
    }

    /// Returns the bytes of a trace.
    pub fn write(&self, compression: Compression) -> Vec<u8> {
        let mut bytes = header(compression).to_vec();
        for count in [self.files.len(), self.blobs.len(), self.chunks.len()] {
            bytes.extend_from_slice(&(count as u64).to_le_bytes());
        }
        for file in &self.files {
            bytes.extend_from_slice(&file.identity);
            bytes.extend_from_slice(&file.size.to_le_bytes());
        }
        for blob in &self.blobs {
            bytes.extend_from_slice(&blob.content);
            blob.blob.write(&mut bytes);
        }
        for row in &self.chunks {
            bytes.extend_from_slice(&row.to_le_bytes());
        }
        bytes
    }
}

fn header(compression: Compression) -> [u8; 16] {
    let (kind, frame_size) = match compression {
        Compression::None => (0_u32, 0),
        Compression::Upstream => (1, 0),
        Compression::Frames(size) => (2, size as u32),
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&kind.to_le_bytes());
    bytes[12..].copy_from_slice(&frame_size.to_le_bytes());
    bytes
}

fn number(from: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u64::from_le_bytes(*bytes))
}

/// Takes `count` rows of `width` bytes off the front.
fn table<'a>(
    from: &mut &'a [u8],
    count: usize,
    width: usize,
) -> Option<std::slice::ChunksExact<'a, u8>> {
    let (rows, rest) = from.split_at_checked(count.checked_mul(width)?)?;
    *from = rest;
    Some(rows.chunks_exact(width))
}

fn read_file(row: &[u8]) -> Option<TraceFile> {
    let (identity, mut rest) = row.split_first_chunk()?;
    Some(TraceFile {
        identity: *identity,
        size: number(&mut rest)?,
    })
}

fn read_blob(row: &[u8]) -> Option<TraceBlob> {
    let (content, rest) = row.split_first_chunk()?;
    Some(TraceBlob {
        content: *content,
        blob: BlobRow::read(rest)?,
    })
}

fn read_chunk(row: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(row.try_into().ok()?))
}

fn sum(mut numbers: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    numbers.try_fold(0_u64, |total, number| total.checked_add(number?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let blob = BlobRow {
            digest: [1; 32],
            verity: [2; 32],
            size: 3,
            raw_size: 4,
            flags: 1,
            reserved: 0,
        };
        Trace {
            files: vec![TraceFile {
                identity: [5; 16],
                size: 8,
            }],
            blobs: vec![TraceBlob {
                content: [6; 32],
                blob,
            }],
            chunks: vec![0, 0],
        }
    }

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let trace = trace();
        let form = Compression::Frames(65536);
        let bytes = trace.write(form);
        assert_eq!(Trace::read(&bytes, form), trace);
        assert_eq!(Trace::read(&bytes, Compression::None), Trace::default());
        for length in 0..bytes.len() {
            assert_eq!(Trace::read(&bytes[..length], form), Trace::default());
        }
        assert_eq!(
            Trace::read(&[bytes, vec![0]].concat(), form),
            Trace::default()
        );
    }

    #[test]
    fn contradictions_make_it_worthless() {
        let form = Compression::None;
        let spoil: [fn(&mut Trace); 5] = [
            |trace| trace.files[0].size = 9,
            |trace| trace.files[0].size = u64::MAX,
            |trace| trace.chunks[1] = 1,
            |trace| trace.blobs[0].blob.raw_size = 0,
            |trace| trace.blobs[0].blob.flags = 2,
        ];
        for spoil in spoil {
            let mut trace = trace();
            spoil(&mut trace);
            assert_eq!(Trace::read(&trace.write(form), form), Trace::default());
        }
    }

    #[test]
    fn fresh_and_made_up_times_are_no_evidence() {
        let row = |ctime| SourceRow {
            size: 1,
            device: 2,
            inode: 3,
            mtime: 4,
            ctime,
        };
        let identity = |ctime| TraceFile::new(b"path", &row(ctime), 100).identity;
        assert_ne!(identity(99), UNKNOWN);
        assert_ne!(identity(99), identity(98));
        for unknown in [100, 101, 0, -NANO] {
            assert_eq!(identity(unknown), UNKNOWN);
        }
    }
}
