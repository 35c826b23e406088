//! A rootfs blob to tables, every rule of docs/format.md §9 but those of the merged tree checked.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::digest::Digest;
use crate::error::Result;
use crate::message::Message;
use crate::metadata::{Additional, Chunks, Entries, Inode, Inodes, Mode, Rootfs};
use crate::tables::{
    COMPRESSED, ChunkRow, EntryRow, HAS_ADDITIONAL, InodeRow, Tables, Vector, VerityRow, XattrRow,
};

/// Returns the tables of a rootfs blob. They take at most a few times its size.
pub fn decode(blob: &[u8]) -> Result<Tables> {
    let message = Message::parse(blob)?;
    let rootfs = Rootfs::read(&message)?;
    let mut digests = DigestTable::default();
    let mut vectors = Vec::new();
    for inodes in rootfs.vectors()? {
        let mut decoder = VectorDecoder {
            vector: Vector::default(),
            digests: &mut digests,
        };
        decoder.vector(inodes?)?;
        vectors.push(decoder.vector);
    }
    let row = |entry: Result<_>| entry.map(|(digest, verity)| VerityRow { digest, verity });
    let verity = rootfs.verity()?.map(row).collect::<Result<_>>()?;
    Ok(Tables {
        digests: digests.rows,
        verity,
        vectors,
    })
}

/// Numbers distinct digests in order of first mention.
#[derive(Default)]
struct DigestTable {
    rows: Vec<Digest>,
    /// A tree, because a hostile image chooses the digests: no hash to collide.
    numbers: BTreeMap<Digest, u32>,
    /// The number given last: neighbouring files often share a chunk.
    last: u32,
}

impl DigestTable {
    fn number(&mut self, digest: Digest) -> u32 {
        if self.rows.get(self.last as usize) == Some(&digest) {
            return self.last;
        }
        // A blob has less than 2^27 words, and a digest takes four of them.
        let next = self.rows.len() as u32;
        let number = *self.numbers.entry(digest).or_insert(next);
        if number == next {
            self.rows.push(digest);
        }
        self.last = number;
        number
    }
}

/// Collects the tables of one layer.
struct VectorDecoder<'d> {
    vector: Vector,
    digests: &'d mut DigestTable,
}

impl VectorDecoder<'_> {
    fn vector(&mut self, inodes: Inodes<'_>) -> Result<()> {
        for inode in inodes {
            let row = self.inode(&inode?)?;
            self.vector.inodes.push(row);
        }
        Ok(())
    }

    /// Appends bytes to the heap; returns where they start.
    fn keep(&mut self, data: &[u8]) -> u64 {
        let start = self.vector.heap.len();
        self.vector.heap.extend_from_slice(data);
        start as u64
    }

    fn inode(&mut self, inode: &Inode<'_>) -> Result<InodeRow> {
        let (first, count) = match inode.mode()? {
            Mode::Directory(entries) => self.entries(entries)?,
            Mode::File(chunks) => self.chunks(chunks)?,
            Mode::Device { major, minor } => (major, minor),
            Mode::Plain => (0, 0),
        };
        let additional = inode.additional()?;
        let (xattr_first, xattr_count) = self.xattrs(&additional)?;
        let target = additional.target()?;
        Ok(InodeRow {
            ino: inode.ino,
            kind: inode.kind as u16,
            permissions: inode.permissions,
            uid: inode.uid,
            gid: inode.gid,
            mtime_nsec: inode.mtime_nsec,
            mtime_sec: inode.mtime_sec,
            first,
            count,
            xattr_first,
            xattr_count,
            flags: if inode.has_additional() {
                HAS_ADDITIONAL
            } else {
                0
            },
            link_offset: self.keep(target),
            link_length: target.len() as u32,
            reserved: 0,
        })
    }

    fn entries(&mut self, entries: Entries<'_>) -> Result<(u64, u64)> {
        let first = self.vector.entries.len();
        for entry in entries {
            let (ino, name) = entry?;
            let name_offset = self.keep(name);
            let name_length = name.len() as u32;
            self.vector.entries.push(EntryRow {
                ino,
                name_offset,
                name_length,
                reserved: 0,
            });
        }
        Ok((first as u64, (self.vector.entries.len() - first) as u64))
    }

    fn chunks(&mut self, chunks: Chunks<'_>) -> Result<(u64, u64)> {
        let first = self.vector.chunks.len();
        for chunk in chunks {
            let chunk = chunk?;
            let blob = self.digests.number(chunk.digest);
            let flags = if chunk.compressed { COMPRESSED } else { 0 };
            let row = ChunkRow {
                blob,
                flags,
                offset: chunk.offset,
                length: chunk.length,
            };
            self.vector.chunks.push(row);
        }
        Ok((first as u64, (self.vector.chunks.len() - first) as u64))
    }

    fn xattrs(&mut self, additional: &Additional<'_>) -> Result<(u64, u32)> {
        let first = self.vector.xattrs.len();
        for xattr in additional.xattrs()? {
            let (key, value) = xattr?;
            let (key_length, value_length) = (key.len() as u32, value.len() as u32);
            let (key_offset, value_offset) = (self.keep(key), self.keep(value));
            let row = XattrRow {
                key_offset,
                value_offset,
                key_length,
                value_length,
            };
            self.vector.xattrs.push(row);
        }
        Ok((first as u64, (self.vector.xattrs.len() - first) as u32))
    }
}
