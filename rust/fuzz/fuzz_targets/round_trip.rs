//! Arbitrary content, compressed in frames of an arbitrary size and as the original does, comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use puzzlefs_engine::codec::{compress, compress_upstream, decompress};

fuzz_target!(|input: (u16, &[u8])| {
    let (frame_size, content) = input;
    let blob = compress(content, usize::from(frame_size) + 1).unwrap();
    assert_eq!(decompress(&blob).as_deref(), Ok(content));
    let blob = compress_upstream(content).unwrap();
    assert_eq!(decompress(&blob).as_deref(), Ok(content));
});
