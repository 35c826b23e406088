//! A scratch directory with a tree to build from and a store to build into.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use puzzlefs_core::Result;
use puzzlefs_core::digest::Hex;
use puzzlefs_core::encode::encode;
use puzzlefs_core::index::Index;
use puzzlefs_core::tables::{EntryRow, InodeRow, SourceRow, Tables, Vector, VerityRow};
use puzzlefs_engine::{Compression, Form, Offered, Stored, StreamWriter, WriterOptions};

/// The inode number of the first file of [`Scratch::index`].
pub const FIRST_INO: u64 = 2;

pub struct Scratch {
    home: tempfile::TempDir,
    paths: Vec<Vec<u8>>,
    contents: Vec<Vec<u8>>,
}

impl Scratch {
    /// Writes files with these contents.
    pub fn new(contents: Vec<Vec<u8>>) -> Self {
        let home = tempfile::tempdir().unwrap();
        for name in ["root", "blobs", "temporary"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        let mut paths = Vec::new();
        for (number, content) in contents.iter().enumerate() {
            let path = format!("file{number:05}");
            fs::write(home.path().join("root").join(&path), content).unwrap();
            paths.push(path.into_bytes());
        }
        Self {
            home,
            paths,
            contents,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn contents(&self) -> &[Vec<u8>] {
        &self.contents
    }

    pub fn blob_path(&self, stored: &Stored, row: usize) -> PathBuf {
        self.path("blobs")
            .join(Hex(&stored.blobs[row].digest).to_string())
    }

    pub fn rows(&self) -> Vec<SourceRow> {
        let name = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
        self.paths
            .iter()
            .map(|path| row(&self.path("root").join(name(path))))
            .collect()
    }

    pub fn writer(&self, compression: Compression, jobs: usize) -> StreamWriter {
        let packs = None;
        self.writer_of(Form { compression, packs }, jobs)
    }

    pub fn writer_of(&self, form: Form, jobs: usize) -> StreamWriter {
        let bytes = |name| self.path(name).as_os_str().as_bytes().to_vec();
        StreamWriter::new(WriterOptions {
            root: bytes("root"),
            blobs: bytes("blobs"),
            temporary: bytes("temporary"),
            form,
            jobs,
            sync: false,
        })
    }

    pub fn build(&self, compression: Compression, jobs: usize) -> Result<Stored> {
        self.run(&self.writer(compression, jobs), &self.rows())
    }

    pub fn run(&self, writer: &StreamWriter, rows: &[SourceRow]) -> Result<Stored> {
        writer.run(&self.paths, rows, &[], &Offered::default(), b"", 0)
    }

    /// Whether nothing unfinished is left.
    pub fn is_clean(&self) -> bool {
        fs::read_dir(self.path("temporary"))
            .unwrap()
            .next()
            .is_none()
    }

    /// An index of the files, numbered from [`FIRST_INO`].
    pub fn index(&self, stored: &Stored) -> Arc<Index> {
        let mut vector = Vector {
            chunks: stored.chunks.clone(),
            ..Vector::default()
        };
        vector.inodes.push(inode(1, 3, 0, self.paths.len() as u64));
        let mut first = 0;
        for (number, path) in self.paths.iter().enumerate() {
            let count = u64::from(stored.counts[number]);
            let ino = FIRST_INO + number as u64;
            vector.inodes.push(inode(ino, 5, first, count));
            first += count;
            vector.entries.push(EntryRow {
                ino,
                name_offset: vector.heap.len() as u64,
                name_length: path.len() as u32,
                reserved: 0,
            });
            vector.heap.extend_from_slice(path);
        }
        let digests = stored.blobs.iter().map(|blob| blob.digest).collect();
        let verity = |digest, verity| VerityRow { digest, verity };
        let verity = stored
            .blobs
            .iter()
            .map(|blob| verity(blob.digest, blob.verity))
            .collect();
        let rootfs = encode(&Tables {
            digests,
            verity,
            vectors: vec![vector],
        })
        .unwrap();
        Arc::new(Index::new(&rootfs).unwrap())
    }
}

fn inode(ino: u64, kind: u16, first: u64, count: u64) -> InodeRow {
    InodeRow {
        ino,
        kind,
        permissions: 0o644,
        first,
        count,
        ..InodeRow::default()
    }
}

fn row(path: &Path) -> SourceRow {
    let stat = fs::metadata(path).unwrap();
    SourceRow {
        size: stat.size(),
        device: stat.dev(),
        inode: stat.ino(),
        mtime: stat.mtime() * 1_000_000_000 + stat.mtime_nsec(),
        ctime: stat.ctime() * 1_000_000_000 + stat.ctime_nsec(),
    }
}

/// Bytes of a small generator, the same every time, that no compression makes smaller.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Bytes that compression makes smaller.
pub fn text(seed: u64, size: usize) -> Vec<u8> {
    noise(seed, size)
        .into_iter()
        .map(|byte| b'a' + byte % 8)
        .collect()
}

/// Contents of many shapes: empty, tiny, large, repeated, with blocks of zeros.
pub fn shapes() -> Vec<Vec<u8>> {
    let mut holes = text(4, 1 << 20);
    holes[8192..300_000].fill(0);
    holes[700_000..].fill(0);
    let mut contents = vec![
        vec![],
        b"x".to_vec(),
        noise(1, 500_000),
        text(2, 700_003),
        vec![],
    ];
    contents.extend((0..25).map(|seed| text(seed, 700 * seed as usize)));
    contents.extend([noise(1, 500_000), holes, vec![0; 300_000], noise(9, 5)]);
    contents
}
