//! File contents of one image.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use puzzlefs_engine::{Skipped, Unpacking, Verify};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::descriptor;
use crate::detach::detach;
use crate::index::Index;
use crate::interrupt::interruptible;

/// (path, what, errno) of what the system refused.
type SkippedRow<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, i32);
/// (files, inodes, bytes, skipped) as `extract_tree` returns them.
type Unpacked<'py> = (u64, u64, u128, Vec<SkippedRow<'py>>);

/// Bytes that are read straight into a Python object; more are first read, then copied, so that a
/// damaged image cannot make Python allocate what is not there.
const DIRECT: u64 = 1 << 20;

/// File contents of one image, each blob checked as `verify` says before its bytes are used.
#[pyclass(frozen, module = "puzzlefs._rust")]
pub(crate) struct Reader(pub(crate) Arc<puzzlefs_engine::Reader>);

#[pymethods]
impl Reader {
    #[new]
    fn new(
        index: &Bound<'_, Index>,
        directory: &[u8],
        verify: i64,
        cache_size: u64,
    ) -> PyResult<Self> {
        let verify = match verify {
            0 => Verify::Never,
            1 => Verify::Once,
            2 => Verify::Always,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "verify is {verify}: not 0, 1 or 2"
                )));
            }
        };
        let cache_size = usize::try_from(cache_size).unwrap_or(usize::MAX);
        let index = Arc::clone(&index.get().0);
        let reader = puzzlefs_engine::Reader::new(index, directory, verify, cache_size);
        Ok(Self(Arc::new(reader)))
    }

    /// Return up to `size` bytes of a file from `offset`; short only at its end.
    fn read<'py>(
        &self,
        py: Python<'py>,
        ino: u64,
        offset: u64,
        size: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let available = detach(py, || self.0.available(ino, offset, size))?;
        if available > DIRECT {
            let content = detach(py, || self.0.read(ino, offset, size))?;
            return Ok(PyBytes::new(py, &content));
        }
        PyBytes::new_with(py, available as usize, |buffer| {
            detach(py, || self.0.read_into(ino, offset, buffer))
        })
    }

    /// Write a whole file to the empty regular file `fd`, with holes for blocks of zeros.
    fn extract(&self, py: Python<'_>, ino: u64, fd: RawFd) -> PyResult<()> {
        let to = descriptor::borrow(fd)?;
        detach(py, || self.0.extract(ino, to))
    }

    /// Unpack the image into the empty directory `fd`; return (files, inodes, bytes, skipped).
    fn extract_tree<'py>(
        &self,
        py: Python<'py>,
        fd: RawFd,
        name: &[u8],
        same_owner: bool,
        jobs: u64,
    ) -> PyResult<Unpacked<'py>> {
        let stop = AtomicBool::new(false);
        let unpacking = Unpacking {
            target: descriptor::borrow(fd)?,
            name,
            same_owner,
            jobs: usize::try_from(jobs).unwrap_or(usize::MAX),
            stop: &stop,
        };
        let done = interruptible(py, &stop, || self.0.extract_tree(&unpacking))?;
        let row = |skipped: &Skipped| {
            let (path, what) = (&skipped.path, &skipped.what);
            (
                PyBytes::new(py, path),
                PyBytes::new(py, what),
                skipped.errno,
            )
        };
        let skipped = done.skipped.iter().map(row).collect();
        Ok((done.files, done.inodes, done.bytes, skipped))
    }
}
