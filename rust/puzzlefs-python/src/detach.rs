//! Work without the GIL.

use puzzlefs_core::Result;
use pyo3::marker::Ungil;
use pyo3::{PyResult, Python};

use crate::error::raise;

/// Runs `work` while other Python threads go on, and raises its error as a Python exception.
pub(crate) fn detach<T, F>(py: Python<'_>, work: F) -> PyResult<T>
where
    F: Ungil + FnOnce() -> Result<T>,
    T: Ungil,
{
    py.detach(work).map_err(|error| raise(py, error))
}
