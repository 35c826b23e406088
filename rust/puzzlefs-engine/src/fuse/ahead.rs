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
/// Numbers that may lie between one inode of a sequence and the next: of other kinds, or never read.
pub const GAP: u64 = 64;
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

/// Inodes of one kind that are read in order of their numbers.
#[derive(Clone, Copy, Default)]
struct Stream {
    links: bool,
    /// The number after the last that was read or sent.
    next: u64,
    window: usize,
}

/// What is to be sent ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Row of the sequence.
    stream: usize,
    /// The kind of its inodes.
    pub kind: Kind,
    /// Bytes to send.
    pub window: usize,
}

impl Ahead {
    /// Expects the inodes of a directory that is being listed.
    pub fn expect(&self, index: &Index, directory: u64) {
        let Ok(entries) = index.entries(directory, 0, GAP as usize) else {
            return;
        };
        let (mut file, mut link) = (None, None);
        for (_, ino) in entries {
            match index.stat(ino).map(|stat| stat.kind) {
                Ok(Kind::File) => file = file.or(Some(ino)),
                Ok(Kind::Lnk) => link = link.or(Some(ino)),
                _ => {}
            }
        }
        let mut streams = self.lock();
        for (links, first) in [(false, file), (true, link)] {
            if let Some(ino) = first {
                streams.expect(links, ino);
            }
        }
    }

    /// Notes that an inode was read from its start; returns what to send, if it was expected.
    pub fn follow(&self, kind: Kind, ino: u64) -> Option<Run> {
        let links = kind == Kind::Lnk;
        let mut streams = self.lock();
        let Some(at) = streams.find(links, ino) else {
            streams.add(Stream {
                links,
                next: ino.saturating_add(1),
                window: 0,
            });
            return None;
        };
        let stream = &mut streams.streams[at];
        stream.next = ino.saturating_add(1);
        stream.window = (stream.window * 2).clamp(FIRST_WINDOW, LAST_WINDOW);
        Some(Run {
            stream: at,
            kind,
            window: stream.window,
        })
    }

    /// Returns the number from which a run goes on, if that is not further than [`GAP`] from `last`,
    /// and takes it as sent.
    pub fn advance(&self, run: &Run, sent: u64) -> Option<u64> {
        let mut streams = self.lock();
        let stream = &mut streams.streams[run.stream];
        if stream.links != (run.kind == Kind::Lnk) {
            return None;
        }
        stream.next = stream.next.max(sent.saturating_add(1));
        Some(stream.next)
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn find(&self, links: bool, ino: u64) -> Option<usize> {
        let fits = |stream: &Stream| {
            stream.links == links
                && stream.next > 0
                && (stream.next..=stream.next.saturating_add(GAP)).contains(&ino)
        };
        self.streams.iter().position(fits)
    }

    fn expect(&mut self, links: bool, ino: u64) {
        if self.find(links, ino).is_none() {
            self.add(Stream {
                links,
                next: ino,
                window: 0,
            });
        }
    }

    fn add(&mut self, stream: Stream) {
        self.streams[self.oldest] = stream;
        self.oldest = (self.oldest + 1) % STREAMS;
    }
}
