//! What went wrong while serving, for whoever keeps a log.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use puzzlefs_core::{Digest, Error};

/// Errors that wait to be taken; of more, the rest is dropped.
const LIMIT: usize = 1024;

/// Errors of one mount, of each damaged blob the first only.
#[derive(Default)]
pub struct Faults(Mutex<State>);

#[derive(Default)]
struct State {
    known: HashSet<Digest>,
    waiting: Vec<Error>,
}

impl Faults {
    /// Notes an error; says whether it is one to be told of.
    pub fn note(&self, error: &Error) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = match error {
            Error::Blob { digest, .. } => state.known.insert(*digest),
            _ => true,
        };
        let told = new && state.waiting.len() < LIMIT;
        if told {
            state.waiting.push(error.clone());
        }
        told
    }

    /// Returns the errors noted since the last call.
    pub fn take(&self) -> Vec<Error> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.waiting)
    }
}
