//! Unpacking a whole image into a directory.
//!
//! Every path is reached through descriptors of directories made here and never through a symbolic
//! link, so that neither the image nor somebody who can write to the target leads the work elsewhere.
//! First all directories are made, open to their owner alone; then threads make what they hold; last,
//! directories get their owner, mode and times, the deepest first, for those would change or be in the
//! way while they fill.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use puzzlefs_core::index::{Index, Stat};
use puzzlefs_core::metadata::Kind;
use puzzlefs_core::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Reader;
use crate::extract_place::Places;
use crate::extract_plan::{Name, Plan};
use crate::extract_restore::{Refusal, Target, file_type, restore, restore_named};

/// Inodes that a thread takes at a time.
const BATCH: usize = 32;
/// Directories that all threads together keep open.
const PLACES: usize = 128;
/// What a device number has room for.
const MAJOR_LIMIT: u64 = 1 << 12;
const MINOR_LIMIT: u64 = 1 << 20;

/// How an image is unpacked.
pub struct Unpacking<'a> {
    /// An empty directory.
    pub target: BorrowedFd<'a>,
    /// What it is called in errors.
    pub name: &'a [u8],
    /// Whether inodes get the owners that the image names.
    pub same_owner: bool,
    /// Threads.
    pub jobs: usize,
    /// Set by the caller to end the work soon, with `Cancelled`.
    pub stop: &'a AtomicBool,
}

/// What was unpacked, each inode once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Regular files.
    pub files: u64,
    /// Inodes, without the root.
    pub inodes: u64,
    /// Bytes of all files.
    pub bytes: u128,
    /// What the system refused.
    pub skipped: Vec<Skipped>,
}

/// An inode, or a property of one, that could not be made.
#[derive(Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Path relative to the target.
    pub path: Vec<u8>,
    /// `owner`, `mode`, `times`, the key of an attribute, or nothing: the inode itself.
    pub what: Vec<u8>,
    /// The system's error number.
    pub errno: i32,
}

impl Reader {
    /// Unpacks the reader's image. Fails with `Store` for the target, an error that names a blob,
    /// `Unsupported` for directories nested too deep, or `Cancelled`; what was made before it stays.
    pub fn extract_tree(&self, unpacking: &Unpacking<'_>) -> Result<Unpacked> {
        let plan = Plan::new(self.index())?;
        let run = Run {
            reader: self,
            index: self.index(),
            plan: &plan,
            unpacking,
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            first_error: Mutex::new(None),
        };
        let mut unpacked = Unpacked::default();
        run.make_directories(&mut unpacked)?;
        run.fill(&mut unpacked)?;
        run.link()?;
        run.finish_directories(&mut unpacked)?;
        Ok(unpacked)
    }
}

/// One call of [`Reader::extract_tree`].
struct Run<'a> {
    reader: &'a Reader,
    index: &'a Index,
    plan: &'a Plan<'a>,
    unpacking: &'a Unpacking<'a>,
    /// Row of the next inode that no thread has taken.
    next: AtomicUsize,
    /// Whether a thread met an error: the others need not go on.
    failed: AtomicBool,
    first_error: Mutex<Option<Error>>,
}

impl Run<'_> {
    fn make_directories(&self, unpacked: &mut Unpacked) -> Result<()> {
        let mut places = self.places(1)?;
        for row in 1..self.plan.directories.len() as u32 {
            self.check_stop()?;
            let made = places.make(row);
            made.map_err(|errno| self.error_of_directory(row, errno))?;
            unpacked.inodes += 1;
        }
        Ok(())
    }

    /// Makes everything but directories and further names, in several threads.
    fn fill(&self, unpacked: &mut Unpacked) -> Result<()> {
        let batches = self.plan.inodes.len().div_ceil(BATCH);
        let jobs = self.unpacking.jobs.clamp(1, batches.max(1));
        let parts: Vec<Unpacked> = thread::scope(|scope| {
            let helpers: Vec<_> = (1..jobs).map(|_| scope.spawn(|| self.work(jobs))).collect();
            let own = self.work(jobs);
            let others = helpers.into_iter().map(joined);
            others.chain([own]).collect()
        });
        for part in parts {
            unpacked.files += part.files;
            unpacked.inodes += part.inodes;
            unpacked.bytes += part.bytes;
            unpacked.skipped.extend(part.skipped);
        }
        let mut first_error = self
            .first_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first_error.take().map_or(Ok(()), Err)
    }

    /// Makes inodes until there are no more, or until some thread fails.
    fn work(&self, jobs: usize) -> Unpacked {
        let mut unpacked = Unpacked::default();
        if let Err(error) = self.take_batches(jobs, &mut unpacked) {
            self.failed.store(true, Ordering::Relaxed);
            let mut first_error = self
                .first_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            first_error.get_or_insert(error);
        }
        unpacked
    }

    fn take_batches(&self, jobs: usize, unpacked: &mut Unpacked) -> Result<()> {
        let mut worker = Worker {
            run: self,
            places: self.places(jobs)?,
            buffer: Vec::new(),
        };
        loop {
            let start = self.next.fetch_add(BATCH, Ordering::Relaxed);
            let rest = self.plan.inodes.get(start..).unwrap_or(&[]);
            if rest.is_empty() {
                return Ok(());
            }
            for name in rest.iter().take(BATCH) {
                self.check_stop()?;
                if self.failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                worker.make(name, unpacked)?;
            }
        }
    }

    fn link(&self) -> Result<()> {
        let mut places = self.places(1)?;
        for link in &self.plan.links {
            self.check_stop()?;
            let Name {
                directory, name, ..
            } = link.name;
            let linked = places.link(link.first, (directory, name));
            linked.map_err(|errno| self.error(directory, name, errno))?;
        }
        Ok(())
    }

    fn finish_directories(&self, unpacked: &mut Unpacked) -> Result<()> {
        let mut places = self.places(1)?;
        for (row, directory) in self.plan.directories.iter().enumerate().rev() {
            self.check_stop()?;
            let stat = self.index.stat(directory.ino)?;
            let mut refused = Vec::new();
            let finished = places.open(row as u32).and_then(|place| {
                let target = Target::Open(place.as_fd());
                restore(
                    self.index,
                    &stat,
                    &target,
                    self.unpacking.same_owner,
                    &mut refused,
                )
            });
            finished.map_err(|errno| self.error_of_directory(row as u32, errno))?;
            self.note(directory.parent, directory.name, refused, unpacked);
        }
        Ok(())
    }

    fn places(&self, threads: usize) -> Result<Places<'_>> {
        let kept = (PLACES / threads).clamp(2, 16);
        Places::new(self.plan, self.unpacking.target, kept)
            .map_err(|errno| self.error(0, b"", errno))
    }

    fn check_stop(&self) -> Result<()> {
        if self.unpacking.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    fn note(&self, directory: u32, name: &[u8], refused: Vec<Refusal>, unpacked: &mut Unpacked) {
        for (what, errno) in refused {
            unpacked.skipped.push(Skipped {
                path: self.plan.path(directory, name),
                what,
                errno: errno.raw_os_error(),
            });
        }
    }

    fn error_of_directory(&self, row: u32, errno: Errno) -> Error {
        let directory = &self.plan.directories[row as usize];
        self.error(directory.parent, directory.name, errno)
    }

    fn error(&self, directory: u32, name: &[u8], errno: Errno) -> Error {
        let mut path = self.unpacking.name.to_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend(self.plan.path(directory, name));
        Error::Store {
            path,
            errno: errno.raw_os_error(),
        }
    }
}

