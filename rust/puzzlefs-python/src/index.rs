//! The class `Index`: an image's merged tree, shared with the readers of its contents.

use std::sync::Arc;

use puzzlefs_core::index;
use puzzlefs_core::owners::{Owners, Range};
use puzzlefs_core::tables::Record;
use puzzlefs_core::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::detach::detach;
use crate::error::raise;

/// ino, kind, permissions, uid, gid, mtime_sec, mtime_nsec, size, nlink, major, minor.
type InodeStat = (u64, u16, u16, u32, u32, i64, u32, u64, u32, u64, u64);

/// A pair of byte strings.
type Pair<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// An image's merged tree: what its layers, uppermost first, look like as one filesystem.
#[pyclass(frozen, module = "puzzlefs._rust")]
pub(crate) struct Index(pub(crate) Arc<index::Index>);

#[pymethods]
impl Index {
    #[new]
    #[pyo3(signature = (rootfs, users=Vec::new(), groups=Vec::new()))]
    fn new(
        py: Python<'_>,
        rootfs: &Bound<'_, PyBytes>,
        users: Vec<(u32, u32, u32)>,
        groups: Vec<(u32, u32, u32)>,
    ) -> PyResult<Self> {
        let rootfs = rootfs.as_bytes();
        let owners = Owners {
            users: ranges(users),
            groups: ranges(groups),
        };
        let index = detach(py, || Ok(index::Index::new(rootfs)?.shifted(&owners)))?;
        Ok(Self(Arc::new(index)))
    }

    /// Inodes that the root reaches, the root included.
    #[getter]
    fn inode_count(&self) -> usize {
        self.0.inode_count()
    }

    /// The highest number in any layer, whiteouts included.
    #[getter]
    fn highest_ino(&self) -> u64 {
        self.0.highest_ino()
    }

    /// Sum of file sizes, each inode once.
    #[getter]
    fn content_bytes(&self) -> u128 {
        self.0.content_bytes()
    }

    /// Whether any reachable inode has an extended attribute.
    #[getter]
    fn has_xattrs(&self) -> bool {
        self.0.has_xattrs()
    }

    /// Return the reachable inode numbers, ascending.
    fn inodes(&self) -> Vec<u64> {
        self.0.inodes().collect()
    }

    /// Return an inode's fields.
    fn stat(&self, py: Python<'_>, ino: u64) -> PyResult<InodeStat> {
        let stat = raised(py, self.0.stat(ino))?;
        Ok((
            stat.ino,
            stat.kind as u16,
            stat.permissions,
            stat.uid,
            stat.gid,
            stat.mtime_sec,
            stat.mtime_nsec,
            stat.size,
            stat.nlink,
            stat.major,
            stat.minor,
        ))
    }

    /// Return the number that directory `parent` gives `name`, or 0.
    fn lookup(&self, py: Python<'_>, parent: u64, name: &[u8]) -> PyResult<u64> {
        Ok(raised(py, self.0.lookup(parent, name))?.unwrap_or(0))
    }

    /// Return the number of a directory's parent; the root is its own.
    fn parent(&self, py: Python<'_>, ino: u64) -> PyResult<u64> {
        raised(py, self.0.parent(ino))
    }

    /// Return up to `count` entries (name, number) of a directory, by name, from position `start`.
    fn entries<'py>(
        &self,
        py: Python<'py>,
        ino: u64,
        start: usize,
        count: usize,
    ) -> PyResult<Vec<(Bound<'py, PyBytes>, u64)>> {
        let entries = raised(py, self.0.entries(ino, start, count))?;
        Ok(entries
            .map(|(name, child)| (PyBytes::new(py, name), child))
            .collect())
    }

    /// Return an inode's extended attributes (key, value) in stored order.
    fn xattrs<'py>(&self, py: Python<'py>, ino: u64) -> PyResult<Vec<Pair<'py>>> {
        let xattrs = raised(py, self.0.xattrs(ino))?;
        let pair = |(key, value)| (PyBytes::new(py, key), PyBytes::new(py, value));
        Ok(xattrs.map(pair).collect())
    }

    /// Return a symbolic link's target; b"" for other kinds.
    fn symlink<'py>(&self, py: Python<'py>, ino: u64) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, raised(py, self.0.symlink(ino))?))
    }

    /// Return a file's `records.CHUNK` rows; b"" for other kinds.
    fn chunks<'py>(&self, py: Python<'py>, ino: u64) -> PyResult<Bound<'py, PyBytes>> {
        let chunks = raised(py, self.0.chunks(ino))?;
        Ok(PyBytes::new(py, &Record::pack(chunks)))
    }

    /// Return `records.VERITY` rows, one for each distinct digest that any layer's chunks name.
    fn blobs<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &Record::pack(self.0.blobs()))
    }
}

fn raised<T>(py: Python<'_>, result: Result<T>) -> PyResult<T> {
    result.map_err(|error: Error| raise(py, error))
}

/// Returns ranges of (inside, outside, count).
fn ranges(numbers: Vec<(u32, u32, u32)>) -> Vec<Range> {
    let range = |(inside, outside, count)| Range {
        inside,
        outside,
        count,
    };
    numbers.into_iter().map(range).collect()
}
