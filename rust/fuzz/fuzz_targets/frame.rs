//! Arbitrary bytes as a compressed blob (seek table and frames), and as one frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use puzzlefs_engine::codec::{decode_frame, decompress};

/// What `decode_frame` is told that a frame holds.
const SIZES: [usize; 4] = [0, 1, 4096, 65_536];

fuzz_target!(|blob: &[u8]| {
    let _ = decompress(blob);
    for size in SIZES {
        if let Ok(content) = decode_frame(blob, size) {
            assert_eq!(content.len(), size);
        }
    }
});
