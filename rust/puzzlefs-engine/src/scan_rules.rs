//! What of a tree is scanned, and what is said of it.

use puzzlefs_core::Digest;
use puzzlefs_core::digest::Sha256;
use puzzlefs_core::metadata::Kind;
use puzzlefs_core::tables::InodeRow;
use rustix::fs::{major, minor};

use crate::glob::Glob;
use crate::status::Status;

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

/// Patterns of what is left out, each with whether it is one of paths.
pub(crate) struct Exclusions(Vec<(bool, Glob)>);

impl Exclusions {
    pub(crate) fn new(globs: &[Vec<u8>]) -> Self {
        Self(globs.iter().map(|glob| exclusion(glob)).collect())
    }

    /// Tells whether an entry is left out.
    pub(crate) fn has(&self, name: &[u8], path: &[u8]) -> bool {
        let matches =
            |(of_paths, glob): &(bool, Glob)| glob.matches(if *of_paths { path } else { name });
        self.0.iter().any(matches)
    }
}

fn exclusion(glob: &[u8]) -> (bool, Glob) {
    let is_slash = |byte: &u8| *byte == b'/';
    let start = glob.iter().take_while(|byte| is_slash(byte)).count();
    let rest = &glob[start..];
    let end = rest.len() - rest.iter().rev().take_while(|byte| is_slash(byte)).count();
    (glob.contains(&b'/'), Glob::new(&rest[..end]))
}

impl ScanRules {
    /// Returns what names the rules by which entries and attributes are taken, and where something is mounted.
    pub(crate) fn digest(&self, mounts: &[Vec<u8>]) -> Digest {
        let mut hasher = Sha256::new();
        for list in [&self.exclude, &self.keep, &self.drop, mounts] {
            hasher.update(&(list.len() as u32).to_le_bytes());
            for text in list {
                hasher.update(&(text.len() as u32).to_le_bytes());
                hasher.update(text);
            }
        }
        hasher.update(&[self.sort.into()]);
        hasher.finish()
    }

    /// Returns what the image says of an inode without content, attributes and link target.
    pub(crate) fn describe(&self, ino: u64, status: &Status, kind: Kind) -> InodeRow {
        let (first, count) = match kind {
            Kind::Chr | Kind::Blk => (major(status.special).into(), minor(status.special).into()),
            _ => (0, 0),
        };
        let (mtime_sec, mtime_nsec) = self.times.apply(status);
        InodeRow {
            ino,
            kind: kind as u16,
            permissions: (status.mode & PERMISSIONS) as u16,
            uid: if self.all_root { 0 } else { status.uid },
            gid: if self.all_root { 0 } else { status.gid },
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
    fn apply(self, status: &Status) -> (i64, u32) {
        let time = status.mtime;
        match self {
            Self::Keep => time,
            Self::AtMost(seconds) => time.min((seconds, 0)),
            Self::Exactly(seconds) => (seconds, 0),
        }
    }
}
