//! A directory tree on disk to tables: one `lstat` an entry, and no link followed below the root.
//!
//! Directories are visited depth first, siblings by name; a visit lists all entries of its directory.
//! Every entry takes a number, one more name of a known inode too: existing images count so.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use puzzlefs_core::metadata::Kind;
use puzzlefs_core::tables::{EntryRow, HAS_ADDITIONAL, InodeRow, SourceRow, Vector};
use puzzlefs_core::tree::Tree;
use puzzlefs_core::{Error, Result};
use rustix::fs::{AtFlags, FileType, RawDir, Stat, major, minor};
use rustix::io::Errno;

use crate::glob::Glob;
use crate::scan_xattrs::XattrReader;
use crate::source::{SourceRoot, nanoseconds, source_error};

/// Bytes of directory entries that one system call gives.
const LISTING: usize = 256 << 10;
const PERMISSIONS: u32 = 0o7777;

/// What becomes of modification times, in seconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub enum Times {
    /// They stay.
    Keep,
    /// Later ones become this.
    AtMost(i64),
    /// All become this.
    Exactly(i64),
}

/// What of a tree is taken, and what is said of it.
#[derive(Clone, Debug)]
pub struct ScanRules {
    /// Globs of what is left out: with a slash a path from the root, without one any name.
    pub exclude: Vec<Vec<u8>>,
    /// Globs of the attributes that are taken.
    pub keep: Vec<Vec<u8>>,
    /// Globs of those that are not, even so.
    pub drop: Vec<Vec<u8>>,
    /// Whether attributes are sorted by key, or stay in the system's order.
    pub sort: bool,
    /// What becomes of modification times.
    pub times: Times,
    /// Whether everything belongs to user and group 0.
    pub all_root: bool,
}

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
}

/// Reads the tree below the directory `root`; of directories on which something is mounted, given by
/// their paths from the root, only the directory itself.
///
/// Fails with `Source` for what cannot be read, and with `Cancelled` soon after `stop` is set.
pub fn scan(
    root: &[u8],
    mounts: &[Vec<u8>],
    rules: &ScanRules,
    stop: &AtomicBool,
) -> Result<Scanned> {
    let mut walk = Walk {
        root: SourceRoot::open(root)?,
        mounts: mounts.iter().map(Vec::as_slice).collect(),
        exclude: rules.exclude.iter().map(|glob| exclusion(glob)).collect(),
        xattrs: XattrReader::new(root, rules),
        rules,
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
    })
}

/// Returns whether a pattern is one of paths, and the pattern.
fn exclusion(glob: &[u8]) -> (bool, Glob) {
    let is_slash = |byte: &u8| *byte == b'/';
    let start = glob.iter().take_while(|byte| is_slash(byte)).count();
    let rest = &glob[start..];
    let end = rest.len() - rest.iter().rev().take_while(|byte| is_slash(byte)).count();
    (glob.contains(&b'/'), Glob::new(&rest[..end]))
}

