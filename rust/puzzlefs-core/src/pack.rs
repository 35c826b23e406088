//! Packs: which chunks share a blob, so that equal regions of two streams give equal blobs.

use crate::digest::Digest;
use crate::limits::{PACK_SIZE_MAX, PACK_SIZE_MIN};

/// Where packs end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRule {
    average: u64,
}

impl PackRule {
    /// Returns the rule for packs of `average` bytes before compression, `None` where that is out of range.
    pub fn new(average: u64) -> Option<Self> {
        let allowed = PACK_SIZE_MIN..=PACK_SIZE_MAX;
        allowed.contains(&average).then_some(Self { average })
    }

    /// Bytes in a pack, on average.
    pub fn average(self) -> u64 {
        self.average
    }

    /// Bytes before which no pack ends, unless the stream does.
    pub fn least(self) -> u64 {
        self.average / 4
    }

    /// Bytes in the largest pack.
    pub fn greatest(self) -> u64 {
        self.average * 4
    }

    /// Tells whether a pack of `size` bytes ends after its last chunk, which has `length` bytes and
    /// this SHA-256.
    ///
    /// From the least size on, every byte ends a pack with the same probability, whatever the lengths
    /// of the chunks.
    pub fn ends(self, size: u64, digest: &Digest, length: u64) -> bool {
        let mut lead = [0; 8];
        lead.copy_from_slice(&digest[..8]);
        let spread = self.average / 4 * 3;
        let drawn = (u128::from(u64::from_be_bytes(lead)) * u128::from(spread)) >> 64;
        size >= self.least() && drawn < u128::from(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;

    #[test]
    fn packs_have_the_average_size_whatever_the_chunks() {
        for length in [20_000, 66_000, 150_000] {
            let rule = PackRule::new(1 << 20).unwrap();
            let (mut packs, mut size, count) = (0, 0, 40_000_u32);
            for number in 0..count {
                if size + length > rule.greatest() {
                    (packs, size) = (packs + 1, 0);
                }
                size += length;
                if rule.ends(size, &sha256(&number.to_le_bytes()), length) {
                    (packs, size) = (packs + 1, 0);
                }
            }
            let average = u64::from(count) * length / packs;
            assert!(average.abs_diff(1 << 20) < 1 << 17, "{length}: {average}");
        }
    }

    #[test]
    fn the_vectors_of_the_format() {
        let rule = PackRule::new(1 << 20).unwrap();
        for (lead, drawn) in [
            (0x2b1c_0f90_d28d_b963_u64, 132_432),
            (0x04be_a614_6704_71bf, 14_575),
            (0xd113_eca5_6abf_52bf, 642_287),
        ] {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&lead.to_be_bytes());
            assert!(!rule.ends(1 << 18, &digest, drawn));
            assert!(rule.ends(1 << 18, &digest, drawn + 1));
            assert!(!rule.ends((1 << 18) - 1, &digest, drawn + 1));
        }
    }
}
