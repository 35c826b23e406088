//! What there is to make where a tree is unpacked, and in which order.

use std::cmp::Reverse;
use std::collections::HashMap;

use puzzlefs_core::Result;
use puzzlefs_core::error::Unsupported;
use puzzlefs_core::index::{Index, Stat};
use puzzlefs_core::metadata::Kind;

/// Number of the root directory, which is row 0 of a plan's directories.
const ROOT: u64 = 1;
/// As deep as the longest path that the kernel takes.
const DEPTH_LIMIT: u32 = 2048;
/// Bytes of a file that is worth starting early, lest one thread is left with it at the end.
const LARGE: u64 = 4 << 20;

/// A directory.
pub(crate) struct Directory<'i> {
    pub(crate) ino: u64,
    /// Row of the directory that holds it; the root's is its own.
    pub(crate) parent: u32,
    pub(crate) name: &'i [u8],
    pub(crate) depth: u32,
}

/// A name of something that is no directory.
pub(crate) struct Name<'i> {
    pub(crate) ino: u64,
    /// Row of the directory that holds it.
    pub(crate) directory: u32,
    pub(crate) name: &'i [u8],
}

/// A further name of an inode that has one.
pub(crate) struct Link<'i> {
    pub(crate) name: Name<'i>,
    /// Directory and name that it shares the inode with.
    pub(crate) first: (u32, &'i [u8]),
}

/// Everything that a tree consists of.
pub(crate) struct Plan<'i> {
    /// Each after the one that holds it; the root first.
    pub(crate) directories: Vec<Directory<'i>>,
    /// The first name of each inode.
    pub(crate) inodes: Vec<Name<'i>>,
    /// All other names.
    pub(crate) links: Vec<Link<'i>>,
}

impl<'i> Plan<'i> {
    /// Goes through the tree, depth first, by name.
    pub(crate) fn new(index: &'i Index) -> Result<Self> {
        let mut plan = Self {
            directories: Vec::new(),
            inodes: Vec::new(),
            links: Vec::new(),
        };
        let mut known = HashMap::new();
        let root = Directory {
            ino: ROOT,
            parent: 0,
            name: b"",
            depth: 0,
        };
        let mut pending = vec![root];
        while let Some(directory) = pending.pop() {
            // An image has far less than 2^32 inodes: its blob has less than 2^27 words.
            let row = plan.directories.len() as u32;
            let below = plan.enter(index, &directory, row, &mut known)?;
            plan.directories.push(directory);
            pending.extend(below.into_iter().rev());
        }
        plan.inodes
            .sort_by_cached_key(|name| order(index, name.ino));
        Ok(plan)
    }

    /// Returns the path, from the root, of a name in a directory.
    pub(crate) fn path(&self, directory: u32, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut at = directory as usize;
        while at != 0 {
            names.push(self.directories[at].name);
            at = self.directories[at].parent as usize;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Takes what a directory holds; returns the directories in it.
    fn enter(
        &mut self,
        index: &'i Index,
        directory: &Directory<'i>,
        row: u32,
        known: &mut HashMap<u64, (u32, &'i [u8])>,
    ) -> Result<Vec<Directory<'i>>> {
        let mut below = Vec::new();
        for (name, ino) in index.entries(directory.ino, 0, usize::MAX)? {
            let Stat { kind, nlink, .. } = index.stat(ino)?;
            if kind == Kind::Dir {
                below.push(child(directory, row, name, ino)?);
                continue;
            }
            let found = Name {
                ino,
                directory: row,
                name,
            };
            if nlink < 2 {
                self.inodes.push(found);
            } else if let Some(&first) = known.get(&ino) {
                self.links.push(Link { name: found, first });
            } else {
                known.insert(ino, (row, name));
                self.inodes.push(found);
            }
        }
        Ok(below)
    }
}

fn child<'i>(above: &Directory<'i>, row: u32, name: &'i [u8], ino: u64) -> Result<Directory<'i>> {
    let depth = above.depth + 1;
    if depth > DEPTH_LIMIT {
        return Err(Unsupported::DirectoryDepth(DEPTH_LIMIT).into());
    }
    Ok(Directory {
        ino,
        parent: row,
        name,
        depth,
    })
}

/// Large files first; then in the order of the blobs, so that a block of data that many small files
/// share is decompressed once.
fn order(index: &Index, ino: u64) -> (Reverse<u64>, u32, u64) {
    match index.layout(ino) {
        Ok(layout) => {
            let large = Some(layout.size()).filter(|&size| size >= LARGE);
            let first = layout.chunks().first();
            let (blob, offset) = first.map_or((0, 0), |chunk| (chunk.blob, chunk.offset));
            (Reverse(large.unwrap_or(0)), blob, offset)
        }
        Err(_) => (Reverse(0), 0, 0),
    }
}
