//! The directories of a tree that is being unpacked, reached by descriptors alone.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Result;

use crate::extract_plan::Plan;
use crate::lru::Lru;

/// A directory, never a link to one.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Directories of a plan, those used last kept open.
pub(crate) struct Places<'a> {
    plan: &'a Plan<'a>,
    root: Arc<OwnedFd>,
    open: Lru<u32, Arc<OwnedFd>>,
}

impl<'a> Places<'a> {
    /// Takes the directory that is the plan's root; keeps up to `kept` others open.
    pub(crate) fn new(plan: &'a Plan<'a>, root: BorrowedFd<'_>, kept: usize) -> Result<Self> {
        Ok(Self {
            plan,
            root: Arc::new(rustix::io::fcntl_dupfd_cloexec(root, 0)?),
            open: Lru::new(kept),
        })
    }

    /// Opens a directory made before, from the nearest one that is open, following no link.
    pub(crate) fn open(&mut self, directory: u32) -> Result<Arc<OwnedFd>> {
        let mut missing = Vec::new();
        let mut at = directory;
        let mut place = loop {
            if at == 0 {
                break Arc::clone(&self.root);
            }
            if let Some(place) = self.open.get(at) {
                break place;
            }
            missing.push(at);
            at = self.plan.directories[at as usize].parent;
        };
        for &at in missing.iter().rev() {
            let name = self.plan.directories[at as usize].name;
            place = Arc::new(rustix::fs::openat(&place, name, DIRECTORY, Mode::empty())?);
            drop(self.open.insert(at, Arc::clone(&place), 1));
        }
        Ok(place)
    }

    /// Makes a directory, open to its owner alone.
    pub(crate) fn make(&mut self, directory: u32) -> Result<()> {
        let made = &self.plan.directories[directory as usize];
        let above = self.open(made.parent)?;
        rustix::fs::mkdirat(above, made.name, Mode::RWXU)
    }

    /// Gives a file another name.
    pub(crate) fn link(&mut self, from: (u32, &[u8]), to: (u32, &[u8])) -> Result<()> {
        let (source, target) = (self.open(from.0)?, self.open(to.0)?);
        rustix::fs::linkat(source, from.1, target, to.1, AtFlags::empty())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::extract_plan::Directory;

    /// Directories `a`, `a/b` and `a/b/c`.
    fn plan() -> Plan<'static> {
        let rows: [(&[u8], u32); 4] = [(b"", 0), (b"a", 0), (b"b", 1), (b"c", 2)];
        let directory = |(depth, &(name, parent)): (usize, &(&'static [u8], u32))| Directory {
            ino: depth as u64 + 1,
            parent,
            name,
            depth: depth as u32,
        };
        Plan {
            directories: rows.iter().enumerate().map(directory).collect(),
            inodes: Vec::new(),
            links: Vec::new(),
        }
    }

    #[test]
    fn directories_are_made_and_opened_however_few_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let root = fs::File::open(home.path()).unwrap();
        let plan = plan();
        let mut places = Places::new(&plan, root.as_fd(), 1).unwrap();
        for row in 1..4 {
            places.make(row).unwrap();
        }
        for row in [3, 1, 2, 3, 0] {
            places.open(row).unwrap();
        }
        assert!(home.path().join("a/b/c").is_dir());
    }

    #[test]
    fn a_directory_that_became_a_link_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let root = fs::File::open(home.path()).unwrap();
        fs::create_dir_all(home.path().join("victim/b")).unwrap();
        symlink("victim", home.path().join("a")).unwrap();
        let plan = plan();
        let mut places = Places::new(&plan, root.as_fd(), 8).unwrap();
        assert!(places.open(1).is_err());
        assert!(places.open(2).is_err());
        assert!(places.make(3).is_err());
        assert!(!home.path().join("victim/b/c").exists());
    }
}
