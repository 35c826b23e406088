//! Guessing what will be asked for next, from the order of what was.
//!
//! Whoever goes through a tree reads the files of each directory by name, and a build numbers them so.
//! Their pages go into the page cache before anybody asks: that costs a tenth of a question and its
//! answer. Whoever reads here and there gets nothing that was not asked for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use puzzlefs_core::index::Index;
use puzzlefs_core::metadata::Kind;

/// Sequences that are followed at a time.
const STREAMS: usize = 16;
/// Numbers that may lie between one file of a sequence and the next: of other kinds, or not read.
pub const GAP: u64 = 64;
/// Evidence of a sequence before anything is sent: files read here and there lie in order by chance too.
const ENOUGH: u32 = 2;
/// Bytes that are sent ahead the first time; each further time twice as many.
const FIRST_WINDOW: usize = 128 << 10;
const LAST_WINDOW: usize = 2 << 20;

/// The sequences of one mount.
#[derive(Default)]
pub struct Ahead(Mutex<Streams>);

#[derive(Default)]
struct Streams {
    streams: [Stream; STREAMS],
    /// The one that is replaced next.
    oldest: usize,
}

/// Files that are read in order of their numbers.
#[derive(Clone, Copy, Default)]
struct Stream {
    /// The number after the last that was read or sent; 0 for no stream.
    next: u64,
    /// What speaks for a sequence: a listing, and each file that was read where one was expected.
    evidence: u32,
    window: usize,
}

/// Files that are to be sent ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Row of the sequence.
    stream: usize,
    /// Bytes to send.
    pub window: usize,
}

impl Ahead {
    /// Expects the files of a directory that is being listed.
    pub fn expect(&self, index: &Index, directory: u64) {
        let Ok(mut entries) = index.entries(directory, 0, GAP as usize) else {
            return;
        };
        let is_file = |ino: u64| index.stat(ino).is_ok_and(|stat| stat.kind == Kind::File);
        let first = entries.find_map(|(_, ino)| is_file(ino).then_some(ino));
        let mut streams = self.lock();
        if let Some(next) = first.filter(|&ino| streams.find(ino).is_none()) {
            streams.add(next, 1);
        }
    }

    /// Notes that a file was read from its start; returns what to send, if it was expected.
    pub fn follow(&self, ino: u64) -> Option<Run> {
        let mut streams = self.lock();
        let next = ino.saturating_add(1);
        let Some(at) = streams.find(ino) else {
            streams.add(next, 0);
            return None;
        };
        let stream = &mut streams.streams[at];
        (stream.next, stream.evidence) = (next, stream.evidence.saturating_add(1));
        if stream.evidence < ENOUGH {
            return None;
        }
        let window = (stream.window * 2).clamp(FIRST_WINDOW, LAST_WINDOW);
        stream.window = window;
        Some(Run { stream: at, window })
    }

    /// Takes the files of a run up to number `sent` as sent, and returns the next number, which may be
    /// further: somebody has asked for those between.
    pub fn advance(&self, run: &Run, sent: u64) -> u64 {
        let mut streams = self.lock();
        let stream = &mut streams.streams[run.stream];
        stream.next = stream.next.max(sent.saturating_add(1));
        stream.next
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    /// Returns the stream that an inode continues.
    fn find(&self, ino: u64) -> Option<usize> {
        let continues = |stream: &Stream| {
            let last = stream.next.saturating_add(GAP);
            stream.next > 0 && (stream.next..=last).contains(&ino)
        };
        self.streams.iter().position(continues)
    }

    fn add(&mut self, next: u64, evidence: u32) {
        self.streams[self.oldest] = Stream {
            next,
            evidence,
            window: 0,
        };
        self.oldest = (self.oldest + 1) % STREAMS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_in_order_may_be_chance_and_three_are_not() {
        let ahead = Ahead::default();
        assert_eq!(ahead.follow(1000), None);
        assert_eq!(ahead.follow(1001), None);
        assert_eq!(ahead.follow(5000), None);
        let run = ahead.follow(1002 + GAP);
        assert_eq!(run.map(|run| run.window), Some(FIRST_WINDOW));
        let run = ahead.follow(1003 + GAP);
        assert_eq!(run.map(|run| run.window), Some(2 * FIRST_WINDOW));
    }
}
