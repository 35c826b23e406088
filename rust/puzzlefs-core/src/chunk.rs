//! Content-defined chunking: FastCDC (2020), minimum 16 KiB, average 64 KiB, maximum 256 KiB.
//!
//! A gear hash rolls over the bytes: it is shifted by one bit and the byte's table value is added, so
//! the bits that the masks look at depend on the last 48 bytes alone. A chunk ends before the first
//! byte, from the minimum on, whose hash has no bit of the mask. Up to the average length the mask
//! has 17 bits, after it 15 (normalisation level 1), which draws lengths towards the average.

use crate::gear::GEAR;
use crate::limits::{CHUNK_AVERAGE, CHUNK_MAX, CHUNK_MIN};

/// Bits of the hash that must be clear in a cut before the average length.
const MASK_SHORT: u64 = 0x0000_d907_0353_7000;
/// The same from the average length on: fewer bits, so that a cut comes sooner.
const MASK_LONG: u64 = 0x0000_d90f_0353_0000;

/// The values of the table, doubled.
static DOUBLED: [u64; 256] = {
    let mut table = GEAR;
    let mut at = 0;
    while at < table.len() {
        table[at] <<= 1;
        at += 1;
    }
    table
};

/// Bytes that are searched at once. Both distances, up to the average and from there to the maximum,
/// are whole blocks.
const BLOCK: usize = 2048;

/// Returns the length of the first chunk of `data`.
///
/// `data` must hold the rest of the stream, or at least [`CHUNK_MAX`] bytes of it. The answer is 0
/// only for empty data, and never more than [`CHUNK_MAX`].
pub fn next_cut(data: &[u8]) -> usize {
    let data = data.get(..CHUNK_MAX).unwrap_or(data);
    let Some((_, tail)) = data.split_at_checked(CHUNK_MIN) else {
        return data.len();
    };
    // The original takes two bytes at a time and never looks at an odd last one.
    let tail = tail.get(..tail.len() & !1).unwrap_or(tail);
    let (short, long) = tail
        .split_at_checked(CHUNK_AVERAGE - CHUNK_MIN)
        .unwrap_or((tail, &[]));
    let mut hash = 0;
    if let Some(at) = search(short, MASK_SHORT, &mut hash) {
        return CHUNK_MIN + at;
    }
    match search(long, MASK_LONG, &mut hash) {
        Some(at) => CHUNK_AVERAGE + at,
        None => data.len(),
    }
}

/// Rolls `hash` over `bytes` up to the first one where it has no bit of `mask`; returns its position.
fn search(bytes: &[u8], mask: u64, hash: &mut u64) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (row, block) in blocks.iter().enumerate() {
        match pass(block, mask, *hash) {
            Some(next) => *hash = next,
            None => return step(block, mask, hash).map(|at| row * BLOCK + at),
        }
    }
    step(rest, mask, hash).map(|at| blocks.len() * BLOCK + at)
}

/// Returns the hash after a block, or `None` if there is a cut in it.
///
/// Each hash waits for the one before it. So the halves of the block are hashed side by side, the
/// second from a hash that the end of the first tells.
fn pass(block: &[u8; BLOCK], mask: u64, hash: u64) -> Option<u64> {
    let (lower, upper) = block.split_at(BLOCK / 2);
    // What the bytes before the last 64 did is shifted out.
    let warm = lower.get(lower.len() - u64::BITS as usize..)?;
    let mut one = hash;
    let mut two = warm.iter().fold(0, |hash, &byte| roll(hash, byte));
    let (lower, _) = lower.as_chunks::<4>();
    let (upper, _) = upper.as_chunks::<4>();
    for (lower, upper) in lower.iter().zip(upper) {
        let pairs = lower.as_chunks().0.iter().zip(upper.as_chunks().0);
        for (first, second) in pairs {
            let (doubled, next) = roll_two(one, first);
            one = next;
            if doubled & (mask << 1) == 0 || one & mask == 0 {
                return None;
            }
            let (doubled, next) = roll_two(two, second);
            two = next;
            if doubled & (mask << 1) == 0 || two & mask == 0 {
                return None;
            }
        }
    }
    Some(two)
}

