//! The extended attributes of a scanned tree.

use std::os::fd::AsRawFd as _;

use puzzlefs_core::tables::{Vector, XattrRow};
use rustix::io::Errno;

use crate::glob::Glob;
use crate::listing::Place;
use crate::scan_rules::ScanRules;
use crate::snapshot::Properties;

/// The most bytes that the kernel gives for a list of keys, and for a value.
const LIMIT: usize = 64 << 10;
/// Bytes of a path that one system call takes, with the final NUL.
const PATH_MAX: usize = 4096;

/// Reads attributes into tables.
pub(crate) struct XattrReader {
    /// The root directory and a slash; while a path is looked at, the path too.
    full: Vec<u8>,
    root: usize,
    keep: Vec<Glob>,
    drop: Vec<Glob>,
    sort: bool,
    keys: Vec<u8>,
    value: Vec<u8>,
}

impl XattrReader {
    pub(crate) fn new(root: &[u8], rules: &ScanRules) -> Self {
        let globs = |patterns: &[Vec<u8>]| patterns.iter().map(|glob| Glob::new(glob)).collect();
        let full = [root, b"/"].concat();
        Self {
            root: full.len(),
            full,
            keep: globs(&rules.keep),
            drop: globs(&rules.drop),
            sort: rules.sort,
            keys: vec![0; LIMIT],
            value: vec![0; LIMIT],
        }
    }

    /// Appends the attributes of an entry of an open directory, unless `has_any` says that it has none;
    /// returns their first row and number.
    pub(crate) fn read(
        &mut self,
        place: &mut Place<'_>,
        name: &[u8],
        path: &[u8],
        has_any: Option<bool>,
        vector: &mut Vector,
    ) -> rustix::io::Result<(u64, u32)> {
        if !has_any.map_or_else(|| self.has_any(path), Ok)? {
            return Ok((0, 0));
        }
        let directory = place.directory()?;
        // By now a directory on the way could be a link to elsewhere; what was opened is what it was.
        let safe = [
            format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(),
            name,
        ]
        .concat();
        let length = listed(rustix::fs::llistxattr(&*safe, &mut *self.keys))?;
        let matches = |globs: &[Glob], key: &[u8]| globs.iter().any(|glob| glob.matches(key));
        let keys = self.keys[..length].split(|&byte| byte == 0);
        let kept =
            |key: &&[u8]| !key.is_empty() && matches(&self.keep, key) && !matches(&self.drop, key);
        let mut keys: Vec<&[u8]> = keys.filter(kept).collect();
        if self.sort {
            keys.sort_unstable();
        }
        let first = vector.xattrs.len();
        for key in keys {
            let length = rustix::fs::lgetxattr(&*safe, key, &mut *self.value)?;
            push(vector, key, &self.value[..length]);
        }
        Ok(rows_from(first, vector))
    }

    /// Tells whether a path has attributes of any kind, if any are taken; most have none, and this is the
    /// shortest way to see it.
    pub(crate) fn has_any(&mut self, path: &[u8]) -> rustix::io::Result<bool> {
        if self.keep.is_empty() {
            return Ok(false);
        }
        if self.root + path.len() >= PATH_MAX {
            return Ok(true);
        }
        self.full.truncate(self.root);
        self.full.extend_from_slice(path);
        // For a buffer the kernel would first allocate as much itself.
        Ok(listed(rustix::fs::llistxattr_query(&*self.full))? > 0)
    }
}

/// Appends the attributes that a snapshot tells; returns their first row and number.
pub(crate) fn copy_xattrs(known: &Properties<'_>, vector: &mut Vector) -> (u64, u32) {
    let first = vector.xattrs.len();
    for (key, value) in known.xattrs() {
        push(vector, key, value);
    }
    rows_from(first, vector)
}

fn push(vector: &mut Vector, key: &[u8], value: &[u8]) {
    let offset = vector.heap.len() as u64;
    vector.heap.extend_from_slice(key);
    vector.heap.extend_from_slice(value);
    vector.xattrs.push(XattrRow {
        key_offset: offset,
        value_offset: offset + key.len() as u64,
        key_length: key.len() as u32,
        value_length: value.len() as u32,
    });
}

fn rows_from(first: usize, vector: &Vector) -> (u64, u32) {
    let count = vector.xattrs.len() - first;
    (if count > 0 { first as u64 } else { 0 }, count as u32)
}

/// Takes a filesystem without attributes for one where no file has any.
fn listed(result: rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    match result {
        Err(Errno::NOTSUP | Errno::NODATA) => Ok(0),
        other => other,
    }
}
