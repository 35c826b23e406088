//! The one place where an error of the core becomes a Python exception of `puzzlefs.errors`.

use puzzlefs_core::{BlobFault, Digest, Error};
use pyo3::exceptions::{PyKeyError, PyNotADirectoryError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// `errno.ENOTDIR` of Linux.
const ENOTDIR: i32 = 20;

/// Returns the Python exception for an error. The classes word the messages themselves.
pub(crate) fn raise(py: Python<'_>, error: Error) -> PyErr {
    exception(py, error).unwrap_or_else(|failure| failure)
}

fn exception(py: Python<'_>, error: Error) -> PyResult<PyErr> {
    match error {
        Error::Corrupt(rule) => ours(py, "CorruptImageError", (rule.text(),)),
        Error::Unsupported(what) => ours(py, "UnsupportedError", (what.to_string(),)),
        Error::Blob { digest, fault } => blob(py, &digest, fault),
        Error::NoInode(ino) => Ok(PyKeyError::new_err(ino)),
        Error::NotDirectory(_) => Ok(PyNotADirectoryError::new_err((
            ENOTDIR,
            strerror(py, ENOTDIR)?,
        ))),
        Error::Source { path, errno } => ours(py, "SourceError", (PyBytes::new(py, &path), errno)),
        Error::SourceChanged { path } => ours(py, "SourceChangedError", (PyBytes::new(py, &path),)),
        Error::Store { path, errno } => ours(py, "StoreError", (PyBytes::new(py, &path), errno)),
        Error::Os(errno) => Ok(PyOSError::new_err((errno, strerror(py, errno)?))),
        Error::Cancelled => ours(py, "CancelledError", ()),
        Error::Contradiction(text) => Ok(PyValueError::new_err(text)),
    }
}

fn blob(py: Python<'_>, digest: &Digest, fault: BlobFault) -> PyResult<PyErr> {
    let digest = PyBytes::new(py, digest);
    match fault {
        BlobFault::Missing => ours(py, "MissingBlobError", (digest,)),
        BlobFault::CannotBeRead(errno) => {
            let reason = format!("cannot be read: {}", strerror(py, errno)?);
            ours(py, "BlobError", (digest, reason))
        }
        BlobFault::WrongContent | BlobFault::Short | BlobFault::Corrupt(_) => {
            ours(py, "BlobError", (digest, fault.to_string()))
        }
    }
}

/// Makes an exception of a class of `puzzlefs.errors`.
fn ours<'py, A>(py: Python<'py>, class: &str, arguments: A) -> PyResult<PyErr>
where
    A: pyo3::call::PyCallArgs<'py>,
{
    let class = py.import("puzzlefs.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call1(arguments)?))
}

fn strerror(py: Python<'_>, errno: i32) -> PyResult<String> {
    py.import("os")?
        .getattr("strerror")?
        .call1((errno,))?
        .extract()
}
