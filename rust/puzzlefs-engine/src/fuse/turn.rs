//! Whose turn it is to wait for requests: one thread's at a time.
//!
//! A thread that sleeps in the kernel begins tens of microseconds after it is woken, on a virtual
//! machine at least, and most requests come right after the answer to the one before. So whoever has
//! answered looks out for the next request a while before it sleeps, and nobody else is woken for it.
//! What takes long is passed: whoever has it lets another thread wait.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Reads in a row that held up a request, before the turn is passed for reads: two may be one file's.
const SIGNS: u32 = 4;
/// Reads for each of which it is passed then.
const CROWD: u32 = 32;

/// The turn of one session.
#[derive(Default)]
pub struct Turn {
    taken: Mutex<bool>,
    free: Condvar,
    signs: AtomicU32,
    crowd: AtomicU32,
}

impl Turn {
    /// Waits for the turn.
    pub fn take(&self) {
        let mut taken = self.lock();
        while *taken {
            taken = self
                .free
                .wait(taken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
    }

    /// Lets another thread have the turn.
    pub fn pass(&self) {
        *self.lock() = false;
        self.free.notify_one();
    }

    /// Notes whether a request waited while whoever had the turn was reading.
    pub fn note(&self, waited: bool) {
        if !waited {
            self.signs.store(0, Ordering::Relaxed);
        } else if self.signs.fetch_add(1, Ordering::Relaxed) + 1 >= SIGNS {
            self.signs.store(0, Ordering::Relaxed);
            self.crowd.store(CROWD, Ordering::Relaxed);
        }
    }

    /// Says whether to pass the turn before a read.
    pub fn is_crowded(&self) -> bool {
        let less = |crowd: u32| crowd.checked_sub(1);
        self.crowd
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn one_thread_at_a_time() {
        let (turn, inside) = (Turn::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        turn.take();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        turn.pass();
                    }
                });
            }
        });
    }

    #[test]
    fn whoever_waits_gets_what_is_passed() {
        let turn = Arc::new(Turn::default());
        turn.take();
        let other = Arc::clone(&turn);
        let waiting = thread::spawn(move || other.take());
        thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        turn.pass();
        assert!(waiting.join().is_ok());
    }

    #[test]
    fn only_requests_that_wait_one_after_another_are_a_crowd() {
        let turn = Turn::default();
        for _ in 0..2 * SIGNS {
            turn.note(true);
            turn.note(false);
        }
        assert!(!turn.is_crowded());
        for _ in 0..SIGNS {
            turn.note(true);
        }
        let passed = (0..10 * CROWD).filter(|_| turn.is_crowded()).count();
        assert_eq!(passed, CROWD as usize);
    }
}
