//! The merged tree: what an image's layers, uppermost first, look like as one filesystem.
//!
//! The tables of the layers stay as they were decoded, but for two things: the rows of a directory's
//! entries are put in order of name, the hidden ones left out; and each file's chunks get running
//! sums of their lengths. On top stands one flat table of the inodes that the root reaches. Nothing
//! recurses, and building takes little more than the time of sorting what is out of order.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::decode::decode;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::merge::{Node, merge, position};
use crate::metadata::Kind;
use crate::owners::Owners;

use crate::tables::{ChunkRow, EntryRow, InodeRow, Tables, Vector, VerityRow, rows};

/// An image's merged tree. Every method that takes an inode number gives [`Error::NoInode`] where the
/// tree does not reach it.
pub struct Index {
    layers: Vec<Vector>,
    /// For each layer, where in its file each chunk ends.
    ends: Vec<Vec<u64>>,
    /// The inodes that the root reaches, ascending by number.
    nodes: Vec<Node>,
    blobs: Vec<VerityRow>,
    highest_ino: u64,
    content_bytes: u128,
    has_xattrs: bool,
}

/// An inode's fields, as `stat` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Number.
    pub ino: u64,
    /// Kind of file.
    pub kind: Kind,
    /// Twelve permission bits.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds of the time of last modification since the epoch.
    pub mtime_sec: i64,
    /// Nanoseconds of that time.
    pub mtime_nsec: u32,
    /// Bytes in a file or a link's target, else 0.
    pub size: u64,
    /// 2 and the subdirectories of a directory, entries of any other inode.
    pub nlink: u32,
    /// Major number of a device, else 0.
    pub major: u64,
    /// Minor number of a device, else 0.
    pub minor: u64,
}

impl Index {
    /// Decodes a rootfs blob and merges its layers.
    pub fn new(rootfs: &[u8]) -> Result<Self> {
        let Tables {
            digests,
            verity,
            vectors,
        } = decode(rootfs)?;
        let mut layers = vectors;
        let (nodes, highest_ino) = merge(&mut layers)?;
        let mut index = Self {
            ends: layers.iter().map(chunk_ends).collect(),
            layers,
            nodes,
            blobs: blob_table(digests, &verity),
            highest_ino,
            content_bytes: 0,
            has_xattrs: false,
        };
        index.has_xattrs = index
            .nodes
            .iter()
            .any(|node| index.row(node).xattr_count > 0);
        let sizes = index
            .nodes
            .iter()
            .map(|node| u128::from(index.file(node).size()));
        index.content_bytes = sizes.sum();
        Ok(index)
    }

    /// Shows everything as belonging to the owners that others are called elsewhere.
    #[must_use]
    pub fn shifted(mut self, owners: &Owners) -> Self {
        if !owners.is_empty() {
            for layer in &mut self.layers {
                owners.shift(layer);
            }
        }
        self
    }

    /// Returns how many inodes the root reaches, itself included.
    pub fn inode_count(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the highest number in any layer, whiteouts included.
    pub fn highest_ino(&self) -> u64 {
        self.highest_ino
    }

    /// Returns the sum of file sizes, each inode once.
    pub fn content_bytes(&self) -> u128 {
        self.content_bytes
    }

    /// Says whether any reachable inode has an extended attribute.
    pub fn has_xattrs(&self) -> bool {
        self.has_xattrs
    }

    /// Returns the reachable inode numbers, ascending.
    pub fn inodes(&self) -> impl ExactSizeIterator<Item = u64> {
        self.nodes.iter().map(|node| node.ino)
    }

    /// Returns the blobs that any layer's chunks name, in order of first mention. One without an
    /// fs-verity digest has zeros in its place.
    pub fn blobs(&self) -> &[VerityRow] {
        &self.blobs
    }

    /// Returns an inode's fields.
    pub fn stat(&self, ino: u64) -> Result<Stat> {
        let node = self.node(ino)?;
        let row = self.row(node);
        let device = matches!(node.kind, Kind::Chr | Kind::Blk);
        let (major, minor) = if device {
            (row.first, row.count)
        } else {
            (0, 0)
        };
        let size = match node.kind {
            Kind::File => self.file(node).size(),
            Kind::Lnk => u64::from(row.link_length),
            _ => 0,
        };
        Ok(Stat {
            ino,
            kind: node.kind,
            permissions: row.permissions,
            uid: row.uid,
            gid: row.gid,
            mtime_sec: row.mtime_sec,
            mtime_nsec: row.mtime_nsec,
            size,
            nlink: node.links,
            major,
            minor,
        })
    }

    /// Returns the number that directory `parent` gives `name`, or `None`.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Option<u64>> {
        let (vector, entries) = self.directory(parent)?;
        let found = entries.binary_search_by(|entry| name_of(vector, entry).cmp(name));
        Ok(found
            .ok()
            .and_then(|row| entries.get(row))
            .map(|entry| entry.ino))
    }

