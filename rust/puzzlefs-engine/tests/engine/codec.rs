//! Compressed blobs: what is written reads back, what is malformed is rejected with its rule.

use crate::scratch::{noise, text};
use puzzlefs_core::{Error, Rule};
use puzzlefs_engine::codec::{compress, compress_upstream, decompress};

/// A seek table of these (compressed, uncompressed) sizes behind `frames`.
fn blob(frames: &[u8], sizes: &[(u32, u32)], descriptor: u8) -> Vec<u8> {
    let width = if descriptor & 0x80 == 0 { 8 } else { 12 };
    let mut bytes = frames.to_vec();
    let body = (sizes.len() * width + 9) as u32;
    bytes.extend_from_slice(&0x184D_2A5E_u32.to_le_bytes());
    bytes.extend_from_slice(&body.to_le_bytes());
    for (compressed, content) in sizes {
        bytes.extend_from_slice(&compressed.to_le_bytes());
        bytes.extend_from_slice(&content.to_le_bytes());
        bytes.extend_from_slice(&[0; 4][..width - 8]);
    }
    bytes.extend_from_slice(&(sizes.len() as u32).to_le_bytes());
    bytes.push(descriptor);
    bytes.extend_from_slice(&0x8F92_EAB1_u32.to_le_bytes());
    bytes
}

/// One frame that holds `content`, without a table.
fn frame(content: &[u8]) -> Vec<u8> {
    let mut bytes = compress(content, content.len()).unwrap();
    bytes.truncate(bytes.len() - 25);
    bytes
}

#[test]
fn what_is_written_reads_back() {
    for size in [0, 1, 4095, 4096, 4097, 8192, 300_000] {
        for data in [noise(1, size), text(2, size), vec![0; size]] {
            for frame_size in [1000, 4096, 65_536, 16 << 20] {
                let compressed = compress(&data, frame_size).unwrap();
                assert!(decompress(&compressed).unwrap() == data);
            }
            assert!(decompress(&compress_upstream(&data).unwrap()).unwrap() == data);
        }
    }
    for frame_size in [0, (16 << 20) + 1] {
        assert!(matches!(
            compress(b"x", frame_size),
            Err(Error::Contradiction(_))
        ));
    }
}

#[test]
fn a_frame_tells_its_size_except_as_the_original_writes_it() {
    let data = text(1, 4096);
    // The frame header descriptor: content size flag (bits 6 and 7) and single segment (bit 5).
    assert_ne!(compress(&data, 4096).unwrap()[4] & 0xE0, 0);
    assert_eq!(compress_upstream(&data).unwrap()[4] & 0xE0, 0);
}

#[test]
fn tables_of_other_writers_are_read() {
    let data = text(1, 5000);
    let (first, second) = (frame(&data[..3000]), frame(&data[3000..]));
    let sizes = [
        (first.len() as u32, 3000),
        (second.len() as u32, 2000),
        (0, 0),
    ];
    let both = [first, second].concat();
    for descriptor in [0, 0x80, 0x83] {
        assert!(decompress(&blob(&both, &sizes, descriptor)).unwrap() == data);
    }
}

#[test]
fn each_rule_has_its_blob() {
    let content = text(1, 3000);
    let bytes = frame(&content);
    let size = bytes.len() as u32;
    let good = blob(&bytes, &[(size, 3000)], 0);
    let edited = |at: usize, byte: u8| {
        let mut edited = good.clone();
        let at = edited.len() - at;
        edited[at] ^= byte;
        edited
    };
    let mut torn = bytes.clone();
    torn[size as usize / 2] ^= 0x55;
    let missing = Rule::SeekTableMissing;
    let cases = [
        (vec![], missing),
        (good[good.len() - 16..].to_vec(), missing),
        (edited(1, 1), missing),
        (edited(25, 1), missing),
        (edited(21, 1), missing),
        (edited(9, 0xFF), missing),
        (edited(6, 0x7F), missing),
        (blob(&bytes, &[(size, 3000)], 4), Rule::SeekTableMalformed),
        (
            blob(&bytes, &[(size + 1, 3000)], 0x40),
            Rule::SeekTableMalformed,
        ),
        (
            blob(&bytes, &[(size - 1, 3000)], 0),
            Rule::SeekTableMismatch,
        ),
        (
            blob(&bytes, &[(size, 3000), (1, u32::MAX)], 0),
            Rule::SeekTableMismatch,
        ),
        (blob(&bytes, &[], 0), Rule::SeekTableMismatch),
        (
            blob(&bytes, &[(u32::MAX, 0); 3], 0),
            Rule::SeekTableMismatch,
        ),
        (
            blob(&bytes, &[(size, (16 << 20) + 1)], 0),
            Rule::FrameTooLarge,
        ),
        (blob(&bytes, &[(size, 2999)], 0), Rule::FrameDamaged),
        (blob(&bytes, &[(size, 3001)], 0), Rule::FrameDamaged),
        (blob(&bytes, &[(size, 3000), (0, 1)], 0), Rule::FrameDamaged),
        (blob(&torn, &[(size, 3000)], 0), Rule::FrameDamaged),
    ];
    for (number, (bytes, rule)) in cases.into_iter().enumerate() {
        assert_eq!(decompress(&bytes), Err(rule), "case {number}");
    }
}

#[test]
fn no_damage_makes_it_panic() {
    let good = compress(&text(3, 20_000), 4096).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] = bad[at].wrapping_add(1);
        let _ = decompress(&bad);
        let _ = decompress(&good[..at]);
        let _ = decompress(&good[at..]);
    }
}
