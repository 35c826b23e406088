//! Long work that a signal may end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use puzzlefs_core::{Error, Result};
use pyo3::prelude::*;

use crate::error::raise;

/// How often Python is asked whether a signal came.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs `work` in a thread of its own without the GIL. Where a signal's handler raises, as the one of
/// Ctrl-C does, sets `stop`, waits for `work` to notice, and raises what the handler raised.
pub(crate) fn interruptible<T, F>(py: Python<'_>, stop: &AtomicBool, work: F) -> PyResult<T>
where
    F: Send + FnOnce() -> Result<T>,
    T: Send,
{
    let mut raised = None;
    let result = py.detach(|| {
        thread::scope(|scope| {
            let (done, answer) = channel();
            scope.spawn(move || done.send(work()));
            loop {
                match answer.recv_timeout(PAUSE) {
                    Ok(result) => return result,
                    // The thread panicked; so does the scope.
                    Err(RecvTimeoutError::Disconnected) => return Err(Error::Cancelled),
                    Err(RecvTimeoutError::Timeout) if raised.is_none() => {
                        raised = Python::attach(|py| py.check_signals()).err();
                        stop.store(raised.is_some(), Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) => (),
                }
            }
        })
    });
    match raised {
        Some(error) => Err(error),
        None => result.map_err(|error| raise(py, error)),
    }
}
