//! The fs-verity digest of bytes in memory.

use puzzlefs_engine::hashing;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::detach::detach;

/// Return the fs-verity digest (SHA-256, 4,096-byte blocks, no salt) of `data`, 32 bytes.
#[pyfunction]
pub(crate) fn verity_digest<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let data = data.as_bytes();
    let digest = detach(py, || Ok(hashing::verity_digest(data)))?;
    Ok(PyBytes::new(py, &digest))
}
