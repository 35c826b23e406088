//! Many files, as one stream, into chunks, and each chunk into a blob: the build's pipeline.
//!
//! One thread reads and cuts, `jobs` threads hash, compress and store. Whatever the order in which
//! they finish, the answer is put together in stream order, and is the same for any number of jobs.

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_channel::Receiver;
use puzzlefs_core::tables::{Rows, SourceRow};
use puzzlefs_core::{Error, Result};

use crate::assemble::{Stored, assemble};
use crate::blob::Verify;
use crate::blobs::Blobs;
use crate::block::Chunk;
use crate::buffers::Buffers;
use crate::cutter::Cutter;
use crate::form::Form;
use crate::known::Known;
use crate::offered::Offered;
use crate::packer::Packer;
use crate::part::Part;
use crate::pipe::Pipe;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::put::BlobDirectory;
use crate::source::SourceRoot;
use crate::stream::{Input, Stream};
use crate::trace::{Trace, TraceFile};
use crate::worker::Shared;

/// More threads than this do not make a build faster.
const JOB_LIMIT: usize = 256;
/// What is built from and into, and how.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// The root filesystem.
    pub root: Vec<u8>,
    /// The directory of the blobs.
    pub blobs: Vec<u8>,
    /// An existing directory on the same filesystem for unfinished blobs.
    pub temporary: Vec<u8>,
    /// How chunks become blobs.
    pub form: Form,
    /// Worker threads.
    pub jobs: usize,
    /// Whether each blob is synced before it gets its name.
    pub sync: bool,
}

/// One build of a stream.
pub struct StreamWriter {
    options: WriterOptions,
    progress: Progress,
}

impl StreamWriter {
    /// Takes the options; nothing is opened before the run.
    pub fn new(options: WriterOptions) -> Self {
        Self {
            options,
            progress: Progress::new(),
        }
    }

    /// Makes the run, in another thread, fail with [`Error::Cancelled`] soon.
    pub fn cancel(&self) {
        self.progress.cancel();
    }

    /// Returns (files read, bytes read, chunks cut, bytes in repeated chunks, bytes written, distinct
    /// chunks) so far.
    pub fn progress(&self) -> [u64; 6] {
        self.progress.counters()
    }

    /// Stores the files `paths`, relative to the root, which must be what `rows` say.
    ///
    /// `groups` are numbers of files, ascending, at which the stream is cut and a pack begins.
    ///
    /// Chunks that are `offered` are referred to where they are.
    ///
    /// `trace` is what an earlier run gave, or anything else, which is no help; of files that changed
    /// at `horizon` (nanoseconds since the epoch) or later the new trace says nothing.
    ///
    /// Fails with `Source`, `SourceChanged`, `Store` or `Cancelled`; of several errors, the first in
    /// stream order is returned. Blobs written by then stay. A writer runs once: its
    /// counters go on, and a cancelled one stays cancelled.
    pub fn run(
        &self,
        paths: &[impl AsRef<[u8]>],
        rows: &(impl Rows<SourceRow> + ?Sized),
        groups: &[u32],
        offered: &Offered,
        trace: &[u8],
        horizon: i64,
    ) -> Result<Stored> {
        if paths.len() != rows.count() {
            return Err(Error::Contradiction("paths and sources differ in number"));
        }
        let options = &self.options;
        let root = SourceRoot::open(&options.root)?;
        let directory = BlobDirectory::open(&options.blobs, &options.temporary, options.sync)?;
        let files = files(paths, rows, horizon);
        let groups = group_starts(rows, groups);
        let store = |trace| {
            let known = Known::new(trace, &directory);
            let plan = Plan::new(&known, &files, &groups);
            let stream = Stream::new(&root, paths, rows, &self.progress);
            let (packer, cut) = self.store(stream, plan, &known, &groups, offered, &directory);
            assemble(packer, cut, rows.rows().map(|row| row.size))
        };
        let result = match store(Trace::read(trace, &options.form)) {
            // A blob of the earlier build is not what it was: its bytes are read from the files.
            Err(Error::Blob { .. }) => {
                self.progress.restart();
                store(Trace::default())
            }
            result => result,
        };
        let (mut stored, mut trace) = result?;
        (trace.files, trace.groups) = (files, groups);
        stored.trace = trace.write(&options.form);
        Ok(stored)
    }

