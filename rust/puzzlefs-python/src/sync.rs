//! Stable storage.

use std::os::fd::RawFd;

use pyo3::prelude::*;

use crate::descriptor;
use crate::detach::detach;

/// Bring all that was written to a file's filesystem to stable storage.
#[pyfunction]
pub(crate) fn sync_filesystem(py: Python<'_>, fd: RawFd) -> PyResult<()> {
    let file = descriptor::borrow(fd)?;
    detach(py, || puzzlefs_engine::sync_filesystem(file))
}