    /// Returns the number of a directory's parent; the root is its own.
    pub fn parent(&self, ino: u64) -> Result<u64> {
        let node = self.node(ino)?;
        if node.kind != Kind::Dir {
            return Err(Error::NotDirectory(ino));
        }
        Ok(node.parent)
    }

    /// Returns up to `count` entries (name, number) of a directory, by name, from position `start`.
    pub fn entries(
        &self,
        ino: u64,
        start: usize,
        count: usize,
    ) -> Result<impl ExactSizeIterator<Item = (&[u8], u64)>> {
        let (vector, entries) = self.directory(ino)?;
        let part = entries.iter().skip(start).take(count);
        Ok(part.map(|entry| (name_of(vector, entry), entry.ino)))
    }

    /// Returns an inode's extended attributes (key, value) in stored order.
    pub fn xattrs(&self, ino: u64) -> Result<impl ExactSizeIterator<Item = (&[u8], &[u8])>> {
        let node = self.node(ino)?;
        let (row, vector) = (self.row(node), self.vector(node));
        let count = u64::from(row.xattr_count);
        let xattrs = rows(&vector.xattrs, row.xattr_first, count).unwrap_or(&[]);
        Ok(xattrs.iter().map(|xattr| {
            let key = vector.text(xattr.key_offset, xattr.key_length);
            let value = vector.text(xattr.value_offset, xattr.value_length);
            (key.unwrap_or(&[]), value.unwrap_or(&[]))
        }))
    }

    /// Returns a symbolic link's target; nothing for other kinds.
    pub fn symlink(&self, ino: u64) -> Result<&[u8]> {
        let node = self.node(ino)?;
        if node.kind != Kind::Lnk {
            return Ok(&[]);
        }
        let row = self.row(node);
        Ok(self
            .vector(node)
            .text(row.link_offset, row.link_length)
            .unwrap_or(&[]))
    }

    /// Returns a file's chunks in order; nothing for other kinds.
    pub fn chunks(&self, ino: u64) -> Result<&[ChunkRow]> {
        Ok(self.file(self.node(ino)?).chunks())
    }

    /// Returns where a file's bytes lie; [`Error::NoInode`] for any other kind.
    pub fn layout(&self, ino: u64) -> Result<Layout<'_>> {
        let node = self.node(ino)?;
        if node.kind != Kind::File {
            return Err(Error::NoInode(ino));
        }
        Ok(self.file(node))
    }

    fn node(&self, ino: u64) -> Result<&Node> {
        let node = position(&self.nodes, ino).and_then(|at| self.nodes.get(at));
        node.ok_or(Error::NoInode(ino))
    }

    fn vector(&self, node: &Node) -> &Vector {
        &self.layers[usize::from(node.layer)]
    }

    fn row(&self, node: &Node) -> &InodeRow {
        &self.vector(node).inodes[node.row as usize]
    }

    /// Returns the layout of a file, an empty one for any other kind.
    fn file(&self, node: &Node) -> Layout<'_> {
        let row = self.row(node);
        let count = if node.kind == Kind::File {
            row.count
        } else {
            0
        };
        let chunks = rows(&self.vector(node).chunks, row.first, count).unwrap_or(&[]);
        let ends = rows(&self.ends[usize::from(node.layer)], row.first, count).unwrap_or(&[]);
        Layout::new(chunks, ends)
    }

    /// Returns a directory's visible entries by name, and the layer that holds their names.
    fn directory(&self, ino: u64) -> Result<(&Vector, &[EntryRow])> {
        let node = self.node(ino)?;
        if node.kind != Kind::Dir {
            return Err(Error::NotDirectory(ino));
        }
        let (row, vector) = (self.row(node), self.vector(node));
        Ok((
            vector,
            rows(&vector.entries, row.first, row.count).unwrap_or(&[]),
        ))
    }
}

fn name_of<'v>(vector: &'v Vector, entry: &EntryRow) -> &'v [u8] {
    vector
        .text(entry.name_offset, entry.name_length)
        .unwrap_or(&[])
}

/// Returns where in its file each chunk of a layer ends.
fn chunk_ends(vector: &Vector) -> Vec<u64> {
    let mut ends = vec![0; vector.chunks.len()];
    for inode in vector
        .inodes
        .iter()
        .filter(|inode| inode.kind == Kind::File as u16)
    {
        let chunks = rows(&vector.chunks, inode.first, inode.count).unwrap_or(&[]);
        let mut end = 0_u64;
        for (slot, chunk) in ends.iter_mut().skip(inode.first as usize).zip(chunks) {
            // The decoder refuses files of 2^63 bytes.
            end = end.saturating_add(chunk.length);
            *slot = end;
        }
    }
    ends
}

/// Joins the digests that chunks name with their fs-verity digests, of repeated ones the first.
fn blob_table(digests: Vec<[u8; 32]>, verity: &[VerityRow]) -> Vec<VerityRow> {
    let mut known = BTreeMap::new();
    for row in verity {
        known.entry(row.digest).or_insert(row.verity);
    }
    let row = |digest| VerityRow {
        digest,
        verity: known.get(&digest).copied().unwrap_or_default(),
    };
    digests.into_iter().map(row).collect()
}