/// Rolls over `bytes` one after the other, as `search` does.
fn step(bytes: &[u8], mask: u64, hash: &mut u64) -> Option<usize> {
    bytes.iter().position(|&byte| {
        *hash = roll(*hash, byte);
        *hash & mask == 0
    })
}

#[inline]
fn roll(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(GEAR[usize::from(byte)])
}

/// Rolls over two bytes; returns twice the hash after the first, and the hash after both.
///
/// The second hash is the doubled first plus a value of the table: one shift does for two bytes.
#[inline]
fn roll_two(hash: u64, bytes: &[u8; 2]) -> (u64, u64) {
    let doubled = (hash << 2).wrapping_add(DOUBLED[usize::from(bytes[0])]);
    (doubled, doubled.wrapping_add(GEAR[usize::from(bytes[1])]))
}

/// Returns the chunks of a whole stream, in order; none for an empty one.
pub fn chunks(data: &[u8]) -> Chunks<'_> {
    Chunks { rest: data }
}

/// Iterator over the chunks of a whole stream.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (chunk, rest) = self.rest.split_at_checked(next_cut(self.rest))?;
        self.rest = rest;
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Bytes of a small generator (xorshift), the same every time.
    fn noise(seed: u64, size: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..size).map(|_| next()).collect()
    }

    /// What the crate that defines the format's cuts says.
    fn reference(data: &[u8]) -> Vec<usize> {
        let (min, average, max) = (CHUNK_MIN as u32, CHUNK_AVERAGE as u32, CHUNK_MAX as u32);
        let cuts = fastcdc::v2020::FastCDC::new(data, min, average, max);
        cuts.map(|chunk| chunk.length).collect()
    }

    fn lengths(data: &[u8]) -> Vec<usize> {
        chunks(data).map(<[u8]>::len).collect()
    }

    #[test]
    fn cuts_where_the_original_cuts() {
        let sizes = [
            0,
            1,
            CHUNK_MIN - 1,
            CHUNK_MIN,
            CHUNK_MIN + 1,
            CHUNK_MIN + 17,
        ];
        let edges = [
            CHUNK_AVERAGE - 1,
            CHUNK_AVERAGE + 3,
            CHUNK_MAX - 1,
            CHUNK_MAX,
            CHUNK_MAX + 1,
        ];
        for size in sizes.into_iter().chain(edges).chain([1_000_001]) {
            for seed in 1..4 {
                let data = noise(seed, size);
                assert_eq!(
                    lengths(&data),
                    reference(&data),
                    "seed {seed}, {size} bytes"
                );
            }
            let zeros = vec![0; size];
            assert_eq!(lengths(&zeros), reference(&zeros), "{size} zeros");
            let text: Vec<u8> = b"immutable ".iter().copied().cycle().take(size).collect();
            assert_eq!(lengths(&text), reference(&text), "{size} bytes of text");
        }
    }

    #[test]
    fn cuts_at_every_alignment_of_the_end() {
        let data = noise(3, 2 * CHUNK_AVERAGE + 64);
        for end in CHUNK_MIN - 2..CHUNK_MIN + 80 {
            assert_eq!(
                lengths(&data[..end]),
                reference(&data[..end]),
                "{end} bytes"
            );
        }
        for end in CHUNK_AVERAGE - 70..CHUNK_AVERAGE + 70 {
            assert_eq!(
                lengths(&data[..end]),
                reference(&data[..end]),
                "{end} bytes"
            );
        }
    }

    #[test]
    fn an_odd_last_byte_cuts_nothing() {
        let cuts = (1..40)
            .map(|seed| noise(seed, CHUNK_MAX))
            .map(|data| (next_cut(&data), data));
        let mut found = 0;
        for (cut, data) in cuts.filter(|(cut, _)| cut % 2 == 0 && *cut < CHUNK_MAX) {
            // The byte at the cut is the last one, and would end a chunk before it.
            assert_eq!(lengths(&data[..=cut]), [cut + 1]);
            assert_eq!(reference(&data[..=cut]), [cut + 1]);
            found += 1;
        }
        assert!(found > 5);
    }

    #[test]
    fn the_table_is_what_its_comment_says() {
        assert_eq!(
            (GEAR[0], GEAR[1]),
            (0x3b5d_3c7d_207e_37dc, 0x784d_68ba_9112_3086)
        );
        assert_eq!(GEAR.len(), 256);
    }
}
