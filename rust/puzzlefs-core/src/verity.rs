//! The fs-verity digest of a file: SHA-256, 4,096-byte blocks, no salt, as the kernel computes it.
//!
//! Data is hashed in zero-padded blocks (leaves), the hashes are packed 128 to a block and hashed
//! again, until one hash is left: the root. The digest is the hash of a descriptor that holds the
//! root and the data's size. A level needs no buffer: its block is hashed as its hashes come.

use crate::digest::{Digest, Sha256, sha256};
use crate::limits::VERITY_BLOCK;

/// Hashes in a block of the tree.
const FANOUT: u64 = 128;
/// Levels of hashes above 2^64 bytes of data: 2^52 leaves, 128 times fewer at each level.
const LEVELS: usize = 9;
/// Bytes in the descriptor that the digest hashes.
const DESCRIPTOR_SIZE: usize = 256;

static ZEROS: [u8; VERITY_BLOCK] = [0; VERITY_BLOCK];

/// Returns the hash of one data block, which is padded with zeros to 4,096 bytes.
///
/// `block` holds at most 4,096 bytes.
pub fn leaf(block: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(block);
    hasher.update(padding(block.len()));
    hasher.finish()
}

/// Returns the fs-verity digest of `data`.
pub fn verity_digest(data: &[u8]) -> Digest {
    let mut verity = Verity::new();
    verity.update(data);
    verity.finish()
}

/// Returns zeros that fill a block after `used` bytes of it.
fn padding(used: usize) -> &'static [u8] {
    ZEROS.get(used..).unwrap_or(&[])
}

/// One level of the tree: the hash of its unfinished block, and what came so far.
#[derive(Clone, Default)]
struct Level {
    block: Sha256,
    count: u64,
    last: Digest,
}

/// The tree above the leaves; made from their hashes, for callers that hash the leaves themselves.
#[derive(Clone, Default)]
pub struct Tree {
    levels: [Level; LEVELS],
}

impl Tree {
    /// Starts with no leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the hash of the next data block.
    pub fn push(&mut self, leaf: &Digest) {
        self.push_at(0, *leaf);
    }

    /// Returns the fs-verity digest of the `size` bytes whose blocks were added.
    pub fn finish(mut self, size: u64) -> Digest {
        let root = self.root();
        descriptor_digest(size, &root)
    }

    /// Adds a hash to a level, and the hash of each block that it completes to the level above.
    fn push_at(&mut self, depth: usize, hash: Digest) {
        let mut hash = hash;
        for level in self.levels.iter_mut().skip(depth) {
            level.block.update(&hash);
            level.count += 1;
            level.last = hash;
            if !level.count.is_multiple_of(FANOUT) {
                return;
            }
            hash = level.block.finish_and_restart();
        }
    }

    /// Finishes the blocks of all levels, from below, up to the level that has one hash: the root.
    /// Without data there is no level, and the root is all zeros.
    fn root(&mut self) -> Digest {
        for depth in 0..LEVELS {
            let level = &mut self.levels[depth];
            if level.count <= 1 {
                return level.last;
            }
            let used = (level.count % FANOUT) as usize * size_of::<Digest>();
            if used > 0 {
                level.block.update(padding(used));
                let hash = level.block.finish_and_restart();
                self.push_at(depth + 1, hash);
            }
        }
        Digest::default()
    }
}

/// The fs-verity digest of bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Verity {
    leaf: Sha256,
    /// Bytes in the unfinished leaf.
    filled: usize,
    size: u64,
    tree: Tree,
}

impl Verity {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.size = self.size.wrapping_add(data.len() as u64);
        let missing = (VERITY_BLOCK - self.filled) % VERITY_BLOCK;
        let (head, body) = data.split_at_checked(missing).unwrap_or((data, &[]));
        self.fill(head);
        let (blocks, tail) = body.as_chunks::<VERITY_BLOCK>();
        for block in blocks {
            self.tree.push(&sha256(block));
        }
        self.fill(tail);
    }

    /// Returns the digest of all bytes so far.
    pub fn finish(mut self) -> Digest {
        if self.filled > 0 {
            self.leaf.update(padding(self.filled));
            self.tree.push(&self.leaf.finish_and_restart());
        }
        self.tree.finish(self.size)
    }

    /// Adds bytes that do not reach past the unfinished leaf's end.
    fn fill(&mut self, data: &[u8]) {
        self.leaf.update(data);
        self.filled += data.len();
        if self.filled == VERITY_BLOCK {
            self.filled = 0;
            self.tree.push(&self.leaf.finish_and_restart());
        }
    }
}

/// Hashes the descriptor of a file of `size` bytes: version 1, hash algorithm 1 (SHA-256), block size
/// 2^12, no salt, the size and the root; the rest is zero.
fn descriptor_digest(size: u64, root: &Digest) -> Digest {
    let mut descriptor = [0; DESCRIPTOR_SIZE];
    descriptor[..3].copy_from_slice(&[1, 1, 12]);
    descriptor[8..16].copy_from_slice(&size.to_le_bytes());
    descriptor[16..48].copy_from_slice(root);
    sha256(&descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// The tree built the obvious way, level by level.
    fn reference(data: &[u8]) -> Digest {
        let mut hashes: Vec<Digest> = data.chunks(VERITY_BLOCK).map(leaf).collect();
        while hashes.len() > 1 {
            let packed = hashes.concat();
            hashes = packed.chunks(VERITY_BLOCK).map(leaf).collect();
        }
        descriptor_digest(data.len() as u64, hashes.first().unwrap_or(&[0; 32]))
    }

    #[test]
    fn known_digests() {
        let hex = |data: &[u8]| std::format!("{}", crate::digest::Hex(&verity_digest(data)));
        // fsverity digest /dev/null
        assert_eq!(
            hex(b""),
            "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"
        );
    }

    #[test]
    fn every_shape_of_tree() {
        let block = VERITY_BLOCK;
        let sizes = [
            0,
            1,
            block - 1,
            block,
            block + 1,
            2 * block,
            127 * block,
            128 * block,
            128 * block + 1,
            129 * block,
            256 * block,
            128 * 128 * block,
            128 * 128 * block + 5,
        ];
        for size in sizes {
            let data: Vec<u8> = (0..size).map(|at| (at / 7 + at / 4096) as u8).collect();
            assert_eq!(verity_digest(&data), reference(&data), "{size} bytes");
        }
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        let data = vec![7; 3 * VERITY_BLOCK + 100];
        for step in [1, 33, 4095, 4096, 4097, 9000] {
            let mut verity = Verity::new();
            data.chunks(step).for_each(|piece| verity.update(piece));
            assert_eq!(verity.finish(), reference(&data), "steps of {step}");
        }
    }
}
