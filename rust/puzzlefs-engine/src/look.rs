//! A look at every inode that a snapshot tells, by several threads: which of them are as they were.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use puzzlefs_core::{Error, Result};

use crate::snapshot::{Directory, Known, Snapshot};
use crate::source::{SourceRoot, source_error};
use crate::status::{Status, UNKNOWN};

/// More threads than this do not make it faster.
const THREAD_LIMIT: usize = 4;

/// An entry of a snapshot as it is now.
#[derive(Clone, Copy, Debug)]
struct Seen {
    status: Status,
    is_same: bool,
}

/// What became of a snapshot's inodes.
#[derive(Debug)]
pub struct Look {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// For each of its entries what is seen now; `None` where it is not there, or its directory not.
    seen: Vec<Option<Seen>>,
}

/// An entry of a snapshot, and what it is now.
#[derive(Clone, Copy)]
pub struct Met<'a> {
    /// Where it was seen.
    pub look: &'a Look,
    /// What the snapshot says of it.
    pub known: &'a Known,
    /// What the system says now.
    pub status: Status,
    /// Whether that is the same.
    pub is_same: bool,
}

impl Look {
    /// Looks at the tree below the directory `root`; `None` where `snapshot` is none.
    ///
    /// Fails with `Source` where there is no such root, and with `Cancelled` soon after `stop` is set.
    pub fn new(root: &[u8], snapshot: &[u8], stop: &AtomicBool) -> Result<Option<Self>> {
        let root = SourceRoot::open(root)?;
        let Some(snapshot) = Snapshot::read(snapshot) else {
            return Ok(None);
        };
        let next = AtomicUsize::new(0);
        let work = || look(&root, &snapshot, &next, stop);
        let threads = thread::available_parallelism().map_or(1, |count| count.get());
        let mut found = thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(THREAD_LIMIT))
                .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
                .collect();
            let mut found = work();
            for other in others {
                found.extend(other.join().unwrap_or_default());
            }
            found
        });
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        let status = root.status().map_err(|errno| source_error(b".", errno))?;
        let mut seen = vec![Some(compare(&snapshot, 0, status))];
        seen.extend(found.into_iter().flat_map(|(_, seen)| seen));
        Ok(Some(Self { snapshot, seen }))
    }

    /// Returns an entry by its number, `None` where it is not there any more.
    pub fn entry(&self, number: usize) -> Option<Met<'_>> {
        let seen = self.seen[number]?;
        Some(Met {
            look: self,
            known: &self.snapshot.entries[number],
            status: seen.status,
            is_same: seen.is_same,
        })
    }

    /// Tells whether all that the snapshot tells is as it was, and there is nothing else.
    pub fn is_unchanged(&self) -> bool {
        let mut seen = self.seen.iter();
        seen.all(|seen| seen.is_some_and(|seen| seen.is_same))
    }
}

/// Looks at directories until none is left that nobody looked at.
fn look(
    root: &SourceRoot,
    snapshot: &Snapshot,
    next: &AtomicUsize,
    stop: &AtomicBool,
) -> Vec<(usize, Vec<Option<Seen>>)> {
    let mut found = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(directory) = snapshot.directories.get(number) else {
            break;
        };
        found.push((number, entries(root, snapshot, directory)));
    }
    found
}

fn entries(root: &SourceRoot, snapshot: &Snapshot, directory: &Directory) -> Vec<Option<Seen>> {
    let Ok(opened) = root.place(snapshot.path(directory)) else {
        return vec![None; directory.entries.len()];
    };
    let numbers = directory.entries.clone();
    let seen = numbers.map(|number| {
        let name = snapshot.name(&snapshot.entries[number]);
        let status = Status::at(&opened, name).ok()?;
        Some(compare(snapshot, number, status))
    });
    seen.collect()
}

fn compare(snapshot: &Snapshot, number: usize, status: Status) -> Seen {
    let known = snapshot.entries[number].identity;
    let is_same = known != UNKNOWN && status.identity(i64::MAX) == known;
    Seen { status, is_same }
}
