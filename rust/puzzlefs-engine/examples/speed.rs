//! Measures what a build does most beside compressing: cutting and hashing, each beside what it is
//! compared with. `speed FILE [ROUNDS]` prints bytes a second by the clock, a line for each round.
//!
//! Everything is measured in turn. That all cut alike is made sure of first.

use std::hint::black_box;
use std::time::Instant;
use std::{env, fs};

use puzzlefs_core::limits::{CHUNK_AVERAGE, CHUNK_MAX, CHUNK_MIN};
use puzzlefs_core::{chunk, digest, verity};
use puzzlefs_engine::{cut_lengths, hashing};

fn main() {
    let path = env::args().nth(1).expect("usage: speed FILE [ROUNDS]");
    let rounds = env::args()
        .nth(2)
        .map_or(5, |word| word.parse().expect("a number of rounds"));
    let data = fs::read(path).expect("the file can be read");
    let lengths = by_the_crate(&data);
    assert_eq!(cut(&data), lengths, "cut as the crate fastcdc cuts");
    for threads in [1, 2] {
        assert_eq!(
            cut_lengths(&data, threads),
            lengths,
            "{threads} threads cut alike"
        );
    }
    let blobs: Vec<_> = chunk::chunks(&data).collect();
    for _ in 0..rounds {
        measure("cut", &data, || cut(&data).len());
        measure("cut by the crate", &data, || by_the_crate(&data).len());
        measure("cut on one core", &data, || cut_lengths(&data, 1).len());
        measure("cut on two cores", &data, || cut_lengths(&data, 2).len());
        measure("hash in one pass", &data, || {
            blobs
                .iter()
                .map(|blob| usize::from(hashing::blob_digests(blob).0[0]))
                .sum()
        });
        measure("hash in two passes", &data, || {
            blobs
                .iter()
                .map(|blob| digest::sha256(blob)[0] ^ verity::verity_digest(blob)[0])
                .map(usize::from)
                .sum()
        });
    }
}

fn cut(data: &[u8]) -> Vec<usize> {
    chunk::chunks(data).map(<[u8]>::len).collect()
}

fn by_the_crate(data: &[u8]) -> Vec<usize> {
    fastcdc::v2020::FastCDC::new(data, CHUNK_MIN, CHUNK_AVERAGE, CHUNK_MAX)
        .map(|chunk| chunk.length)
        .collect()
}

fn measure(name: &str, data: &[u8], work: impl Fn() -> usize) {
    let start = Instant::now();
    black_box(work());
    println!(
        "{name}: {:.0}",
        data.len() as f64 / start.elapsed().as_secs_f64()
    );
}
