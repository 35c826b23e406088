//! SHA-256, the identity of every blob.

use core::fmt;

use sha2::Digest as _;

/// A SHA-256 digest, or an fs-verity digest made with it.
pub type Digest = [u8; 32];

/// Returns the SHA-256 of `data`.
pub fn sha256(data: &[u8]) -> Digest {
    sha2::Sha256::digest(data).into()
}

/// SHA-256 of bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    #[inline]
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// Returns the digest of all bytes so far.
    pub fn finish(self) -> Digest {
        self.0.finalize().into()
    }

    /// Returns the digest of all bytes so far and starts again with none.
    #[inline]
    pub fn finish_and_restart(&mut self) -> Digest {
        self.0.finalize_reset().into()
    }
}

/// Shows a digest as 64 lower-case hexadecimal digits, a blob's file name.
pub struct Hex<'a>(pub &'a Digest);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn pieces_hash_like_the_whole() {
        let mut hasher = Sha256::new();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish_and_restart(), sha256(b"abc"));
        assert_eq!(hasher.finish(), sha256(b""));
    }

    #[test]
    fn hex_is_a_blob_name() {
        assert_eq!(
            Hex(&sha256(b"{}")).to_string(),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }
}
