//! The first directories of a tree, listed by several threads before one thread walks them in order.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use puzzlefs_core::metadata::Kind;

use crate::listing::Listing;
use crate::scan_rules::Exclusions;
use crate::scan_xattrs::XattrReader;
use crate::source::SourceRoot;
use crate::status::Status;

/// More threads than this do not make it faster.
const THREAD_LIMIT: usize = 4;
/// Entries that are remembered at most: what comes after them is left to the walk.
const ENTRY_LIMIT: usize = 1 << 16;

/// What was seen of an entry.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    pub status: Status,
    /// Whether it has attributes, where that was asked.
    pub has_xattrs: Option<bool>,
}

impl Seen {
    pub(crate) fn new(status: Status) -> Self {
        Self {
            status,
            has_xattrs: None,
        }
    }
}

/// A directory's entries, in order of their names; what was not seen of them, the walk has to ask for.
#[derive(Default)]
pub(crate) struct Entries {
    text: Vec<u8>,
    /// Where the names end, and what was seen.
    entries: Vec<(usize, Option<Seen>)>,
}

impl Entries {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<Seen>)> {
        let mut start = 0;
        self.entries.iter().map(move |(end, seen)| {
            let name = &self.text[start..*end];
            start = *end;
            (name, *seen)
        })
    }
}

/// The directories that were listed, by their paths. One that could not be is missing.
pub(crate) type Ahead = HashMap<Vec<u8>, Entries>;

/// What of a tree may be listed.
pub(crate) struct Bounds<'a> {
    pub root: &'a SourceRoot,
    pub mounts: &'a HashSet<&'a [u8]>,
    pub exclusions: &'a Exclusions,
    pub stop: &'a AtomicBool,
}

/// Lists directories from the root on; each thread has its own `reader`.
pub(crate) fn list(bounds: &Bounds<'_>, reader: impl Fn() -> XattrReader + Sync) -> Ahead {
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    if threads == 1 {
        return Ahead::new();
    }
    let share = Share::default();
    let work = |first| share.work(first, bounds, reader());
    thread::scope(|scope| {
        let spawn = || {
            share.lock().active += 1;
            let spawned = thread::Builder::new().spawn_scoped(scope, || work(Vec::new()));
            if spawned.is_err() {
                share.lock().active -= 1;
            }
            spawned.ok()
        };
        share.lock().active = 1;
        let others: Vec<_> = (1..threads.min(THREAD_LIMIT))
            .map_while(|_| spawn())
            .collect();
        let mut found: Ahead = work(vec![Vec::new()]).into_iter().collect();
        for other in others {
            found.extend(other.join().unwrap_or_default());
        }
        found
    })
}

/// What threads give to each other. Each has its own directories and shares them only with one that has
/// none left: to wake a thread takes as long as to list some.
#[derive(Default)]
struct Share {
    given: Mutex<Given>,
    changed: Condvar,
    /// How many threads wait.
    waiting: AtomicUsize,
    /// How many entries there are.
    seen: AtomicUsize,
}

#[derive(Default)]
struct Given {
    paths: Vec<Vec<u8>>,
    /// How many threads may give more.
    active: usize,
}

impl Share {
    /// Lists the directories that it has, what is in them, and what others give.
    fn work(
        &self,
        mut own: Vec<Vec<u8>>,
        bounds: &Bounds<'_>,
        mut xattrs: XattrReader,
    ) -> Vec<(Vec<u8>, Entries)> {
        let (mut listing, mut found) = (Listing::default(), Vec::new());
        while let Some(path) = own.pop().or_else(|| self.receive(&mut own)) {
            if !bounds.stop.load(Ordering::Relaxed)
                && let Ok(directory) = bounds.root.directory(&path)
                && listing.read(&directory).is_ok()
                && self.takes(listing.names().count())
            {
                let entries = bounds.entries(&path, &directory, &listing, &mut xattrs, &mut own);
                found.push((path, entries));
            }
            if own.len() > 1 && self.waiting.load(Ordering::Relaxed) > 0 {
                let given = own.drain(..own.len() / 2);
                self.lock().paths.extend(given);
                self.changed.notify_one();
            }
        }
        found
    }

