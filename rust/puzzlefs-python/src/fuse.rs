//! Mounting, and the server of a mount.

use std::os::fd::RawFd;
use std::sync::Arc;

use puzzlefs_core::Error;
use puzzlefs_engine::fuse::{self, Server};
use pyo3::prelude::*;

use crate::descriptor;
use crate::detach::detach;
use crate::error::raise;
use crate::index::Index;
use crate::reader::Reader;

/// Serves an image on a connection to the kernel, by threads of its own, until it is unmounted.
#[pyclass(frozen, module = "puzzlefs._rust")]
pub(crate) struct FuseServer(Server);

#[pymethods]
impl FuseServer {
    #[new]
    fn new(
        py: Python<'_>,
        index: &Bound<'_, Index>,
        reader: &Bound<'_, Reader>,
        connection: RawFd,
        notices: RawFd,
        threads: usize,
    ) -> PyResult<Self> {
        let own = |number| {
            let borrowed = descriptor::borrow(number)?;
            let owned = borrowed.try_clone_to_owned();
            owned.map_err(|error| raise(py, Error::Os(error.raw_os_error().unwrap_or(0))))
        };
        let (index, reader) = (Arc::clone(&index.get().0), Arc::clone(&reader.get().0));
        let server = Server::start(index, reader, own(connection)?, own(notices)?, threads);
        Ok(Self(server.map_err(|error| raise(py, error))?))
    }

    /// Return the errors that came up since the last call, of each damaged blob the first only.
    fn take_errors(&self, py: Python<'_>) -> Vec<PyErr> {
        let errors = self.0.take_errors();
        errors.into_iter().map(|error| raise(py, error)).collect()
    }

    /// Mount on a directory; `connection` is a fresh descriptor of /dev/fuse.
    #[staticmethod]
    fn mount(
        py: Python<'_>,
        connection: RawFd,
        source: &[u8],
        target: &[u8],
        flags: u32,
        options: &[u8],
    ) -> PyResult<()> {
        let connection = descriptor::borrow(connection)?;
        detach(py, || {
            fuse::mount(connection, source, target, flags, options)
        })
    }

    /// Unmount what is mounted at a path, which is not followed.
    #[staticmethod]
    fn unmount(py: Python<'_>, target: &[u8], lazy: bool) -> PyResult<()> {
        detach(py, || fuse::unmount(target, lazy))
    }
}