    /// Stores files that come through a pipe, until one says that there are no more ([`Pipe`]); the
    /// root is not used, and nothing is known of an earlier run nor kept for a later one.
    ///
    /// Fails with `Store`, `Os` where the pipe cannot be read, `Contradiction` for sizes beyond
    /// bounds, or `Cancelled`, also where the pipe ends early. It counts as the run of the writer.
    pub fn run_pipe(&self, pipe: BorrowedFd<'_>) -> Result<Stored> {
        let options = &self.options;
        let directory = BlobDirectory::open(&options.blobs, &options.temporary, options.sync)?;
        let known = Known::new(Trace::default(), &directory);
        let mut stream = Pipe::new(pipe, &self.progress);
        let plan = Plan::new(&known, &[], &[]);
        let none = Offered::default();
        let (packer, cut) = self.store(&mut stream, plan, &known, &[], &none, &directory);
        Ok(assemble(packer, cut, stream.into_sizes())?.0)
    }

    /// Runs the pipeline; returns what happened to the chunks, and why they are not all, if so.
    fn store<'a>(
        &'a self,
        stream: impl Input,
        plan: Plan<'_>,
        known: &'a Known,
        groups: &'a [u64],
        offered: &'a Offered,
        directory: &BlobDirectory,
    ) -> (Packer<'a>, Result<()>) {
        let options = &self.options;
        let blobs = Blobs::new(&known.digests(), &options.blobs, Verify::Once);
        let buffers = Buffers::default();
        let (part_sender, parts) = crossbeam_channel::unbounded();
        let packer = Packer::new(
            &options.form,
            known,
            groups,
            offered,
            &self.progress,
            part_sender,
            buffers.clone(),
        );
        let shared = Shared {
            directory,
            known: &blobs,
            form: &options.form,
            buffers,
            progress: &self.progress,
            packer: Mutex::new(packer),
        };
        let (sender, chunks) = crossbeam_channel::unbounded();
        let cut = thread::scope(|scope| {
            let cutter = Cutter::new(stream, plan, &shared, sender);
            let (count, cut) = match self.hire(scope, &shared, &chunks, &parts) {
                Ok(()) => cutter.run(),
                Err(error) => (0, Err(error)),
            };
            shared.packer().end(count, cut.is_ok());
            cut
        });
        let packer = shared.packer.into_inner();
        (packer.unwrap_or_else(PoisonError::into_inner), cut)
    }

    /// Starts the workers; a system that has no room for all of them gets by with fewer.
    fn hire<'scope>(
        &self,
        scope: &'scope thread::Scope<'scope, '_>,
        shared: &'scope Shared<'_, '_>,
        chunks: &Receiver<Chunk>,
        parts: &Receiver<Part>,
    ) -> Result<()> {
        for job in 0..self.options.jobs.clamp(1, JOB_LIMIT) {
            let (chunks, parts) = (chunks.clone(), parts.clone());
            let worker = thread::Builder::new().name(format!("puzzlefs-{job}"));
            match worker.spawn_scoped(scope, move || shared.work(&chunks, &parts)) {
                Err(error) if job == 0 => return Err(Error::Os(error.raw_os_error().unwrap_or(0))),
                Err(_) => break,
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// Returns where in the stream groups begin, given by their first files; a group without content is none.
fn group_starts(rows: &(impl Rows<SourceRow> + ?Sized), groups: &[u32]) -> Vec<u64> {
    let (mut at, mut next) = (0_u64, 0);
    let mut starts: Vec<u64> = Vec::new();
    for &first in groups {
        let first = (first as usize).min(rows.count());
        for row in (next..first).filter_map(|number| rows.row(number)) {
            at = at.saturating_add(row.size);
        }
        next = next.max(first);
        if at > starts.last().copied().unwrap_or(0) {
            starts.push(at);
        }
    }
    starts
}

/// Returns what a trace says of the files with content.
fn files(
    paths: &[impl AsRef<[u8]>],
    rows: &(impl Rows<SourceRow> + ?Sized),
    horizon: i64,
) -> Vec<TraceFile> {
    let files = paths
        .iter()
        .zip(rows.rows())
        .filter(|(_, row)| row.size > 0);
    files
        .map(|(path, row)| TraceFile::new(path.as_ref(), &row, horizon))
        .collect()
}
