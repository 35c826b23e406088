//! Decoded frames kept in memory.

use std::sync::{Arc, Mutex, PoisonError};

use crate::lru::Lru;

/// Bytes that an entry takes beside the frame itself, about.
const OVERHEAD: usize = 128;

/// The content of a frame.
pub type Frame = Arc<Vec<u8>>;

/// Frames by (blob, frame); those not used for longest go where more than the limit are kept.
pub struct FrameCache(Mutex<Lru<(u32, usize), Frame>>);

impl FrameCache {
    /// Makes an empty cache for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Mutex::new(Lru::new(limit)))
    }

    /// Puts the frames of a blob from number `first` on, as far as they are kept, into `found`.
    pub fn get(&self, blob: u32, first: usize, found: &mut [Option<Frame>]) {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, place) in (first..).zip(found) {
            *place = frames.get((blob, number));
        }
    }

    /// Keeps a frame.
    pub fn insert(&self, blob: u32, number: usize, frame: &Frame) {
        let weight = frame.len() + OVERHEAD;
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = frames.insert((blob, number), Arc::clone(frame), weight);
        drop(frames);
        drop(dropped);
    }
}
