//! The digests of bytes, and of a file on disk.

use std::os::fd::RawFd;

use puzzlefs_engine::hashing::blob_digests;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::descriptor;
use crate::detach::detach;

/// Return (sha256, fs-verity digest) of bytes, in one pass.
#[pyfunction]
pub(crate) fn hash_bytes<'py>(
    py: Python<'py>,
    data: &Bound<'_, PyBytes>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let data = data.as_bytes();
    let (sha256, verity) = detach(py, || Ok(blob_digests(data)))?;
    Ok((PyBytes::new(py, &sha256), PyBytes::new(py, &verity)))
}

/// Return (size, sha256, fs-verity digest) of a file, read from its start by position.
#[pyfunction]
pub(crate) fn hash_file<'py>(
    py: Python<'py>,
    fd: RawFd,
) -> PyResult<(u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let file = descriptor::borrow(fd)?;
    let (size, sha256, verity) = detach(py, || puzzlefs_engine::hash_file(file))?;
    Ok((size, PyBytes::new(py, &sha256), PyBytes::new(py, &verity)))
}
