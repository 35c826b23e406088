//! The digests of blobs: SHA-256 and the hashes of 4,096-byte blocks, which fs-verity is made of.
//!
//! Where the CPU has instructions for it, hashes that do not depend on each other are made side by
//! side; elsewhere by the core's code. The answers are the same.

use puzzlefs_core::Digest;
use puzzlefs_core::digest::Sha256;
use puzzlefs_core::limits::VERITY_BLOCK;
use puzzlefs_core::verity::{Tree, leaf};

use crate::sha_lanes::{Block, Lanes, State};

const BLOCK: usize = size_of::<Block>();
/// Leaves that are hashed side by side.
const ABREAST: usize = 4;
/// The state before the first block.
pub(crate) const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
/// The block that ends every message of 4,096 bytes.
const LEAF_END: Block = {
    let mut block = [0; BLOCK];
    block[0] = 0x80;
    [block[BLOCK - 2], block[BLOCK - 1]] = (8 * VERITY_BLOCK as u16).to_be_bytes();
    block
};

/// Returns the fs-verity digest of `data`.
pub fn verity_digest(data: &[u8]) -> Digest {
    verity_digest_with(Lanes::detect(), data)
}

fn verity_digest_with(lanes: Option<Lanes>, data: &[u8]) -> Digest {
    let mut tree = Tree::new();
    each_leaf(lanes, data, |hash| tree.push(&hash));
    tree.finish(data.len() as u64)
}

/// Gives the hash of each 4,096-byte block of `data`, the last one padded with zeros, to `take`.
pub(crate) fn leaves(data: &[u8], take: impl FnMut(Digest)) {
    each_leaf(Lanes::detect(), data, take);
}

fn each_leaf(lanes: Option<Lanes>, data: &[u8], mut take: impl FnMut(Digest)) {
    let Some(lanes) = lanes else {
        return data.chunks(VERITY_BLOCK).map(leaf).for_each(take);
    };
    let (blocks, tail) = data.as_chunks::<VERITY_BLOCK>();
    let (groups, rest) = blocks.as_chunks::<ABREAST>();
    for group in groups {
        let mut states = [INITIAL; ABREAST];
        lanes.add(&mut states, group.each_ref().map(message));
        lanes.add(&mut states, [&[LEAF_END]]);
        states.map(digest_of).into_iter().for_each(&mut take);
    }
    for block in rest {
        let mut states = [INITIAL];
        lanes.add(&mut states, [message(block)]);
        lanes.add(&mut states, [&[LEAF_END]]);
        take(digest_of(states[0]));
    }
    if !tail.is_empty() {
        take(leaf(tail));
    }
}

/// The SHA-256 of bytes that come in pieces and, on the way, the hash of each 4,096-byte block.
pub(crate) struct LeafHasher {
    whole: Whole,
    /// The unfinished block, and how much of it there is.
    pending: Box<[u8; VERITY_BLOCK]>,
    filled: usize,
    size: u64,
}

/// The unfinished SHA-256 of the whole; a multiple of 4,096 bytes are in it.
enum Whole {
    Lanes(Lanes, State),
    Portable(Sha256),
}

impl LeafHasher {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::with(Lanes::detect())
    }

    fn with(lanes: Option<Lanes>) -> Self {
        Self {
            whole: match lanes {
                Some(lanes) => Whole::Lanes(lanes, INITIAL),
                None => Whole::Portable(Sha256::new()),
            },
            pending: Box::new([0; VERITY_BLOCK]),
            filled: 0,
            size: 0,
        }
    }

    /// Adds the next bytes; gives the hash of each block that they complete to `take`.
    pub fn update(&mut self, data: &[u8], mut take: impl FnMut(Digest)) {
        self.size = self.size.wrapping_add(data.len() as u64);
        let mut rest = data;
        if self.filled > 0 {
            let count = rest.len().min(VERITY_BLOCK - self.filled);
            let (head, body) = rest.split_at(count);
            self.pending[self.filled..self.filled + count].copy_from_slice(head);
            self.filled += count;
            rest = body;
            if self.filled < VERITY_BLOCK {
                return;
            }
            take(self.whole.add(&self.pending));
        }
        let (blocks, tail) = rest.as_chunks::<VERITY_BLOCK>();
        for block in blocks {
            take(self.whole.add(block));
        }
        self.pending[..tail.len()].copy_from_slice(tail);
        self.filled = tail.len();
    }

    /// Gives the hash of the unfinished block, if there is one, to `take`; returns the SHA-256.
    pub fn finish(mut self, take: impl FnOnce(Digest)) -> Digest {
        self.pending[self.filled..].fill(0);
        self.whole
            .finish(&self.pending, self.filled, self.size, take)
    }
}

impl Whole {
    /// Adds a block of 4,096 bytes; returns its own hash.
    fn add(&mut self, block: &[u8; VERITY_BLOCK]) -> Digest {
        match self {
            Self::Lanes(lanes, state) => {
                let mut states = [*state, INITIAL];
                lanes.add(&mut states, [message(block)]);
                let mut hash = [states[1]];
                lanes.add(&mut hash, [&[LEAF_END]]);
                *state = states[0];
                digest_of(hash[0])
            }
            Self::Portable(whole) => {
                whole.update(block);
                leaf(block)
            }
        }
    }

