//! Frames kept in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frame::Frame;
use crate::lru::Lru;

/// Bytes that an entry takes beside the frame itself, about.
const OVERHEAD: usize = 128;

/// A frame's blob and its number there.
pub type Key = (u32, usize);

/// Frames by (blob, frame); those not used for longest go where more than the limit are kept.
pub struct FrameCache(Mutex<Lru<Key, Arc<Frame>>>);

impl FrameCache {
    /// Makes an empty cache for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Mutex::new(Lru::new(limit)))
    }

    /// Returns a frame of `size` bytes, a new one where none is kept.
    pub fn get(&self, key: Key, size: usize) -> Arc<Frame> {
        let mut kept = self.lock();
        if let Some(frame) = kept.get(key) {
            return frame;
        }
        let frame = Arc::new(Frame::new(size));
        let dropped = kept.insert(key, Arc::clone(&frame), size + OVERHEAD);
        drop(kept);
        drop(dropped);
        frame
    }

    /// Notes how many bytes a frame takes now.
    pub fn weigh(&self, key: Key, frame: &Arc<Frame>, size: usize) {
        let mut kept = self.lock();
        let dropped = match kept.get(key) {
            Some(known) if Arc::ptr_eq(&known, frame) => kept.insert(key, known, size + OVERHEAD),
            _ => Vec::new(),
        };
        drop(kept);
        drop(dropped);
    }

    /// Forgets a frame.
    pub fn forget(&self, key: Key, frame: &Arc<Frame>) {
        let mut kept = self.lock();
        if kept
            .get(key)
            .is_some_and(|known| Arc::ptr_eq(&known, frame))
        {
            kept.remove(key);
        }
    }

    /// Returns the longest run of whole frames from `first` on that are kept, at most `limit`.
    pub fn run(&self, blob: u32, first: usize, limit: usize) -> Vec<Arc<Frame>> {
        let mut kept = self.lock();
        let whole = |number| {
            kept.get((blob, number))
                .filter(|frame| frame.whole().is_some())
        };
        (first..first + limit).map_while(whole).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Lru<Key, Arc<Frame>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_outgrows_the_limit_drives_out_others_or_itself() {
        let cache = FrameCache::new(1000);
        let frames = [1, 2].map(|number| cache.get((1, number), 300));
        assert!(Arc::ptr_eq(&frames[0], &cache.get((1, 1), 300)));
        cache.weigh((1, 1), &frames[0], 800);
        assert!(Arc::ptr_eq(&frames[0], &cache.get((1, 1), 300)));
        assert!(!Arc::ptr_eq(&frames[1], &cache.get((1, 2), 300)));
    }

    #[test]
    fn what_another_frame_was_replaced_by_stays() {
        let cache = FrameCache::new(1000);
        let old = cache.get((1, 1), 300);
        cache.forget((1, 1), &old);
        let new = cache.get((1, 1), 300);
        cache.forget((1, 1), &old);
        assert!(Arc::ptr_eq(&new, &cache.get((1, 1), 300)));
    }

    #[test]
    fn a_run_ends_before_what_is_not_decoded() {
        let cache = FrameCache::new(1000);
        for number in [4, 5, 7] {
            let frame = cache.get((1, number), 3);
            // A frame of three bytes as they are, in one block.
            let stored = || Ok(vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x19, 0, 0, 1, 2, 3]);
            let whole = frame.with(3, &Arc::default(), stored, <[u8]>::to_vec);
            assert_eq!(whole.expect("good").0, [1, 2, 3]);
        }
        cache.get((1, 6), 3);
        assert_eq!(
            [3, 4, 6].map(|first| cache.run(1, first, 9).len()),
            [0, 2, 0]
        );
    }
}
