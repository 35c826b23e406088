//! The digests of bytes, and of a file on disk.

use std::os::fd::RawFd;

use puzzlefs_core::tables::{ChunkRow, Record as _, VerityRow};
use puzzlefs_engine::hashing::blob_digests;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
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

/// Return the SHA-256 of runs of bytes of blobs, 32 bytes for each.
#[pyfunction]
pub(crate) fn digest_runs<'py>(
    py: Python<'py>,
    directory: PyBackedBytes,
    blobs: &Bound<'_, PyBytes>,
    runs: &Bound<'_, PyBytes>,
    jobs: i64,
) -> PyResult<Bound<'py, PyBytes>> {
    let (blobs, runs) = VerityRow::unpack(blobs.as_bytes())
        .zip(ChunkRow::unpack(runs.as_bytes()))
        .ok_or_else(|| PyValueError::new_err("blobs and runs are not whole rows"))?;
    let jobs = usize::try_from(jobs).unwrap_or(1);
    let digests = detach(py, || {
        puzzlefs_engine::digest_runs(&directory, &blobs, &runs, jobs)
    })?;
    Ok(PyBytes::new(py, digests.as_flattened()))
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
