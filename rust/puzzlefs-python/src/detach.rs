//! Work without the GIL.

use puzzlefs_core::Result;
use pyo3::prelude::*;

use crate::error::raise;

/// Runs `work` while other Python threads go on, and raises its error as a Python exception.
pub(crate) fn detach<T, F>(py: Python<'_>, work: F) -> PyResult<T>
where
    F: Send + FnOnce() -> Result<T>,
    T: Send,
{
    py.detach(work).map_err(|error| raise(py, error))
}