    /// Waits for directories; returns one of them, `None` when nobody has any.
    fn receive(&self, own: &mut Vec<Vec<u8>>) -> Option<Vec<u8>> {
        let mut given = self.lock();
        given.active -= 1;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while given.paths.is_empty() && given.active > 0 {
            let woken = self.changed.wait(given);
            given = woken.unwrap_or_else(PoisonError::into_inner);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        own.append(&mut given.paths);
        if own.is_empty() {
            self.changed.notify_all();
        } else {
            given.active += 1;
        }
        own.pop()
    }

    /// Tells whether there is room for so many entries.
    fn takes(&self, count: usize) -> bool {
        self.seen.fetch_add(count, Ordering::Relaxed) + count <= ENTRY_LIMIT
    }

    fn lock(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bounds<'_> {
    /// Looks at the entries of a directory; appends the paths of the directories in it to `below`.
    fn entries(
        &self,
        path: &[u8],
        directory: &OwnedFd,
        listing: &Listing,
        xattrs: &mut XattrReader,
        below: &mut Vec<Vec<u8>>,
    ) -> Entries {
        let mut full = path.to_vec();
        if !full.is_empty() {
            full.push(b'/');
        }
        let above = full.len();
        let mut entries = Entries::default();
        for name in listing.names() {
            full.truncate(above);
            full.extend_from_slice(name);
            entries.text.extend_from_slice(name);
            let mut seen = None;
            if !self.exclusions.has(name, &full)
                && !self.mounts.contains(full.as_slice())
                && let Ok(status) = Status::at(directory, name)
            {
                let has_xattrs = xattrs.has_any(&full).ok();
                seen = Some(Seen { status, has_xattrs });
                if status.kind() == Ok(Kind::Dir) {
                    below.push(full.clone());
                }
            }
            entries.entries.push((entries.text.len(), seen));
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan_rules::{ScanRules, Times};
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    /// The directories of a tree that are listed, and the names that are found in them.
    fn listed(exclude: &[u8], mount: &[u8], stop: bool) -> BTreeSet<String> {
        let home = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "a/d", "e", "f/g"] {
            fs::create_dir_all(home.path().join(path)).unwrap();
        }
        fs::write(home.path().join("a/file"), b"").unwrap();
        let rules = ScanRules {
            exclude: vec![exclude.to_vec()],
            keep: vec![b"*".to_vec()],
            drop: Vec::new(),
            sort: true,
            times: Times::Keep,
            all_root: false,
        };
        let path = home.path().as_os_str().as_bytes();
        let bounds = Bounds {
            root: &SourceRoot::open(path).unwrap(),
            mounts: &HashSet::from([mount]),
            exclusions: &Exclusions::new(&rules.exclude),
            stop: &AtomicBool::new(stop),
        };
        let found = list(&bounds, || XattrReader::new(path, &rules));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let describe = |(path, entries): (&Vec<u8>, &Entries)| {
            let names = entries.iter().map(|(name, seen)| {
                let sign = if seen.is_some() { "" } else { "?" };
                text(name) + sign
            });
            format!("{}: {}", text(path), names.collect::<Vec<_>>().join(" "))
        };
        found.iter().map(describe).collect()
    }

    fn is_alone() -> bool {
        thread::available_parallelism().is_ok_and(|count| count.get() == 1)
    }

    #[test]
    fn every_directory_is_listed_but_those_left_out() {
        let found = listed(b"d", b"f", false);
        let wanted = [": a e f?", "a: b d? file", "a/b: c", "a/b/c: ", "e: "];
        let wanted: BTreeSet<String> = wanted.map(String::from).into();
        assert!(found == wanted || is_alone(), "{found:?}");
    }

    #[test]
    fn who_is_stopped_lists_nothing() {
        assert!(listed(b"", b"", true).is_empty());
    }
}
