//! SHA-256 of several messages, two at a time side by side.

use puzzlefs_core::Digest;
use puzzlefs_core::digest::sha256;

use crate::hashing::{INITIAL, digest_of, ending};
use crate::sha_lanes::{Block, Lanes, State};

/// A message that is being hashed.
struct Message<'a> {
    number: usize,
    state: State,
    /// The whole blocks that are still to be hashed, and what comes after them.
    blocks: &'a [Block],
    tail: &'a [u8],
    size: u64,
}

/// Returns the SHA-256 of each message.
pub fn sha256_each(messages: &[&[u8]]) -> Vec<Digest> {
    sha256_each_with(Lanes::detect(), messages)
}

fn sha256_each_with(lanes: Option<Lanes>, messages: &[&[u8]]) -> Vec<Digest> {
    let Some(lanes) = lanes else {
        return messages.iter().map(|message| sha256(message)).collect();
    };
    let mut digests = vec![Digest::default(); messages.len()];
    let mut waiting = messages.iter().copied().enumerate().map(Message::new);
    let mut pair = [waiting.next(), waiting.next()];
    loop {
        match &mut pair {
            [Some(one), Some(two)] => add_two(lanes, one, two),
            [Some(one), None] | [None, Some(one)] => one.add(lanes, one.blocks.len()),
            [None, None] => return digests,
        }
        for slot in &mut pair {
            if let Some(message) = slot.take_if(|message| message.blocks.is_empty()) {
                digests[message.number] = message.digest(lanes);
                *slot = waiting.next();
            }
        }
    }
}

/// Adds as many blocks of two messages as both have.
fn add_two(lanes: Lanes, one: &mut Message<'_>, two: &mut Message<'_>) {
    let count = one.blocks.len().min(two.blocks.len());
    let mut states = [one.state, two.state];
    lanes.add(&mut states, [one.take(count), two.take(count)]);
    [one.state, two.state] = states;
}

impl<'a> Message<'a> {
    fn new((number, bytes): (usize, &'a [u8])) -> Self {
        let (blocks, tail) = bytes.as_chunks();
        let (state, size) = (INITIAL, bytes.len() as u64);
        Self {
            number,
            state,
            blocks,
            tail,
            size,
        }
    }

    fn take(&mut self, count: usize) -> &'a [Block] {
        let (now, later) = self.blocks.split_at(count);
        self.blocks = later;
        now
    }

    fn add(&mut self, lanes: Lanes, count: usize) {
        let mut state = [self.state];
        lanes.add(&mut state, [self.take(count)]);
        [self.state] = state;
    }

    fn digest(&self, lanes: Lanes) -> Digest {
        let (end, count) = ending(self.tail, self.size);
        let mut state = [self.state];
        lanes.add(&mut state, [&end[..count]]);
        digest_of(state[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_messages_of_any_size() {
        let data: Vec<u8> = (0..70_000_usize)
            .map(|at| (at / 3 + at / 251) as u8)
            .collect();
        let sizes = [0, 1, 55, 56, 63, 64, 65, 128, 5000, 0, 70_000, 4096, 17];
        let messages: Vec<&[u8]> = sizes.iter().map(|&size| &data[..size]).collect();
        let wanted: Vec<Digest> = messages.iter().map(|message| sha256(message)).collect();
        for first in 0..messages.len() {
            for last in first..=messages.len() {
                for lanes in [Lanes::detect(), None] {
                    let found = sha256_each_with(lanes, &messages[first..last]);
                    assert_eq!(found, wanted[first..last], "{first}..{last}");
                }
            }
        }
    }
}
