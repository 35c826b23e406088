//! What a build leaves for the next one of the same tree: the *trace* of its stream.
//!
//! Little-endian, without padding: the eight bytes `PZTRACE3` and the [`Form::header`]; u64 number of
//! files, of blobs, of distinct chunks, of all chunks, of group starts. Then for each file with content, in stream
//! order, its identity (16 bytes) and u64 size; for each blob its [`BlobRow`]; for each distinct chunk
//! its SHA-256, u32 row of its blob, u32 length, u64 offset in the blob's uncompressed bytes; for each
//! chunk in stream order, u32 row of the distinct chunk; u64 position of each group's start but the first.

use puzzlefs_core::digest::Sha256;
use puzzlefs_core::limits::CHUNK_MAX;
use puzzlefs_core::tables::{BlobRow, COMPRESSED, ContentRow, Record as _, SourceRow};

use crate::form::Form;
use crate::status::{Identity, UNKNOWN, is_evidence};

const MAGIC: &[u8; 8] = b"PZTRACE3";

/// A file with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceFile {
    /// Names its path together with all that the system said of it; [`UNKNOWN`] where that may be no evidence.
    pub identity: Identity,
    /// Bytes in it.
    pub size: u64,
}

/// The trace of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The files with content, in stream order.
    pub files: Vec<TraceFile>,
    /// The blobs, in order of first use.
    pub blobs: Vec<BlobRow>,
    /// The distinct chunks, in order of first use.
    pub chunks: Vec<ContentRow>,
    /// For each chunk in stream order its row in `chunks`.
    pub stream: Vec<u32>,
    /// Where in the stream its groups but the first begin.
    pub groups: Vec<u64>,
}

impl TraceFile {
    /// Describes a file as it was scanned; for `horizon` see [`is_evidence`].
    pub fn new(path: &[u8], row: &SourceRow, horizon: i64) -> Self {
        let size = row.size;
        if !is_evidence(row.ctime, horizon) {
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
    /// Reads a trace; whatever is none, or one of blobs of another form, is as good as an empty one.
    pub fn read(bytes: &[u8], form: &Form) -> Self {
        Self::parse(bytes, form)
            .filter(Self::is_consistent)
            .unwrap_or_default()
    }

    fn parse(bytes: &[u8], form: &Form) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&form.header())?;
        let mut counts = [0; 5];
        for count in &mut counts {
            *count = usize::try_from(number(&mut rest)?).ok()?;
        }
        let [files, blobs, chunks, stream, groups] = counts;
        let files = table(&mut rest, files, 24)?;
        let blobs = table(&mut rest, blobs, BlobRow::SIZE)?;
        let chunks = table(&mut rest, chunks, ContentRow::SIZE)?;
        let stream = table(&mut rest, stream, 4)?;
        let groups = table(&mut rest, groups, 8)?;
        let trace = Self {
            files: files.map(read_file).collect::<Option<_>>()?,
            blobs: blobs.map(BlobRow::read).collect::<Option<_>>()?,
            chunks: chunks.map(ContentRow::read).collect::<Option<_>>()?,
            stream: stream.map(read_row).collect::<Option<_>>()?,
            groups: groups
                .map(|mut row| number(&mut row))
                .collect::<Option<_>>()?,
        };
        rest.is_empty().then_some(trace)
    }

    /// Tells whether the chunks are some, each inside its blob, and as many bytes as the files.
    fn is_consistent(&self) -> bool {
        let sizes = self.files.iter().map(|file| Some(file.size));
        let lengths = self.stream.iter().map(|&row| self.length(row));
        let flagged = |blob: &BlobRow| blob.flags & !COMPRESSED == 0;
        let total = sum(sizes);
        self.blobs.iter().all(flagged)
            && self.chunks.iter().all(|chunk| self.is_stored(chunk))
            && total.is_some()
            && total == sum(lengths)
            && self.groups.is_sorted()
    }

