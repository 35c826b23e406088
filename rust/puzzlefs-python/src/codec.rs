//! Compressed blobs.

use std::os::fd::RawFd;

use puzzlefs_core::Error;
use puzzlefs_core::limits::FRAME_SIZE_LIMIT;
use puzzlefs_engine::codec;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::descriptor;
use crate::detach::detach;

/// Return `data` as Zstandard frames of `frame_size` bytes at level 3 and a seek table.
///
/// Each frame is compressed in one call that knows its size.
#[pyfunction]
pub(crate) fn compress<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
    frame_size: i64,
) -> PyResult<Bound<'py, PyBytes>> {
    let frame_size = checked_frame_size(frame_size)?;
    let data = data.as_bytes();
    let blob = detach(py, || codec::compress(data, frame_size))?;
    Ok(PyBytes::new(py, &blob))
}

/// Return `data` as the original compresses it: streamed frames of 4,096 bytes.
#[pyfunction]
pub(crate) fn compress_upstream<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let data = data.as_bytes();
    let blob = detach(py, || codec::compress_upstream(data))?;
    Ok(PyBytes::new(py, &blob))
}

/// Return the content of a seekable Zstandard blob of any frame size.
///
/// Raises `CorruptImageError` with one of the texts of docs/format.md §10.
#[pyfunction]
pub(crate) fn decompress<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let data = data.as_bytes();
    let content = detach(py, || codec::decompress(data).map_err(Error::Corrupt))?;
    Ok(PyBytes::new(py, &content))
}

/// Decode the frames of the compressed blob open as `fd` that hold its first `end` bytes; return how
/// many bytes it holds.
#[pyfunction]
pub(crate) fn check_frames(py: Python<'_>, fd: RawFd, end: u64) -> PyResult<u64> {
    let file = descriptor::borrow(fd)?;
    detach(py, || puzzlefs_engine::check_frames(file, end))
}

/// Returns a frame size that the codec takes, or raises `ValueError`.
pub(crate) fn checked_frame_size(frame_size: i64) -> PyResult<usize> {
    usize::try_from(frame_size)
        .ok()
        .filter(|size| (1..=FRAME_SIZE_LIMIT).contains(size))
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "frame size {frame_size} is not from 1 to {FRAME_SIZE_LIMIT}"
            ))
        })
}
