//! Cutting bytes in memory on several threads, with the cuts that one thread makes.
//!
//! Where a chunk ends depends only on where it begins and what follows. So each thread cuts a part of
//! the data as if a chunk began at the part's start. Going through the parts in order, the true cuts
//! soon meet a guessed one, and from there on all guesses in the part are true.

use std::thread;

use puzzlefs_core::chunk::next_cut;
use puzzlefs_core::limits::CHUNK_MAX;

/// Bytes in the smallest part that is worth a thread.
const PART_MIN: usize = 8 << 20;

/// Returns the lengths of the chunks into which FastCDC cuts `data`, a whole stream. Up to `threads`
/// threads share the work, if there is enough of it.
pub fn cut_lengths(data: &[u8], threads: usize) -> Vec<usize> {
    cut_in_parts(data, threads.min(data.len() / PART_MIN))
}

fn cut_in_parts(data: &[u8], parts: usize) -> Vec<usize> {
    // Data without cuts is cut at the limit: parts that are multiples of it meet those cuts too.
    let part = data
        .len()
        .div_ceil(parts.max(1))
        .next_multiple_of(CHUNK_MAX)
        .max(CHUNK_MAX);
    let mut lengths = Vec::with_capacity(data.len() / CHUNK_MAX);
    let mut at = 0;
    thread::scope(|scope| {
        let guess = |start: usize| {
            let spawned = thread::Builder::new()
                .spawn_scoped(scope, move || cut(data, start, start.saturating_add(part)));
            // Without a thread there are no guesses to meet, and this one cuts the part.
            (start, spawned.ok())
        };
        let guesses: Vec<_> = (part..data.len()).step_by(part).map(guess).collect();
        cut_until(data, &mut at, part.min(data.len()), &[], &mut lengths);
        for (start, guessed) in guesses {
            let guessed = guessed.and_then(|thread| thread.join().ok());
            let end = start.saturating_add(part).min(data.len());
            cut_until(
                data,
                &mut at,
                end,
                guessed.as_deref().unwrap_or(&[]),
                &mut lengths,
            );
        }
    });
    lengths
}

/// Returns where chunks begin from `start` up to `end`, and where the last of them ends.
fn cut(data: &[u8], start: usize, end: usize) -> Vec<usize> {
    let mut at = start;
    let mut starts = vec![at];
    while at < end.min(data.len()) {
        at += next_cut(&data[at..]);
        starts.push(at);
    }
    starts
}

/// Adds the chunks from `at` up to `end`, and moves `at` to where the last of them ends. `guessed` says
/// where chunks begin, ascending, if one begins at any of these places.
fn cut_until(data: &[u8], at: &mut usize, end: usize, guessed: &[usize], lengths: &mut Vec<usize>) {
    while *at < end {
        if let Ok(place) = guessed.binary_search(at) {
            let known = guessed[place..].windows(2).map(|pair| pair[1] - pair[0]);
            lengths.extend(known);
            *at = guessed.last().copied().unwrap_or(*at);
            return;
        }
        let length = next_cut(&data[*at..]);
        lengths.push(length);
        *at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use puzzlefs_core::chunk::chunks;

    fn noise(size: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..size.div_ceil(8))
            .flat_map(|_| next().to_le_bytes())
            .take(size)
            .collect()
    }

    fn check(data: &[u8]) {
        let wanted: Vec<usize> = chunks(data).map(<[u8]>::len).collect();
        for parts in [0, 1, 2, 3, 7, 100] {
            assert_eq!(cut_in_parts(data, parts), wanted, "{parts} parts");
        }
    }

    #[test]
    fn as_many_parts_as_you_like_cut_alike() {
        for size in [0, 1, CHUNK_MAX - 1, CHUNK_MAX, CHUNK_MAX + 1, 9_000_001] {
            check(&noise(size, 7));
            check(&vec![0; size]);
        }
    }

    #[test]
    fn data_that_never_meets_a_guess_is_cut_alike() {
        // Zeros after a chunk of another length: every cut is off the guessed ones.
        let mut data = noise(100_001, 3);
        data.resize(5_000_000, 0);
        check(&data);
        data.extend(noise(3_000_000, 5));
        check(&data);
        // A period that is no multiple of anything.
        let text = b"immutable, content-defined ".repeat(200_000);
        check(&text);
    }

    #[test]
    fn small_data_takes_one_thread() {
        let data = noise(2 * PART_MIN + 5, 11);
        let wanted: Vec<usize> = chunks(&data).map(<[u8]>::len).collect();
        for threads in [0, 1, 2, 5] {
            assert_eq!(cut_lengths(&data, threads), wanted);
            assert_eq!(cut_lengths(&data[..9], threads), [9]);
        }
    }
}
