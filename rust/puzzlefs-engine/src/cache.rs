//! Decoded frames kept in memory, and which are being decoded.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::lru::Lru;
use crate::waiting;

/// Bytes that an entry takes beside the frame itself, about.
const OVERHEAD: usize = 128;

/// The content of a frame.
pub type Frame = Arc<Vec<u8>>;

/// A frame's blob and its number there.
type Key = (u32, usize);

/// Frames by (blob, frame); those not used for longest go where more than the limit are kept.
pub struct FrameCache {
    state: Mutex<State>,
    /// Told when a frame is no longer being decoded.
    settled: Condvar,
}

struct State {
    kept: Lru<Key, Frame>,
    /// What some thread is decoding.
    claimed: HashSet<Key>,
}

/// What the cache says of a frame.
pub enum Found<'a> {
    /// It is kept.
    Frame(Frame),
    /// The caller is to decode it.
    Claim(Claim<'a>),
}

/// The right to decode a frame, which no other thread does meanwhile.
pub struct Claim<'a> {
    cache: &'a FrameCache,
    key: Key,
}

impl FrameCache {
    /// Makes an empty cache for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let state = State {
            kept: Lru::new(limit),
            claimed: HashSet::new(),
        };
        Self {
            state: Mutex::new(state),
            settled: Condvar::new(),
        }
    }

    /// Returns a frame, or else the claim to it; waits while another thread has that. The caller must
    /// hold no claim.
    pub fn get(&self, blob: u32, number: usize) -> Found<'_> {
        let key = (blob, number);
        let mut state = self.lock();
        loop {
            if let Some(frame) = state.kept.get(key) {
                return Found::Frame(frame);
            }
            if state.claimed.insert(key) {
                return Found::Claim(Claim { cache: self, key });
            }
            waiting::expect();
            let woken = self.settled.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns the longest run of frames from `first` on that are kept, at most `limit`.
    pub fn run(&self, blob: u32, first: usize, limit: usize) -> Vec<Frame> {
        let mut state = self.lock();
        let numbers = first..first + limit;
        numbers
            .map_while(|number| state.kept.get((blob, number)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim<'_> {
    /// Keeps the decoded frame.
    pub fn keep(self, frame: &Frame) {
        let weight = frame.len() + OVERHEAD;
        let dropped = self
            .cache
            .lock()
            .kept
            .insert(self.key, Arc::clone(frame), weight);
        drop(dropped);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.cache.lock().claimed.remove(&self.key);
        self.cache.settled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn one_thread_decodes_and_the_others_wait() {
        let (cache, decoded) = (FrameCache::new(1 << 20), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| match cache.get(1, 2) {
                    Found::Frame(frame) => assert_eq!(*frame, b"x"),
                    Found::Claim(claim) => {
                        decoded.fetch_add(1, Ordering::Relaxed);
                        claim.keep(&Arc::new(b"x".to_vec()));
                    }
                });
            }
        });
        assert_eq!(decoded.into_inner(), 1);
        assert_eq!(cache.run(1, 2, 5).len(), 1);
        assert!(cache.run(1, 1, 5).is_empty());
    }

    #[test]
    fn what_was_not_kept_is_free_again() {
        let cache = FrameCache::new(0);
        for _ in 0..2 {
            let Found::Claim(claim) = cache.get(1, 2) else {
                panic!("nothing fits");
            };
            claim.keep(&Arc::new(vec![0]));
        }
    }
}