    fn is_stored(&self, chunk: &ContentRow) -> bool {
        let end = chunk.offset.checked_add(u64::from(chunk.length));
        let blob = self.blobs.get(chunk.blob as usize);
        (1..=CHUNK_MAX as u32).contains(&chunk.length)
            && end
                .zip(blob)
                .is_some_and(|(end, blob)| end <= blob.raw_size)
    }

    /// Returns the bytes of a chunk by its row, `None` for a row that there is not.
    pub fn length(&self, row: u32) -> Option<u64> {
        Some(u64::from(self.chunks.get(row as usize)?.length))
    }

    /// Returns the bytes of a trace.
    pub fn write(&self, form: &Form) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&form.header());
        let counts = [
            self.files.len(),
            self.blobs.len(),
            self.chunks.len(),
            self.stream.len(),
            self.groups.len(),
        ];
        for count in counts {
            bytes.extend_from_slice(&(count as u64).to_le_bytes());
        }
        for file in &self.files {
            bytes.extend_from_slice(&file.identity);
            bytes.extend_from_slice(&file.size.to_le_bytes());
        }
        self.blobs.iter().for_each(|blob| blob.write(&mut bytes));
        self.chunks.iter().for_each(|chunk| chunk.write(&mut bytes));
        for row in &self.stream {
            bytes.extend_from_slice(&row.to_le_bytes());
        }
        for start in &self.groups {
            bytes.extend_from_slice(&start.to_le_bytes());
        }
        bytes
    }
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

fn read_row(row: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(row.try_into().ok()?))
}

fn sum(mut numbers: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    numbers.try_fold(0_u64, |total, number| total.checked_add(number?))
}

#[cfg(test)]
mod tests {
    use puzzlefs_core::pack::PackRule;

    use super::*;
    use crate::form::Compression;

    const PACKED: Form = Form {
        compression: Compression::Frames(65536),
        packs: None,
    };

    fn trace() -> Trace {
        let blob = BlobRow {
            digest: [1; 32],
            verity: [2; 32],
            size: 3,
            raw_size: 9,
            flags: 1,
            reserved: 0,
        };
        let chunk = ContentRow {
            content: [6; 32],
            blob: 0,
            length: 4,
            offset: 5,
        };
        Trace {
            files: vec![TraceFile {
                identity: [5; 16],
                size: 8,
            }],
            blobs: vec![blob],
            chunks: vec![chunk],
            stream: vec![0, 0],
            groups: vec![4],
        }
    }

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let trace = trace();
        let bytes = trace.write(&PACKED);
        assert_eq!(Trace::read(&bytes, &PACKED), trace);
        let other = Form {
            packs: PackRule::new(1 << 20),
            ..PACKED
        };
        assert_eq!(Trace::read(&bytes, &other), Trace::default());
        for length in 0..bytes.len() {
            assert_eq!(Trace::read(&bytes[..length], &PACKED), Trace::default());
        }
        let longer = [bytes, vec![0]].concat();
        assert_eq!(Trace::read(&longer, &PACKED), Trace::default());
    }

    #[test]
    fn contradictions_make_it_worthless() {
        let spoil: [fn(&mut Trace); 9] = [
            |trace| trace.files[0].size = 9,
            |trace| trace.files[0].size = u64::MAX,
            |trace| trace.stream[1] = 1,
            |trace| trace.chunks[0].blob = 1,
            |trace| trace.chunks[0].offset = 6,
            |trace| trace.chunks[0].offset = u64::MAX,
            |trace| {
                trace.chunks[0].length = 0;
                trace.files[0].size = 0;
            },
            |trace| trace.blobs[0].flags = 2,
            |trace| trace.groups = vec![4, 3],
        ];
        for spoil in spoil {
            let mut trace = trace();
            spoil(&mut trace);
            assert_eq!(
                Trace::read(&trace.write(&PACKED), &PACKED),
                Trace::default()
            );
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
        for unknown in [100, 101, 0, -1_000_000_000] {
            assert_eq!(identity(unknown), UNKNOWN);
        }
    }
}
