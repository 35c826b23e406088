//! Numbers of a tree upon a base, and what of it the base does not show already.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Error, Result, Unsupported};
use crate::index::Index;
use crate::metadata::Kind;
use crate::tables::{EntryRow, InodeRow, Vector, rows};

/// Number of the root directory.
const ROOT: u64 = 1;
/// Permissions that existing images give a whiteout.
const WHITEOUT_PERMISSIONS: u16 = 0o644;

const NO_INODE: Error = Error::Contradiction("an entry names no inode of the tree");
const TWO_PARENTS: Error = Error::Contradiction("a directory of the tree has two parents");
const UNREACHED: Error = Error::Contradiction("an inode of the tree is not reached");
const OUTSIDE: Error = Error::Contradiction("an inode selects rows outside its table");

/// A name of the base that the tree has not: (name, number).
type Hidden = (Vec<u8>, u64);

/// The numbers of a tree upon a base.
pub(crate) struct Numbering {
    /// For each row of the tree's inodes its number.
    numbers: Vec<u64>,
    /// The same, in order.
    used: BTreeSet<u64>,
    /// For rows of directories the names to hide, in order.
    hidden: Vec<(usize, Vec<Hidden>)>,
}

/// Numbers a tree in the order in which its directories are visited: depth first.
///
/// Every entry that the base has not takes a number, also one more name of a known inode, whose
/// number then stays unused: existing images count so.
pub(crate) fn number(tree: &Vector, base: &Index) -> Result<Numbering> {
    let root = row_of(tree, ROOT)?;
    let mut numberer = Numberer {
        tree,
        base,
        next: base.highest_ino(),
        numbering: Numbering {
            numbers: vec![0; tree.inodes.len()],
            used: BTreeSet::from([ROOT]),
            hidden: Vec::new(),
        },
        // Directories to visit: row in the tree, number in the base or 0.
        pending: vec![(root, ROOT)],
    };
    numberer.numbering.numbers[root] = ROOT;
    while let Some((row, below)) = numberer.pending.pop() {
        numberer.visit(row, below)?;
    }
    if numberer.numbering.numbers.contains(&0) {
        return Err(UNREACHED);
    }
    Ok(numberer.numbering)
}

struct Numberer<'a> {
    tree: &'a Vector,
    base: &'a Index,
    /// The highest number that is taken.
    next: u64,
    numbering: Numbering,
    pending: Vec<(usize, u64)>,
}

impl Numberer<'_> {
    fn visit(&mut self, directory: usize, below: u64) -> Result<()> {
        let inode = &self.tree.inodes[directory];
        let entries = rows(&self.tree.entries, inode.first, inode.count).ok_or(OUTSIDE)?;
        let known: Vec<(&[u8], u64)> = match below {
            0 => Vec::new(),
            _ => self.base.entries(below, 0, usize::MAX)?.collect(),
        };
        let mut is_hidden = vec![true; known.len()];
        let above = self.pending.len();
        for entry in entries {
            let name = name_of(self.tree, entry);
            let place = known.binary_search_by(|(known, _)| (*known).cmp(name)).ok();
            if let Some(place) = place {
                is_hidden[place] = false;
            }
            self.entry(entry, place.map_or(0, |place| known[place].1))?;
        }
        self.pending[above..].reverse();
        let hidden = known.iter().zip(is_hidden).filter(|(_, hidden)| *hidden);
        let hidden: Vec<Hidden> = hidden
            .map(|((name, ino), _)| (name.to_vec(), *ino))
            .collect();
        if !hidden.is_empty() {
            self.numbering.hidden.push((directory, hidden));
        }
        Ok(())
    }

    /// Numbers the inode of an entry that the base, if it has the path, calls `there`.
    fn entry(&mut self, entry: &EntryRow, there: u64) -> Result<()> {
        let row = row_of(self.tree, entry.ino)?;
        let is_new = self.numbering.numbers[row] == 0;
        let is_taken = there == 0 || (is_new && self.numbering.used.contains(&there));
        let number = if is_taken { self.take()? } else { there };
        if is_new {
            self.numbering.numbers[row] = number;
            self.numbering.used.insert(number);
        }
        if self.tree.inodes[row].kind == Kind::Dir as u16 {
            if !is_new {
                return Err(TWO_PARENTS);
            }
            let is_directory = there != 0 && self.base.stat(there)?.kind == Kind::Dir;
            self.pending
                .push((row, if is_directory { there } else { 0 }));
        }
        Ok(())
    }

    fn take(&mut self) -> Result<u64> {
        let next = self.next.checked_add(1);
        self.next = next.ok_or(Error::Unsupported(Unsupported::NoNumbersLeft))?;
        Ok(self.next)
    }
}

