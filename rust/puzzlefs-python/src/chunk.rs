//! Cut lengths, for tests and tools; a build cuts inside the engine.

use std::thread;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::detach::detach;

/// Return the lengths of the chunks into which FastCDC cuts `data`, a whole stream.
#[pyfunction]
pub(crate) fn cut_lengths(py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<Vec<usize>> {
    let data = data.as_bytes();
    detach(py, || {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Ok(puzzlefs_engine::cut_lengths(data, threads))
    })
}
