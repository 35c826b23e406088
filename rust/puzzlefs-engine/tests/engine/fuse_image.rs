//! A small image with every kind of answer in it, and a kernel that mounts it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use puzzlefs_core::Digest;
use puzzlefs_core::digest::{Hex, sha256};
use puzzlefs_core::encode::encode;
use puzzlefs_core::index::Index;
use puzzlefs_core::tables::{ChunkRow, EntryRow, InodeRow, Tables, Vector, XattrRow};
use puzzlefs_engine::{Reader, Verify};

use crate::kernel::Kernel;
use crate::scratch::noise;

/// Files "f03" to "f22" with inodes of these numbers stand in the root beside "dev", "dir" and "link".
pub const FILES: std::ops::Range<u64> = 3..23;
pub const DIRECTORY: u64 = 2;
pub const LINK: u64 = 23;
const DEVICE: u64 = 24;

pub struct Image {
    home: tempfile::TempDir,
    pub index: Arc<Index>,
}

/// Returns the content of a file.
pub fn content(ino: u64) -> Vec<u8> {
    noise(ino, 1000 * ino as usize)
}

impl Image {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut vector = Vector::default();
        let names = add_root(&mut vector);
        vector.inodes.push(inode(DIRECTORY, 3, names, 0));
        let digests = FILES.map(|ino| add_file(&mut vector, ino, home.path()));
        let digests = digests.collect();
        add_attribute(&mut vector);
        let mut link = inode(LINK, 6, 0, 0);
        link.flags = 1;
        (link.link_offset, link.link_length) = add_text(&mut vector, b"target");
        vector.inodes.push(link);
        vector.inodes.push(inode(DEVICE, 2, 1 << 12, 0));
        let (verity, vectors) = (Vec::new(), vec![vector]);
        let rootfs = encode(&Tables {
            digests,
            verity,
            vectors,
        });
        Self {
            home,
            index: Arc::new(Index::new(&rootfs.unwrap()).unwrap()),
        }
    }

    pub fn reader(&self) -> Reader {
        let directory = self.home.path().as_os_str().as_bytes();
        Reader::new(Arc::clone(&self.index), directory, Verify::Once, 1 << 20)
    }

    /// Replaces the blob of a file by another.
    pub fn damage(&self, ino: u64) {
        let name = Hex(&sha256(&content(ino))).to_string();
        fs::write(self.home.path().join(name), b"other").unwrap();
    }

    /// A kernel that talks with a server of this image.
    pub fn agreed(&self, threads: usize) -> Kernel {
        Kernel::agreed(&self.index, self.reader(), threads)
    }
}

fn add_text(vector: &mut Vector, bytes: &[u8]) -> (u64, u32) {
    let start = vector.heap.len() as u64;
    vector.heap.extend_from_slice(bytes);
    (start, bytes.len() as u32)
}

/// Adds the root; returns how many entries it has.
fn add_root(vector: &mut Vector) -> u64 {
    let mut names = vec![(DEVICE, "dev".to_owned()), (DIRECTORY, "dir".to_owned())];
    names.extend(FILES.map(|ino| (ino, format!("f{ino:02}"))));
    names.push((LINK, "link".to_owned()));
    for (ino, name) in &names {
        let (name_offset, name_length) = add_text(vector, name.as_bytes());
        vector.entries.push(EntryRow {
            ino: *ino,
            name_offset,
            name_length,
            reserved: 0,
        });
    }
    vector.inodes.push(inode(1, 3, 0, names.len() as u64));
    names.len() as u64
}

/// Adds a file of one blob, which it stores; returns the blob's digest.
fn add_file(vector: &mut Vector, ino: u64, blobs: &Path) -> Digest {
    let bytes = content(ino);
    let digest = sha256(&bytes);
    fs::write(blobs.join(Hex(&digest).to_string()), &bytes).unwrap();
    let blob = vector.chunks.len() as u32;
    vector.chunks.push(ChunkRow {
        blob,
        flags: 0,
        offset: 0,
        length: bytes.len() as u64,
    });
    vector.inodes.push(inode(ino, 5, u64::from(blob), 1));
    digest
}

/// Gives the first file an attribute.
fn add_attribute(vector: &mut Vector) {
    let (key_offset, key_length) = add_text(vector, b"user.key");
    let (value_offset, value_length) = add_text(vector, b"value");
    vector.xattrs.push(XattrRow {
        key_offset,
        value_offset,
        key_length,
        value_length,
    });
    (vector.inodes[2].xattr_count, vector.inodes[2].flags) = (1, 1);
}

fn inode(ino: u64, kind: u16, first: u64, count: u64) -> InodeRow {
    InodeRow {
        ino,
        kind,
        permissions: 0o751,
        uid: 7,
        gid: 8,
        mtime_nsec: 5,
        mtime_sec: -3,
        first,
        count,
        ..InodeRow::default()
    }
}