/// One of the threads that make inodes.
struct Worker<'a> {
    run: &'a Run<'a>,
    places: Places<'a>,
    /// A file's bytes on their way.
    buffer: Vec<u8>,
}

impl Worker<'_> {
    fn make(&mut self, name: &Name<'_>, unpacked: &mut Unpacked) -> Result<()> {
        let stat = self.run.index.stat(name.ino)?;
        let mut refused = Vec::new();
        let made = match stat.kind {
            Kind::File => self.make_file(name, &stat, &mut refused).map(|()| true),
            _ => self.make_special(name, &stat, &mut refused),
        };
        let made = made.map_err(|error| match error {
            Error::Os(errno) => {
                let errno = Errno::from_raw_os_error(errno);
                self.run.error(name.directory, name.name, errno)
            }
            other => other,
        })?;
        self.run.note(name.directory, name.name, refused, unpacked);
        if made {
            unpacked.inodes += 1;
        }
        if stat.kind == Kind::File {
            unpacked.files += 1;
            unpacked.bytes += u128::from(stat.size);
        }
        Ok(())
    }

    fn make_file(
        &mut self,
        name: &Name<'_>,
        stat: &Stat,
        refused: &mut Vec<Refusal>,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let place = self.places.open(name.directory).map_err(system)?;
        let file = rustix::fs::openat(&place, name.name, flags | OFlags::CLOEXEC, mode);
        let file = file.map_err(system)?;
        self.run
            .reader
            .extract_with(stat.ino, file.as_fd(), &mut self.buffer)?;
        let (index, same_owner) = (self.run.index, self.run.unpacking.same_owner);
        restore(
            index,
            stat,
            &Target::Open(file.as_fd()),
            same_owner,
            refused,
        )
        .map_err(system)
    }

    /// Makes a link, device, pipe or socket; returns whether the system allowed it.
    fn make_special(
        &mut self,
        name: &Name<'_>,
        stat: &Stat,
        refused: &mut Vec<Refusal>,
    ) -> Result<bool> {
        let place = self.places.open(name.directory).map_err(system)?;
        let made = match stat.kind {
            Kind::Lnk => {
                let target = self.run.index.symlink(stat.ino)?;
                rustix::fs::symlinkat(target, &place, name.name)
            }
            _ => match make_node(&place, name.name, stat) {
                Err(errno @ (Errno::PERM | Errno::ACCESS | Errno::OVERFLOW)) => {
                    refused.push((Vec::new(), errno));
                    return Ok(false);
                }
                other => other,
            },
        };
        made.map_err(system)?;
        let (index, same_owner) = (self.run.index, self.run.unpacking.same_owner);
        restore_named(index, stat, (&place, name.name), same_owner, refused).map_err(system)?;
        Ok(true)
    }
}

/// Makes a device, pipe or socket. A truncated device number would name another device.
fn make_node(directory: &OwnedFd, name: &[u8], stat: &Stat) -> rustix::io::Result<()> {
    if stat.major >= MAJOR_LIMIT || stat.minor >= MINOR_LIMIT {
        return Err(Errno::OVERFLOW);
    }
    let device = rustix::fs::makedev(stat.major as u32, stat.minor as u32);
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(directory, name, file_type(stat.kind), mode, device)
}

/// Returns a thread's result; its panic goes on here.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

fn system(errno: Errno) -> Error {
    Error::Os(errno.raw_os_error())
}
