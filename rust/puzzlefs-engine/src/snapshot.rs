//! What a scan leaves for the next one of the same tree: its *snapshot*.
//!
//! Little-endian, without padding: the eight bytes `PZSCAN01`, SHA-256 of the rules, the root as an entry
//! without a name, u32 number of directories; then each in order of the visit: u32 length of its path,
//! the path, u32 number of entries, and these by name. An entry is its identity (16 bytes), u8 flags,
//! u8 length of its name, the name; with [`LINK`] u16 length of a target and the target; with [`XATTRS`] u16 number of
//! attributes, and each: u8 length of the key, u32 length of the value, key, value.

use std::collections::HashMap;
use std::ops::Range;

use puzzlefs_core::Digest;

use crate::status::{Identity, UNKNOWN};

const MAGIC: &[u8; 8] = b"PZSCAN01";
/// The inode's other properties stand here, not at another of its names.
const HERE: u8 = 1;
const LINK: u8 = 2;
const XATTRS: u8 = 4;
/// Trees with more entries leave no snapshot: it would need too much memory.
const ENTRY_LIMIT: usize = 1 << 18;

/// An entry of a directory.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its identity, or [`UNKNOWN`].
    pub identity: Identity,
    name: Range<usize>,
    flags: u8,
    link: Range<usize>,
    xattrs: Range<usize>,
}

/// A directory.
#[derive(Clone, Debug)]
pub struct Directory {
    path: Range<usize>,
    /// Its entries among those of all.
    pub entries: Range<usize>,
}

/// The snapshot of a tree.
#[derive(Clone, Debug)]
pub struct Snapshot {
    bytes: Vec<u8>,
    /// SHA-256 of the rules by which it was made.
    pub rules: Digest,
    /// The entries, the first of them the root.
    pub entries: Vec<Known>,
    /// The directories that were listed.
    pub directories: Vec<Directory>,
}

impl Snapshot {
    /// Reads a snapshot, `None` for anything else.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Cursor { bytes, at: 0 };
        let magic = from.take(MAGIC.len())?;
        if bytes[magic] != *MAGIC {
            return None;
        }
        let rules = from.take(32)?;
        let rules = bytes[rules].first_chunk::<32>()?;
        let mut entries = vec![from.entry()?];
        let mut directories = Vec::new();
        for _ in 0..from.number(4)? {
            let length = from.number(4)?;
            let path = from.take(length)?;
            let first = entries.len();
            for _ in 0..from.number(4)? {
                let entry = from.entry()?;
                let name = &bytes[entry.name.clone()];
                let last = entries[first..].last();
                let ascends = last.is_none_or(|last: &Known| &bytes[last.name.clone()] < name);
                if !ascends || !is_name(name) {
                    return None;
                }
                entries.push(entry);
            }
            let entries = first..entries.len();
            directories.push(Directory { path, entries });
        }
        (from.at == bytes.len()).then(|| Self {
            bytes: bytes.to_vec(),
            rules: *rules,
            entries,
            directories,
        })
    }

    /// Returns an entry's name.
    pub fn name(&self, entry: &Known) -> &[u8] {
        &self.bytes[entry.name.clone()]
    }

    /// Returns a directory's path from the root.
    pub fn path(&self, directory: &Directory) -> &[u8] {
        &self.bytes[directory.path.clone()]
    }

    /// Returns the directories by their paths.
    pub fn by_path(&self) -> HashMap<&[u8], &Directory> {
        let directories = self.directories.iter();
        directories
            .map(|directory| (self.path(directory), directory))
            .collect()
    }

    /// Returns the number of the entry with a name among those of a directory.
    pub fn find(&self, directory: &Directory, name: &[u8]) -> Option<usize> {
        let entries = &self.entries[directory.entries.clone()];
        let found = entries.binary_search_by(|entry| self.name(entry).cmp(name));
        found.ok().map(|place| directory.entries.start + place)
    }

    /// Returns the target of a link, and the attributes as the snapshot has them, where they stand at this entry.
    pub fn properties(&self, entry: &Known) -> Option<Properties<'_>> {
        (entry.flags & HERE != 0).then(|| Properties {
            link: &self.bytes[entry.link.clone()],
            xattrs: &self.bytes[entry.xattrs.clone()],
        })
    }
}

/// What is not in an inode's [`Status`](crate::status::Status).
pub struct Properties<'a> {
    /// The target of a link.
    pub link: &'a [u8],
    xattrs: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Yields the keys and values of its attributes.
    pub fn xattrs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let bytes = self.xattrs;
        let mut from = Cursor { bytes, at: 0 };
        std::iter::from_fn(move || {
            let (key, value) = from.xattr()?;
            Some((&bytes[key], &bytes[value]))
        })
    }
}

fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// Reads bytes from their start; `None` is said of what is not there.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, count: usize) -> Option<Range<usize>> {
        let range = self.at..self.at.checked_add(count)?;
        self.bytes.get(range.clone())?;
        self.at = range.end;
        Some(range)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        let range = self.take(width)?;
        let bytes = self.bytes[range].iter().rev();
        Some(bytes.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn xattr(&mut self) -> Option<(Range<usize>, Range<usize>)> {
        let (key, value) = (self.number(1)?, self.number(4)?);
        Some((self.take(key)?, self.take(value)?))
    }

    fn entry(&mut self) -> Option<Known> {
        let range = self.take(UNKNOWN.len())?;
        let mut identity = UNKNOWN;
        identity.copy_from_slice(&self.bytes[range]);
        let flags = self.number(1)? as u8;
        let length = self.number(1)?;
        let name = self.take(length)?;
        let (mut link, mut xattrs) = (0..0, 0..0);
        if flags & LINK != 0 {
            let length = self.number(2)?;
            link = self.take(length)?;
        }
        if flags & XATTRS != 0 {
            let count = self.number(2)?;
            let start = self.at;
            for _ in 0..count {
                self.xattr()?;
            }
            xattrs = start..self.at;
        }
        Some(Known {
            identity,
            name,
            flags,
            link,
            xattrs,
        })
    }
}

/// Writes a snapshot while a tree is scanned.
pub struct SnapshotWriter {
    bytes: Vec<u8>,
    /// Entries so far.
    count: usize,
    directories: u32,
    /// Where the number of directories stands, and that of the entries of the last one.
    places: (usize, usize),
    in_directory: u32,
}

impl SnapshotWriter {
    /// Begins a snapshot; the root is its first entry.
    pub fn new(rules: &Digest) -> Self {
        let bytes = [MAGIC.as_slice(), rules].concat();
        Self {
            bytes,
            count: 0,
            directories: 0,
            places: (0, 0),
            in_directory: 0,
        }
    }

    /// Ends the root's entry.
    pub fn end_root(&mut self) {
        self.places.0 = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
    }

    /// Begins a directory's entries.
    pub fn directory(&mut self, path: &[u8]) {
        self.end_directory();
        if self.is_too_long() {
            return;
        }
        self.directories += 1;
        self.bytes
            .extend_from_slice(&(path.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(path);
        self.places.1 = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
    }

    fn end_directory(&mut self) {
        if self.directories > 0 && !self.is_too_long() {
            let count = std::mem::take(&mut self.in_directory);
            put(&mut self.bytes, self.places.1, count);
        }
    }

    /// Adds an entry; with `properties`, those of the inode stand here.
    pub fn entry<'a>(
        &mut self,
        identity: &Identity,
        name: &[u8],
        properties: Option<(&[u8], impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>)>,
    ) {
        self.count += 1;
        self.in_directory += u32::from(self.directories > 0);
        if self.is_too_long() {
            self.bytes = Vec::new();
            return;
        }
        self.bytes.extend_from_slice(identity);
        let Some((link, xattrs)) = properties else {
            self.bytes.extend_from_slice(&[0, name.len() as u8]);
            self.bytes.extend_from_slice(name);
            return;
        };
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = HERE | flag(!link.is_empty(), LINK) | flag(xattrs.len() > 0, XATTRS);
        self.bytes.extend_from_slice(&[flags, name.len() as u8]);
        self.bytes.extend_from_slice(name);
        if flags & LINK != 0 {
            self.bytes
                .extend_from_slice(&(link.len() as u16).to_le_bytes());
            self.bytes.extend_from_slice(link);
        }
        if flags & XATTRS != 0 {
            self.bytes
                .extend_from_slice(&(xattrs.len() as u16).to_le_bytes());
        }
        for (key, value) in xattrs {
            self.bytes.push(key.len() as u8);
            self.bytes
                .extend_from_slice(&(value.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(key);
            self.bytes.extend_from_slice(value);
        }
    }

    fn is_too_long(&self) -> bool {
        self.count > ENTRY_LIMIT
    }

    /// Returns the snapshot, empty where there would be too much in it.
    pub fn finish(mut self) -> Vec<u8> {
        if self.is_too_long() {
            return Vec::new();
        }
        self.end_directory();
        put(&mut self.bytes, self.places.0, self.directories);
        self.bytes
    }
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}
