//! A frame of a blob in memory: not yet decoded, in part, or whole.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use puzzlefs_core::BlobFault;

use crate::blob::Result;
use crate::decoder::{Contexts, Decoded, Decoder};
use crate::waiting;

/// A frame that threads share. Whoever wants more of it than there is decodes that; others wait meanwhile.
pub struct Frame {
    size: usize,
    whole: OnceLock<Vec<u8>>,
    begun: Mutex<Option<Box<Decoder>>>,
}

/// What reading from a frame made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// What it was.
    None,
    /// It is decoded in part, which takes so much memory beside the frame's own.
    Begun(usize),
    /// It is decoded whole.
    Finished,
}

impl Frame {
    /// Makes a frame of `size` bytes, of which nothing is decoded.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            whole: OnceLock::new(),
            begun: Mutex::new(None),
        }
    }

    /// Returns the frame's bytes, if all of them are decoded.
    pub fn whole(&self) -> Option<&[u8]> {
        self.whole.get().map(Vec::as_slice)
    }

    /// Decodes the first `until` bytes at least, which are not more than the frame has, and gives them to `take`.
    /// `read` gives what is stored of the frame.
    pub fn with<T>(
        &self,
        until: usize,
        contexts: &Arc<Contexts>,
        read: impl FnOnce() -> Result<Vec<u8>>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<(T, Change)> {
        if let Some(whole) = self.whole() {
            return Ok((take(whole), Change::None));
        }
        let mut begun = self.lock();
        if let Some(whole) = self.whole() {
            return Ok((take(whole), Change::None));
        }
        let known = begun.as_ref().map_or(0, |decoder| decoder.content().len());
        waiting::expect_work(until.saturating_sub(known) as u64);
        let decoded = match begun.take() {
            Some(decoder) => decoder.advance(until),
            None => Decoder::start(contexts, read()?, self.size, until),
        };
        match decoded.map_err(BlobFault::Corrupt)? {
            Decoded::Whole(whole) => {
                // Only whoever holds the lock sets it.
                let taken = take(self.whole.get_or_init(|| whole));
                Ok((taken, Change::Finished))
            }
            Decoded::Part(decoder) => {
                let change = match known {
                    0 => Change::Begun(decoder.weight()),
                    _ => Change::None,
                };
                Ok((take(begun.insert(decoder).content()), change))
            }
        }
    }

    /// Decodes what is missing of a frame that is decoded in part; says whether it did.
    ///
    /// It does so by steps, so that others can read between. Where it fails nothing is kept, and whoever
    /// reads the frame next meets the error.
    pub fn finish(&self) -> bool {
        loop {
            let mut begun = self.lock();
            let Some(decoder) = begun.take() else {
                return false;
            };
            let more = decoder.content().len() + 1;
            match decoder.advance(more) {
                Ok(Decoded::Whole(whole)) => {
                    self.whole.get_or_init(|| whole);
                    return true;
                }
                Ok(Decoded::Part(decoder)) => *begun = Some(decoder),
                Err(_) => return false,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Decoder>>> {
        match self.begun.try_lock() {
            Ok(begun) => begun,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                waiting::expect();
                self.begun.lock().unwrap_or_else(PoisonError::into_inner)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    const SIZE: usize = 512 << 10;

    fn stored() -> Vec<u8> {
        let content: Vec<u8> = (0..SIZE as u32 / 4).flat_map(u32::to_le_bytes).collect();
        let mut stored = vec![0; zstd_safe::compress_bound(SIZE)];
        let length = zstd_safe::compress(stored.as_mut_slice(), &content, 3).expect("compressed");
        stored.truncate(length);
        stored
    }

    /// Returns the number at a place of the content, counted in numbers.
    fn number(content: &[u8], place: usize) -> Option<u32> {
        let bytes = content[4 * place..].first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    #[test]
    fn threads_that_want_a_frame_read_it_once() {
        let (frame, contexts, reads) = (Frame::new(SIZE), Arc::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 1..=8 {
                let (frame, contexts, reads) = (&frame, &contexts, &reads);
                scope.spawn(move || {
                    let read = || {
                        reads.fetch_add(1, Ordering::Relaxed);
                        Ok(stored())
                    };
                    let place = thread * 10_000;
                    let found = frame.with(4 * place + 4, contexts, read, |content| {
                        number(content, place)
                    });
                    assert_eq!(found.expect("good").0, Some(place as u32));
                });
            }
        });
        assert_eq!(reads.into_inner(), 1);
    }

    #[test]
    fn what_was_begun_can_be_finished_once() {
        let (frame, contexts) = (Frame::new(SIZE), Arc::default());
        let (_, change) = frame
            .with(4, &contexts, || Ok(stored()), |_| ())
            .expect("good");
        assert!(matches!(change, Change::Begun(_)) && frame.whole().is_none());
        assert!(frame.finish());
        assert_eq!(frame.whole().map(<[u8]>::len), Some(SIZE));
        assert!(!frame.finish());
    }

    #[test]
    fn nothing_is_kept_of_a_frame_that_is_damaged() {
        let (frame, contexts) = (Frame::new(SIZE), Arc::default());
        let damaged = || Ok(stored()[..100].to_vec());
        assert!(frame.with(4, &contexts, damaged, |_| ()).is_err());
        assert!(!frame.finish());
        assert!(frame.with(4, &contexts, || Ok(stored()), |_| ()).is_ok());
    }
}
