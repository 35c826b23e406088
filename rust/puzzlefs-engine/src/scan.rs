//! A directory tree on disk to tables: one `lstat` an entry, and no link followed below the root.
//!
//! Directories are visited depth first, siblings by name; a visit lists all entries of its directory.
//! Every entry takes a number, one more name of a known inode too: existing images count so.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use puzzlefs_core::metadata::Kind;
use puzzlefs_core::tables::{EntryRow, HAS_ADDITIONAL, InodeRow, SourceRow, Vector};
use puzzlefs_core::tree::Tree;
use puzzlefs_core::{Error, Result};

use crate::ahead::{self, Ahead, Bounds, Seen};
use crate::listing::{Listing, Place};
use crate::look::{Look, Met};
use crate::scan_rules::{Exclusions, ScanRules};
use crate::scan_xattrs::{XattrReader, copy_xattrs};
use crate::snapshot::{Directory, SnapshotWriter};
use crate::source::{SourceRoot, source_error};
use crate::status::Status;

/// A scanned tree.
#[derive(Debug)]
pub struct Scanned {
    /// Its tables; no file has chunks yet.
    pub tree: Tree,
    /// The paths of its files from the root, each with a zero byte after it, in order of their inodes.
    pub paths: Vec<u8>,
    /// What each of these files was.
    pub sources: Vec<SourceRow>,
    /// Paths on which something is mounted, in the order of the visit.
    pub crossings: Vec<Vec<u8>>,
    /// What the next scan can be given a [`Look`] at; empty where that would be too much.
    pub snapshot: Vec<u8>,
}

/// Reads the tree below the directory `root`; of directories on which something is mounted, given by
/// their paths from the root, only the directory itself.
///
/// What `look` found to be as it was is not read again; a look by other rules is no help. The new snapshot
/// believes no inode that changed at `horizon` (nanoseconds since the epoch) or later.
///
/// Fails with `Source` for what cannot be read, and with `Cancelled` soon after `stop` is set.
pub fn scan(
    root: &[u8],
    mounts: &[Vec<u8>],
    rules: &ScanRules,
    horizon: i64,
    look: Option<&Look>,
    stop: &AtomicBool,
) -> Result<Scanned> {
    let opened = SourceRoot::open(root)?;
    let digest = rules.digest(mounts);
    let look = look.filter(|look| look.snapshot.rules == digest);
    let mounts: HashSet<&[u8]> = mounts.iter().map(Vec::as_slice).collect();
    let exclusions = Exclusions::new(&rules.exclude);
    let ahead = if look.is_none() {
        let bounds = Bounds {
            root: &opened,
            mounts: &mounts,
            exclusions: &exclusions,
            stop,
        };
        ahead::list(&bounds, || XattrReader::new(root, rules))
    } else {
        Ahead::new()
    };
    let mut walk = Walk {
        root: &opened,
        mounts,
        exclusions,
        ahead,
        xattrs: XattrReader::new(root, rules),
        rules,
        horizon,
        look,
        known: look.map_or_else(HashMap::new, |look| look.snapshot.by_path()),
        notes: SnapshotWriter::new(&digest),
        stop,
        listing: Listing::default(),
        links: HashMap::new(),
        last: 0,
        vector: Vector::default(),
        paths: Vec::new(),
        sources: Vec::new(),
        crossings: Vec::new(),
    };
    walk.run()?;
    Ok(Scanned {
        tree: Tree::new(walk.vector),
        paths: walk.paths,
        sources: walk.sources,
        crossings: walk.crossings,
        snapshot: walk.notes.finish(),
    })
}

struct Walk<'a> {
    root: &'a SourceRoot,
    mounts: HashSet<&'a [u8]>,
    exclusions: Exclusions,
    ahead: Ahead,
    xattrs: XattrReader,
    rules: &'a ScanRules,
    horizon: i64,
    look: Option<&'a Look>,
    /// The directories of the look's snapshot by their paths.
    known: HashMap<&'a [u8], &'a Directory>,
    notes: SnapshotWriter,
    stop: &'a AtomicBool,
    listing: Listing,
    /// The number of each inode that has more than one name, by device and inode there.
    links: HashMap<(u64, u64), u64>,
    /// The last number that was taken.
    last: u64,
    vector: Vector,
    paths: Vec<u8>,
    sources: Vec<SourceRow>,
    crossings: Vec<Vec<u8>>,
}