impl Numbering {
    /// Gives the tree its numbers; the rows stay in their order.
    pub(crate) fn apply(&self, tree: &mut Vector) -> Result<()> {
        for at in 0..tree.entries.len() {
            tree.entries[at].ino = self.numbers[row_of(tree, tree.entries[at].ino)?];
        }
        for (inode, number) in tree.inodes.iter_mut().zip(&self.numbers) {
            inode.ino = *number;
        }
        Ok(())
    }

    /// Adds a whiteout for each name of the base that the tree has not, listed before its directory's
    /// other entries. A name whose number lives on under another name needs none: it is not listed.
    pub(crate) fn hide_names(&self, tree: &mut Vector) {
        let mut gone = BTreeSet::new();
        for (row, names) in &self.hidden {
            let names = names.iter().filter(|(_, ino)| !self.used.contains(ino));
            let inode = tree.inodes[*row];
            let first = tree.entries.len();
            for (name, ino) in names {
                gone.insert(*ino);
                tree.entries.push(EntryRow {
                    ino: *ino,
                    name_offset: tree.heap.len() as u64,
                    name_length: name.len() as u32,
                    reserved: 0,
                });
                tree.heap.extend_from_slice(name);
            }
            let count = tree.entries.len() - first;
            if count > 0 {
                let start = inode.first as usize;
                tree.entries
                    .extend_from_within(start..start + inode.count as usize);
                let inode = &mut tree.inodes[*row];
                (inode.first, inode.count) = (first as u64, inode.count + count as u64);
            }
        }
        tree.inodes.extend(gone.into_iter().map(whiteout));
    }

    /// Adds a whiteout for each number that the base shows and the tree does not use.
    pub(crate) fn hide_unused(&self, tree: &mut Vector, base: &Index) {
        let unused = base.inodes().filter(|ino| !self.used.contains(ino));
        tree.inodes.extend(unused.map(whiteout));
    }
}

/// Drops the inodes that the base shows just so.
pub(crate) fn keep_changed(tree: &mut Vector, base: &Index) {
    let inodes = core::mem::take(&mut tree.inodes);
    let changed = inodes
        .into_iter()
        .filter(|inode| !is_shown(tree, inode, base).unwrap_or(false));
    tree.inodes = changed.collect();
}

/// Tells whether the base shows an inode with all that the tree says of it.
fn is_shown(tree: &Vector, inode: &InodeRow, base: &Index) -> Result<bool> {
    let stat = base.stat(inode.ino)?;
    if stat.kind as u16 != inode.kind
        || (stat.permissions, stat.uid, stat.gid) != (inode.permissions, inode.uid, inode.gid)
        || (stat.mtime_sec, stat.mtime_nsec) != (inode.mtime_sec, inode.mtime_nsec)
    {
        return Ok(false);
    }
    let count = u64::from(inode.xattr_count);
    let xattrs = rows(&tree.xattrs, inode.xattr_first, count).ok_or(OUTSIDE)?;
    let xattrs = xattrs.iter().map(|row| {
        let key = tree.text(row.key_offset, row.key_length);
        let value = tree.text(row.value_offset, row.value_length);
        (key.unwrap_or(&[]), value.unwrap_or(&[]))
    });
    if !base.xattrs(inode.ino)?.eq(xattrs) {
        return Ok(false);
    }
    Ok(match stat.kind {
        Kind::Chr | Kind::Blk => (stat.major, stat.minor) == (inode.first, inode.count),
        Kind::Lnk => {
            tree.text(inode.link_offset, inode.link_length) == Some(base.symlink(inode.ino)?)
        }
        Kind::File => rows(&tree.chunks, inode.first, inode.count) == Some(base.chunks(inode.ino)?),
        Kind::Dir => {
            let entries = rows(&tree.entries, inode.first, inode.count).ok_or(OUTSIDE)?;
            let entries = entries
                .iter()
                .map(|entry| (name_of(tree, entry), entry.ino));
            base.entries(inode.ino, 0, usize::MAX)?.eq(entries)
        }
        Kind::Fifo | Kind::Sock | Kind::Wht => true,
    })
}

/// Returns the inode that hides a number.
fn whiteout(ino: u64) -> InodeRow {
    InodeRow {
        ino,
        kind: Kind::Wht as u16,
        permissions: WHITEOUT_PERMISSIONS,
        ..InodeRow::default()
    }
}

/// Returns the row of a number among inodes that ascend by number.
fn row_of(tree: &Vector, ino: u64) -> Result<usize> {
    // Few numbers are left out before it.
    let inodes = &tree.inodes;
    let end = inodes.len().min(usize::try_from(ino).unwrap_or(usize::MAX));
    let found = inodes[..end].binary_search_by_key(&ino, |inode| inode.ino);
    found.map_err(|_| NO_INODE)
}

fn name_of<'v>(tree: &'v Vector, entry: &EntryRow) -> &'v [u8] {
    tree.text(entry.name_offset, entry.name_length)
        .unwrap_or(&[])
}