struct Walk<'a> {
    root: SourceRoot,
    mounts: HashSet<&'a [u8]>,
    exclude: Vec<(bool, Glob)>,
    xattrs: XattrReader,
    rules: &'a ScanRules,
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

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        let directory = self.open(b"")?;
        let stat = rustix::fs::fstat(&directory).map_err(|errno| source_error(b".", errno))?;
        self.last = 1;
        self.add(&directory, b"", b"", &stat, Kind::Dir)
            .map_err(|errno| source_error(b".", errno))?;
        drop(directory);
        let mut pending = vec![(0, Vec::new())];
        while let Some((row, path)) = pending.pop() {
            if !self.mounts.contains(path.as_slice()) {
                let above = pending.len();
                self.visit(row, path, &mut pending)?;
                pending[above..].reverse();
            }
        }
        Ok(())
    }

    /// Adds the entries of the directory in a row of the inodes, and appends its subdirectories to `pending`.
    fn visit(
        &mut self,
        row: usize,
        mut path: Vec<u8>,
        pending: &mut Vec<(usize, Vec<u8>)>,
    ) -> Result<()> {
        let directory = self.open(&path)?;
        let mut listing = std::mem::take(&mut self.listing);
        listing
            .read(&directory)
            .map_err(|errno| source_error(shown(&path), errno))?;
        let first = self.vector.entries.len();
        if !path.is_empty() {
            path.push(b'/');
        }
        let above = path.len();
        for name in listing.names() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            path.truncate(above);
            path.extend_from_slice(name);
            if self.is_excluded(name, &path) {
                continue;
            }
            let met = self
                .entry(&directory, name, &path)
                .map_err(|errno| source_error(&path, errno))?;
            if let Some(row) = met {
                pending.push((row, path.clone()));
            }
        }
        let count = self.vector.entries.len() - first;
        let inode = &mut self.vector.inodes[row];
        (inode.first, inode.count) = (first as u64, count as u64);
        self.listing = listing;
        Ok(())
    }

    /// Adds an entry and, unless it is a further name, its inode; returns the row of a directory.
    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> rustix::io::Result<Option<usize>> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = kind_of(&stat)?;
        if self.mounts.contains(path) {
            self.crossings.push(path.to_vec());
            if kind != Kind::Dir {
                return Ok(None);
            }
        }
        self.last += 1;
        let ino = if kind != Kind::Dir && stat.st_nlink > 1 {
            let identity = (stat.st_dev, stat.st_ino);
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
        if ino == self.last {
            self.add(directory, name, path, &stat, kind)?;
        }
        Ok((kind == Kind::Dir).then(|| self.vector.inodes.len() - 1))
    }

    /// Adds the inode that has the last number.
    fn add(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        kind: Kind,
    ) -> rustix::io::Result<()> {
        let (xattr_first, xattr_count) =
            self.xattrs
                .read(directory.as_fd(), name, path, &mut self.vector)?;
        let link_offset = self.vector.heap.len();
        if kind == Kind::Lnk {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
            self.vector.heap.extend_from_slice(target.to_bytes());
        }
        if kind == Kind::File {
            self.paths.extend_from_slice(path);
            self.paths.push(0);
            self.sources.push(source(stat));
        }
        let has_additional = xattr_count > 0 || kind == Kind::Lnk;
        self.vector.inodes.push(InodeRow {
            xattr_first,
            xattr_count,
            flags: if has_additional { HAS_ADDITIONAL } else { 0 },
            link_offset: link_offset as u64,
            link_length: (self.vector.heap.len() - link_offset) as u32,
            ..self.rules.describe(self.last, stat, kind)
        });
        Ok(())
    }

    fn is_excluded(&self, name: &[u8], path: &[u8]) -> bool {
        let matches =
            |(of_paths, glob): &(bool, Glob)| glob.matches(if *of_paths { path } else { name });
        self.exclude.iter().any(matches)
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd> {
        self.root
            .directory(path)
            .map_err(|errno| source_error(shown(path), errno))
    }
}

/// Returns the path by which errors name a directory.
fn shown(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

fn kind_of(stat: &Stat) -> rustix::io::Result<Kind> {
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::Chr,
        FileType::Directory => Kind::Dir,
        FileType::BlockDevice => Kind::Blk,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Lnk,
        FileType::Socket => Kind::Sock,
        FileType::Unknown => return Err(Errno::INVAL),
    })
}

fn source(stat: &Stat) -> SourceRow {
    SourceRow {
        size: stat.st_size as u64,
        device: stat.st_dev,
        inode: stat.st_ino,
        mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    }
}

impl ScanRules {
    /// Returns what the image says of an inode without content, attributes and link target.
    fn describe(&self, ino: u64, stat: &Stat, kind: Kind) -> InodeRow {
        let (first, count) = match kind {
            Kind::Chr | Kind::Blk => (major(stat.st_rdev).into(), minor(stat.st_rdev).into()),
            _ => (0, 0),
        };
        let (mtime_sec, mtime_nsec) = self.times.apply(stat);
        InodeRow {
            ino,
            kind: kind as u16,
            permissions: (stat.st_mode & PERMISSIONS) as u16,
            uid: if self.all_root { 0 } else { stat.st_uid },
            gid: if self.all_root { 0 } else { stat.st_gid },
            mtime_nsec,
            mtime_sec,
            first,
            count,
            ..InodeRow::default()
        }
    }
}

impl Times {
    /// Returns the image's seconds and nanoseconds.
    fn apply(self, stat: &Stat) -> (i64, u32) {
        let time = (stat.st_mtime, stat.st_mtime_nsec as u32);
        match self {
            Self::Keep => time,
            Self::AtMost(seconds) => time.min((seconds, 0)),
            Self::Exactly(seconds) => (seconds, 0),
        }
    }
}

/// The names of a directory, its memory used again for the next one.
#[derive(Default)]
struct Listing {
    buffer: Vec<MaybeUninit<u8>>,
    text: Vec<u8>,
    /// Where each name lies in the text, in order of the names.
    spans: Vec<(usize, usize)>,
}

impl Listing {
    fn read(&mut self, directory: &OwnedFd) -> rustix::io::Result<()> {
        self.buffer.resize(LISTING, MaybeUninit::uninit());
        self.text.clear();
        self.spans.clear();
        let mut entries = RawDir::new(directory, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let start = self.text.len();
                self.text.extend_from_slice(name);
                self.spans.push((start, self.text.len()));
            }
        }
        let text = &self.text;
        self.spans
            .sort_unstable_by(|one, other| text[one.0..one.1].cmp(&text[other.0..other.1]));
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.spans
            .iter()
            .map(|(start, end)| &self.text[*start..*end])
    }
}