    /// Adds the first `filled` bytes of the last block, the others of which are zero.
    fn finish(
        self,
        last: &[u8; VERITY_BLOCK],
        filled: usize,
        size: u64,
        take: impl FnOnce(Digest),
    ) -> Digest {
        match self {
            Self::Lanes(lanes, state) => {
                let full = filled / BLOCK;
                let blocks = message(last);
                let mut states = [state, INITIAL];
                lanes.add(&mut states, [&blocks[..full]]);
                let [mut state, hash] = states.map(|state| [state]);
                let (end, count) = ending(&last[full * BLOCK..filled], size);
                lanes.add(&mut state, [&end[..count]]);
                if filled > 0 {
                    let mut hash = hash;
                    lanes.add(&mut hash, [&blocks[full..]]);
                    lanes.add(&mut hash, [&[LEAF_END]]);
                    take(digest_of(hash[0]));
                }
                digest_of(state[0])
            }
            Self::Portable(mut whole) => {
                whole.update(&last[..filled]);
                if filled > 0 {
                    take(leaf(&last[..filled]));
                }
                whole.finish()
            }
        }
    }
}

/// The SHA-256 and the fs-verity digest of the same bytes, in one pass over them.
pub(crate) struct BlobHasher {
    leaves: LeafHasher,
    tree: Tree,
}

impl BlobHasher {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::with(Lanes::detect())
    }

    fn with(lanes: Option<Lanes>) -> Self {
        Self {
            leaves: LeafHasher::with(lanes),
            tree: Tree::new(),
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.leaves.update(data, |hash| self.tree.push(&hash));
    }

    /// Returns (SHA-256, fs-verity digest) of all bytes so far.
    pub fn finish(mut self) -> (Digest, Digest) {
        let size = self.leaves.size;
        let whole = self.leaves.finish(|hash| self.tree.push(&hash));
        (whole, self.tree.finish(size))
    }
}

/// Returns (SHA-256, fs-verity digest) of `data`.
pub fn blob_digests(data: &[u8]) -> (Digest, Digest) {
    let mut hasher = BlobHasher::new();
    hasher.update(data);
    hasher.finish()
}

fn message(block: &[u8; VERITY_BLOCK]) -> &[Block] {
    block.as_chunks().0
}

/// Returns the last blocks, one or two, of a message of `size` bytes that ends in `tail`.
pub(crate) fn ending(tail: &[u8], size: u64) -> ([Block; 2], usize) {
    let mut blocks = [[0; BLOCK]; 2];
    let count = if tail.len() < BLOCK - size_of::<u64>() {
        1
    } else {
        2
    };
    blocks[0][..tail.len()].copy_from_slice(tail);
    blocks[0][tail.len()] = 0x80;
    let bits = size.wrapping_mul(8).to_be_bytes();
    blocks[count - 1][BLOCK - bits.len()..].copy_from_slice(&bits);
    (blocks, count)
}

pub(crate) fn digest_of(state: State) -> Digest {
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use puzzlefs_core::digest::sha256;
    use puzzlefs_core::verity;

    /// What this machine can do, and what every machine can.
    fn paths() -> [Option<Lanes>; 2] {
        [Lanes::detect(), None]
    }

    fn noise(size: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 | size as u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..size).map(|_| next()).collect()
    }

    fn check(data: &[u8], step: usize) {
        let wanted = (sha256(data), verity::verity_digest(data));
        let hashes: Vec<Digest> = data.chunks(VERITY_BLOCK).map(leaf).collect();
        for lanes in paths() {
            let mut hasher = BlobHasher::with(lanes);
            data.chunks(step).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), wanted, "{} by {step}", data.len());
            let mut found = Vec::new();
            each_leaf(lanes, data, |hash| found.push(hash));
            assert_eq!(found, hashes, "{}", data.len());
            assert_eq!(verity_digest_with(lanes, data), wanted.1);
        }
    }

    #[test]
    fn every_size_up_to_three_blocks() {
        let data = noise(3 * VERITY_BLOCK + 1);
        for size in (0..data.len()).step_by(7).chain(0..200) {
            check(&data[..size], usize::MAX);
        }
        for blocks in 1..=3 {
            for size in blocks * VERITY_BLOCK - 70..=(blocks * VERITY_BLOCK + 70).min(data.len()) {
                check(&data[..size], usize::MAX);
            }
        }
    }

    #[test]
    fn every_shape_of_tree() {
        let data = noise(129 * VERITY_BLOCK);
        for blocks in [4, 5, 7, 8, 127, 128] {
            for size in [-1, 0, 1].map(|more| (blocks * VERITY_BLOCK).strict_add_signed(more)) {
                check(&data[..size], usize::MAX);
            }
        }
    }

    #[test]
    fn pieces_of_every_size() {
        let data = noise(5 * VERITY_BLOCK + 99);
        for step in [1, 63, 64, 65, 1000, 4095, 4096, 4097, 8191, 9000] {
            check(&data, step);
        }
        let (mut at, mut step, mut hasher) = (0, 1, BlobHasher::new());
        while at < data.len() {
            let end = data.len().min(at + step);
            hasher.update(&data[at..end]);
            (at, step) = (end, step * 7 % 5003);
        }
        assert_eq!(hasher.finish(), blob_digests(&data));
    }
}
