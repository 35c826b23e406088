//! Directory trees as tables: scanned, given their chunks and numbers, written.

use std::sync::atomic::AtomicBool;

use puzzlefs_core::encode::encode_parts;
use puzzlefs_core::tables::{ChunkRow, Record as _};
use puzzlefs_core::{Result, tree};
use puzzlefs_engine::{ScanRules, Times};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::detach::detach;
use crate::index::Index;
use crate::interrupt::interruptible;
use crate::metadata::{self, Packed};

/// exclude, keep, drop, sort, times, seconds, all_root: `rows.ScanRules`.
type Rules = (
    Vec<Vec<u8>>,
    Vec<Vec<u8>>,
    Vec<Vec<u8>>,
    bool,
    u8,
    i64,
    bool,
);
/// Tree, paths, sources, crossings, snapshot, as `scan_tree` returns them.
type Scanned<'py> = (
    Tree,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Vec<Bound<'py, PyBytes>>,
    Bound<'py, PyBytes>,
);

/// Read the tree below a directory into tables.
#[pyfunction]
#[pyo3(signature = (root, mounts, rules, horizon=0, look=None))]
pub(crate) fn scan_tree<'py>(
    py: Python<'py>,
    root: &[u8],
    mounts: Vec<Vec<u8>>,
    rules: Rules,
    horizon: i64,
    look: Option<&Bound<'py, Look>>,
) -> PyResult<Scanned<'py>> {
    let (exclude, keep, drop, sort, times, seconds, all_root) = rules;
    let times = match times {
        0 => Times::Keep,
        1 => Times::AtMost(seconds),
        2 => Times::Exactly(seconds),
        _ => {
            return Err(PyValueError::new_err(format!(
                "{times} is no rule for times"
            )));
        }
    };
    let rules = ScanRules {
        exclude,
        keep,
        drop,
        sort,
        times,
        all_root,
    };
    let stop = AtomicBool::new(false);
    let look = look.and_then(|look| look.get().0.as_ref());
    let scanned = interruptible(py, &stop, || {
        puzzlefs_engine::scan(root, &mounts, &rules, horizon, look, &stop)
    })?;
    let crossings = scanned.crossings.iter();
    let crossings = crossings.map(|path| PyBytes::new(py, path)).collect();
    let paths = PyBytes::new(py, &scanned.paths);
    std::mem::drop(scanned.paths);
    let sources = metadata::packed(py, &scanned.sources)?;
    let snapshot = PyBytes::new(py, &scanned.snapshot);
    let tree = Tree::new_from(scanned.tree);
    Ok((tree, paths, sources, crossings, snapshot))
}

/// What became of the inodes that a snapshot of a tree tells.
#[pyclass(frozen, module = "puzzlefs._rust")]
pub(crate) struct Look(Option<puzzlefs_engine::Look>);

#[pymethods]
impl Look {
    #[new]
    fn new(py: Python<'_>, root: &[u8], snapshot: &[u8]) -> PyResult<Self> {
        let stop = AtomicBool::new(false);
        let look = || puzzlefs_engine::Look::new(root, snapshot, &stop);
        interruptible(py, &stop, look).map(Self)
    }

    /// Whether all is as it was, and there is nothing else.
    #[getter]
    fn is_unchanged(&self) -> bool {
        let look = self.0.as_ref();
        look.is_some_and(puzzlefs_engine::Look::is_unchanged)
    }
}

/// A directory tree in tables, on its way into an image.
#[pyclass(module = "puzzlefs._rust")]
pub(crate) struct Tree(Option<tree::Tree>);

#[pymethods]
impl Tree {
    #[new]
    #[allow(clippy::needless_pass_by_value, reason = "as arguments come")]
    fn new(vector: Packed<Bound<'_, PyBytes>>) -> PyResult<Self> {
        let vector = metadata::vector(&metadata::slices(&vector));
        let vector = vector.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self::new_from(tree::Tree::new(vector)))
    }

    /// How many inodes there are.
    #[getter]
    fn inode_count(&self) -> PyResult<usize> {
        Ok(self.0.as_ref().ok_or_else(ended)?.inode_count())
    }

    /// Give the files their chunks, in ascending order of inode number.
    fn set_chunks(
        &mut self,
        py: Python<'_>,
        chunks: &[u8],
        counts: &[u8],
        digests: &[u8],
    ) -> PyResult<()> {
        let tree = self.0.as_mut().ok_or_else(ended)?;
        detach(py, || {
            let chunks = ChunkRow::unpack(chunks).ok_or(metadata::NO_WHOLE_RECORDS)?;
            tree.set_chunks(chunks, &numbers(counts)?, &numbers(digests)?)
        })
    }

    /// Number the inodes so that the tree turns the base into itself.
    fn rebase(&mut self, py: Python<'_>, base: &Bound<'_, Index>, whole: bool) -> PyResult<()> {
        let tree = self.0.as_mut().ok_or_else(ended)?;
        let base = &base.get().0;
        detach(py, || tree.rebase(base, whole))
    }

    /// Return the tables.
    fn vector<'py>(&self, py: Python<'py>) -> PyResult<Packed<Bound<'py, PyBytes>>> {
        let tree = self.0.as_ref().ok_or_else(ended)?;
        let tables = detach(py, || Ok(metadata::pack(tree.vector())))?;
        Ok(metadata::to_python(py, tables))
    }

    /// Return the rootfs blob of the tree upon layers, and end the tree.
    fn encode<'py>(
        &mut self,
        py: Python<'py>,
        digests: &[u8],
        verity: &[u8],
        below: Vec<Packed<Bound<'py, PyBytes>>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let tree = self.0.take().ok_or_else(ended)?;
        let below: Vec<_> = below.iter().map(metadata::slices).collect();
        let encoded = detach(py, || {
            let mut tables = metadata::tables(digests, verity, &below)?;
            if tree.inode_count() > 0 {
                tables.vectors.insert(0, tree.into_vector());
            }
            encode_parts(tables)
        })?;
        metadata::blob(py, encoded)
    }
}

impl Tree {
    fn new_from(tree: tree::Tree) -> Self {
        Self(Some(tree))
    }
}

fn ended() -> PyErr {
    PyRuntimeError::new_err("a tree is encoded once")
}

fn numbers(table: &[u8]) -> Result<Vec<u32>> {
    let (rows, rest) = table.as_chunks();
    if !rest.is_empty() {
        return Err(metadata::NO_WHOLE_RECORDS);
    }
    Ok(rows.iter().map(|row| u32::from_le_bytes(*row)).collect())
}