/// A directory that is still to be visited.
struct Pending {
    /// Its row of the inodes.
    row: usize,
    path: Vec<u8>,
    /// Whether its entries are those of the snapshot.
    is_same: bool,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        self.last = 1;
        let is_same = self.begin().map_err(|errno| source_error(b".", errno))?;
        let mut pending = vec![Pending {
            row: 0,
            path: Vec::new(),
            is_same,
        }];
        while let Some(next) = pending.pop() {
            if !self.mounts.contains(next.path.as_slice()) {
                let above = pending.len();
                self.visit(next, &mut pending)?;
                pending[above..].reverse();
            }
        }
        Ok(())
    }

    /// Adds the root; tells whether it is what the snapshot says.
    fn begin(&mut self) -> rustix::io::Result<bool> {
        let met = self.look.and_then(|look| look.entry(0));
        let mut place = Place::new(self.root, b"");
        let status = match &met {
            Some(met) => met.status,
            None => Status::of(place.directory()?)?,
        };
        let same = met.filter(|met| met.is_same);
        self.add(&mut place, b"", b"", &Seen::new(status), same)?;
        self.notes.end_root();
        Ok(same.is_some())
    }

    /// Adds the entries of a directory, and appends its subdirectories to `pending`.
    fn visit(&mut self, visited: Pending, pending: &mut Vec<Pending>) -> Result<()> {
        let known = self
            .look
            .zip(self.known.get(visited.path.as_slice()).copied());
        let mut place = Place::new(self.root, &visited.path);
        let mut path = visited.path.clone();
        self.notes.directory(&path);
        if !path.is_empty() {
            path.push(b'/');
        }
        let first = self.vector.entries.len();
        let ahead = self.ahead.remove(&visited.path);
        match (known.filter(|_| visited.is_same), ahead) {
            (Some((look, directory)), _) => {
                for number in directory.entries.clone() {
                    let name = look.snapshot.name(&look.snapshot.entries[number]);
                    let met = look.entry(number);
                    self.meet(&mut place, name, met, None, &mut path, pending)?;
                }
            }
            (None, Some(entries)) => {
                for (name, seen) in entries.iter() {
                    self.meet(&mut place, name, None, seen, &mut path, pending)?;
                }
            }
            (None, None) => {
                let mut listing = std::mem::take(&mut self.listing);
                place
                    .directory()
                    .and_then(|directory| listing.read(directory))
                    .map_err(|errno| source_error(shown(&visited.path), errno))?;
                for name in listing.names() {
                    let met = known.and_then(|(look, directory)| {
                        look.entry(look.snapshot.find(directory, name)?)
                    });
                    self.meet(&mut place, name, met, None, &mut path, pending)?;
                }
                self.listing = listing;
            }
        }
        let count = self.vector.entries.len() - first;
        let inode = &mut self.vector.inodes[visited.row];
        (inode.first, inode.count) = (first as u64, count as u64);
        Ok(())
    }

    /// Adds an entry of the directory of which `path` is the path and a slash, unless it is excluded.
    fn meet(
        &mut self,
        place: &mut Place<'_>,
        name: &[u8],
        met: Option<Met<'_>>,
        seen: Option<Seen>,
        path: &mut Vec<u8>,
        pending: &mut Vec<Pending>,
    ) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let above = path.len();
        path.extend_from_slice(name);
        if !self.exclusions.has(name, path) {
            let directory = self
                .entry(place, name, path, met, seen)
                .map_err(|errno| source_error(path, errno))?;
            if let Some((row, is_same)) = directory {
                pending.push(Pending {
                    row,
                    path: path.clone(),
                    is_same,
                });
            }
        }
        path.truncate(above);
        Ok(())
    }

    /// Adds an entry and, unless it is a further name, its inode; returns the row of a directory and
    /// whether that is as it was.
    fn entry(
        &mut self,
        place: &mut Place<'_>,
        name: &[u8],
        path: &[u8],
        met: Option<Met<'_>>,
        seen: Option<Seen>,
    ) -> rustix::io::Result<Option<(usize, bool)>> {
        let seen = match (&met, seen) {
            (Some(met), _) => Seen::new(met.status),
            (None, Some(seen)) => seen,
            (None, None) => Seen::new(Status::at(place.directory()?, name)?),
        };
        let status = seen.status;
        let kind = status.kind()?;
        if self.mounts.contains(path) {
            self.crossings.push(path.to_vec());
            if kind != Kind::Dir {
                return Ok(None);
            }
        }
        self.last += 1;
        let ino = if kind != Kind::Dir && status.is_linked {
            let identity = (status.device, status.inode);
            *self.links.entry(identity).or_insert(self.last)
        } else {
            self.last
        };
        self.vector.entries.push(EntryRow {
            ino,
            name_offset: self.vector.heap.len() as u64,
            name_length: name.len() as u32,
            reserved: 0,
        });
        self.vector.heap.extend_from_slice(name);
        let same = met.filter(|met| met.is_same);
        if ino == self.last {
            self.add(place, name, path, &seen, same)?;
        } else {
            self.note(name, &status, same, None);
        }
        Ok((kind == Kind::Dir).then(|| (self.vector.inodes.len() - 1, same.is_some())))
    }

    /// Adds the inode that has the last number; `same` is what the snapshot says of it, if it is as it was.
    fn add(
        &mut self,
        place: &mut Place<'_>,
        name: &[u8],
        path: &[u8],
        seen: &Seen,
        same: Option<Met<'_>>,
    ) -> rustix::io::Result<()> {
        let status = &seen.status;
        let kind = status.kind()?;
        let known = same.and_then(|met| met.look.snapshot.properties(met.known));
        let (xattr_first, xattr_count) = match &known {
            Some(known) => copy_xattrs(known, &mut self.vector),
            None => {
                let has_any = seen.has_xattrs;
                self.xattrs
                    .read(place, name, path, has_any, &mut self.vector)?
            }
        };
        let link_offset = self.vector.heap.len();
        if kind == Kind::Lnk {
            match &known {
                Some(known) => self.vector.heap.extend_from_slice(known.link),
                None => {
                    let target = rustix::fs::readlinkat(place.directory()?, name, Vec::new())?;
                    self.vector.heap.extend_from_slice(target.to_bytes());
                }
            }
        }
        if kind == Kind::File {
            self.paths.extend_from_slice(path);
            self.paths.push(0);
            self.sources.push(status.source());
        }
        let has_additional = xattr_count > 0 || kind == Kind::Lnk;
        self.vector.inodes.push(InodeRow {
            xattr_first,
            xattr_count,
            flags: if has_additional { HAS_ADDITIONAL } else { 0 },
            link_offset: link_offset as u64,
            link_length: (self.vector.heap.len() - link_offset) as u32,
            ..self.rules.describe(self.last, status, kind)
        });
        self.note(name, status, same, self.vector.inodes.last().copied());
        Ok(())
    }

    /// Notes an entry for the next scan, with the inode that stands there.
    fn note(
        &mut self,
        name: &[u8],
        status: &Status,
        same: Option<Met<'_>>,
        inode: Option<InodeRow>,
    ) {
        let identity = match same {
            Some(met) => met.known.identity,
            None => status.identity(self.horizon),
        };
        let vector = &self.vector;
        let text = |offset: u64, length: u32| &vector.heap[offset as usize..][..length as usize];
        let properties = inode.map(|inode| {
            let first = inode.xattr_first as usize;
            let rows = &vector.xattrs[first..first + inode.xattr_count as usize];
            let xattrs = rows.iter().map(|row| {
                let key = text(row.key_offset, row.key_length);
                (key, text(row.value_offset, row.value_length))
            });
            (text(inode.link_offset, inode.link_length), xattrs)
        });
        self.notes.entry(&identity, name, properties);
    }
}

/// Returns the path by which errors name a directory.
fn shown(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}
