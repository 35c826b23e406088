//! The build engine.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use puzzlefs_core::limits::{PACK_SIZE_MAX, PACK_SIZE_MIN};
use puzzlefs_core::pack::PackRule;
use puzzlefs_core::tables::{BlobRow, ContentRow, Packed, Record as _, Rows, SourceRow};
use puzzlefs_engine::{Compression, Form, Offered, Stored, WriterOptions};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::codec::checked_frame_size;
use crate::descriptor::borrow;
use crate::detach::detach;
use crate::error::raise;
use crate::metadata::packed;

/// (blobs, chunks, counts, stream, trace) as `run` returns them.
type Tables<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
);

/// Cuts the bytes of many files, as one stream, into chunks and stores each as a blob.
#[pyclass(frozen, module = "puzzlefs._rust")]
pub(crate) struct StreamWriter {
    engine: puzzlefs_engine::StreamWriter,
    started: AtomicBool,
}

#[pymethods]
impl StreamWriter {
    #[new]
    #[pyo3(signature = (root, blobs, temporary, compression, frame_size, jobs, sync, pack_size=0))]
    #[allow(clippy::too_many_arguments, reason = "the contract's arguments")]
    fn new(
        root: &[u8],
        blobs: &[u8],
        temporary: &[u8],
        compression: i64,
        frame_size: i64,
        jobs: i64,
        sync: bool,
        pack_size: i64,
    ) -> PyResult<Self> {
        let compression = match compression {
            0 => Compression::None,
            1 => Compression::Upstream,
            2 => Compression::Frames(checked_frame_size(frame_size)?),
            _ => {
                return Err(PyValueError::new_err(format!(
                    "compression is {compression}: not 0, 1 or 2"
                )));
            }
        };
        let options = WriterOptions {
            root: root.to_vec(),
            blobs: blobs.to_vec(),
            temporary: temporary.to_vec(),
            form: Form {
                compression,
                packs: checked_pack_rule(pack_size, compression)?,
            },
            jobs: usize::try_from(jobs).unwrap_or(1),
            sync,
        };
        Ok(Self {
            engine: puzzlefs_engine::StreamWriter::new(options),
            started: AtomicBool::new(false),
        })
    }

    /// Store the files `paths` (relative to root, stream order) with `records.SOURCE` rows.
    #[pyo3(signature = (paths, sources, trace=None, horizon=0, groups=None, offered=None))]
    #[allow(clippy::too_many_arguments, reason = "the contract's arguments")]
    fn run<'py>(
        &self,
        py: Python<'py>,
        paths: PyBackedBytes,
        sources: PyBackedBytes,
        trace: Option<PyBackedBytes>,
        horizon: i64,
        groups: Option<PyBackedBytes>,
        offered: Option<(PyBackedBytes, PyBackedBytes)>,
    ) -> PyResult<Tables<'py>> {
        self.start()?;
        let groups = split_numbers(groups.as_deref().unwrap_or(b""))?;
        let offered = read_offered(py, offered.as_ref())?;
        let (paths, rows) = split_paths(&paths)
            .zip(Packed::new::<SourceRow>(&sources))
            .filter(|(paths, rows)| Rows::<SourceRow>::count(rows) == paths.len())
            .ok_or_else(|| PyValueError::new_err("as many paths as source rows are needed"))?;
        // Whatever was made for the run is gone before the answer is made.
        let stored = detach(py, move || {
            self.engine.run(
                &paths,
                &rows,
                &groups,
                &offered,
                trace.as_deref().unwrap_or(b""),
                horizon,
            )
        })?;
        to_python(py, stored)
    }

    /// Store files that come through a pipe: for each its size (u64) and its bytes; all ones end it.
    fn run_pipe<'py>(&self, py: Python<'py>, fd: RawFd) -> PyResult<Tables<'py>> {
        self.start()?;
        let pipe = borrow(fd)?;
        let stored = detach(py, || self.engine.run_pipe(pipe))?;
        to_python(py, stored)
    }

    /// Make a run, in another thread, raise `CancelledError` soon.
    fn cancel(&self) {
        self.engine.cancel();
    }

    /// Return (files, bytes, chunks, bytes in repeated chunks, bytes written, distinct chunks) so far.
    fn progress(&self) -> (u64, u64, u64, u64, u64, u64) {
        self.engine.progress().into()
    }
}

impl StreamWriter {
    fn start(&self) -> PyResult<()> {
        if self.started.swap(true, Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("a stream writer runs once"));
        }
        Ok(())
    }
}

/// Returns the tables as Python takes them; each is freed before the next is made, for they may be long.
fn to_python(py: Python<'_>, stored: Stored) -> PyResult<Tables<'_>> {
    let trace = PyBytes::new(py, &stored.trace);
    drop(stored.trace);
    let chunks = packed(py, &stored.chunks)?;
    drop(stored.chunks);
    let numbers = |table: &[u32]| {
        let bytes = table.iter().flat_map(|number| number.to_le_bytes());
        PyBytes::new(py, &bytes.collect::<Vec<u8>>())
    };
    let (counts, stream) = (numbers(&stored.counts), numbers(&stored.stream));
    Ok((packed(py, &stored.blobs)?, chunks, counts, stream, trace))
}

/// Returns what other images offer, from their blobs and the chunks in these.
fn read_offered(
    py: Python<'_>,
    tables: Option<&(PyBackedBytes, PyBackedBytes)>,
) -> PyResult<Offered> {
    let Some((blobs, chunks)) = tables else {
        return Ok(Offered::default());
    };
    let (blobs, chunks) = BlobRow::unpack(blobs)
        .zip(ContentRow::unpack(chunks))
        .ok_or_else(|| PyValueError::new_err("offered chunks are not whole rows"))?;
    Offered::new(blobs, &chunks).map_err(|error| raise(py, error))
}

/// Returns the paths in a buffer, each of which a zero byte ends, or `None` where one is not ended.
fn split_paths(paths: &[u8]) -> Option<Vec<&[u8]>> {
    if paths.is_empty() {
        return Some(Vec::new());
    }
    Some(
        paths
            .strip_suffix(b"\0")?
            .split(|&byte| byte == 0)
            .collect(),
    )
}

/// Returns the numbers in a buffer of u32, which ascend.
fn split_numbers(table: &[u8]) -> PyResult<Vec<u32>> {
    let (rows, rest) = table.as_chunks();
    let numbers: Vec<u32> = rows.iter().map(|row| u32::from_le_bytes(*row)).collect();
    if rest.is_empty() && numbers.is_sorted() {
        return Ok(numbers);
    }
    Err(PyValueError::new_err(
        "groups are not ascending u32 numbers",
    ))
}

/// Returns where packs end; `None` where there are none.
fn checked_pack_rule(pack_size: i64, compression: Compression) -> PyResult<Option<PackRule>> {
    if pack_size == 0 {
        return Ok(None);
    }
    if compression == Compression::Upstream {
        return Err(PyValueError::new_err("the original knows no packs"));
    }
    let rule = u64::try_from(pack_size).ok().and_then(PackRule::new);
    rule.map(Some).ok_or_else(|| {
        let (least, greatest) = (PACK_SIZE_MIN, PACK_SIZE_MAX);
        let range = format!("pack size {pack_size} is not 0, nor from {least} to {greatest}");
        PyValueError::new_err(range)
    })
}
