//! Measures what a build does most beside compressing: cutting and hashing. Run with `--release`.
//! Counts the time on the processor, so that other work beside it disturbs little.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use puzzlefs_core::{chunk, digest, verity};
use puzzlefs_engine::hashing;

const SIZE: usize = 64 << 20;

fn main() {
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..SIZE / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    measure("chunk", || chunk::chunks(&noise).count());
    measure("chunk, the crate fastcdc", || {
        fastcdc::v2020::FastCDC::new(&noise, 16 << 10, 64 << 10, 256 << 10).count()
    });
    for threads in [1, 2] {
        let once = || {
            let start = Instant::now();
            black_box(puzzlefs_engine::cut_lengths(&noise, threads));
            start.elapsed().as_secs_f64()
        };
        let best = (0..20).map(|_| once()).fold(f64::INFINITY, f64::min);
        let speed = SIZE as f64 / best / 1e9;
        println!("chunk, {threads} threads, by the clock: {speed:.2} GB/s");
    }
    measure("sha256", || usize::from(digest::sha256(&noise)[0]));
    measure("verity, one lane", || {
        usize::from(verity::verity_digest(&noise)[0])
    });
    measure("verity", || usize::from(hashing::verity_digest(&noise)[0]));
    for size in [16 << 10, 64 << 10, 256 << 10] {
        let blobs = || noise.chunks(size);
        measure(&format!("blobs of {size}: two passes"), || {
            blobs()
                .map(|blob| digest::sha256(blob)[0] ^ verity::verity_digest(blob)[0])
                .fold(0, |all, one| all ^ usize::from(one))
        });
        measure(&format!("blobs of {size}: one pass"), || {
            blobs()
                .map(|blob| hashing::blob_digests(blob).0[0])
                .fold(0, |all, one| all ^ usize::from(one))
        });
    }
}

/// Prints the best speed of five runs.
fn measure(name: &str, work: impl Fn() -> usize) {
    let once = || {
        let start = on_processor();
        black_box(work());
        (on_processor() - start) / 1e9
    };
    let best = (0..5).map(|_| once()).fold(f64::INFINITY, f64::min);
    println!("{name}: {:.2} GB/s", SIZE as f64 / best / 1e9);
}

/// Returns the nanoseconds that this thread has run, as Linux counts them.
fn on_processor() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has schedstat");
    let first = text
        .split_whitespace()
        .next()
        .and_then(|field| field.parse().ok());
    first.expect("schedstat starts with a number")
}
