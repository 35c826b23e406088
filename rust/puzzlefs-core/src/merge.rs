//! Layers to one tree: the uppermost inode of each number, visited from the root.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Result, Rule};
use crate::metadata::Kind;
use crate::tables::{EntryRow, Vector};

/// Number of the root directory.
const ROOT: u64 = 1;

/// An inode of the merged tree.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    pub(crate) ino: u64,
    /// Number of a directory's parent.
    pub(crate) parent: u64,
    /// Row of the layer's inodes.
    pub(crate) row: u32,
    /// 2 and the subdirectories of a directory, entries of any other inode; 0 while not reached.
    pub(crate) links: u32,
    pub(crate) layer: u16,
    pub(crate) kind: Kind,
}

/// Returns the inodes that the root reaches, ascending by number, and the highest number in any layer.
///
/// In each directory's rows of entries, the visible ones come first and in order of name; the
/// inode's `count` is theirs.
pub(crate) fn merge(layers: &mut [Vector]) -> Result<(Vec<Node>, u64)> {
    let mut nodes = uppermost(layers);
    let highest_ino = nodes.last().map_or(0, |node| node.ino);
    let mut walk = Walk {
        layers,
        nodes: &mut nodes,
    };
    walk.run()?;
    nodes.retain(|node| node.links > 0);
    Ok((nodes, highest_ino))
}

/// Returns the row of a number in a table that ascends by number.
pub(crate) fn position(nodes: &[Node], ino: u64) -> Option<usize> {
    // Most images number their inodes without a gap.
    let guess = usize::try_from(ino).ok()?.checked_sub(1)?;
    if nodes.get(guess).is_some_and(|node| node.ino == ino) {
        return Some(guess);
    }
    nodes.binary_search_by_key(&ino, |node| node.ino).ok()
}

/// Returns, for each number, the inode of the uppermost layer that has it, whiteouts included.
fn uppermost(layers: &[Vector]) -> Vec<Node> {
    let mut nodes = Vec::with_capacity(layers.iter().map(|vector| vector.inodes.len()).sum());
    for (layer, vector) in layers.iter().enumerate() {
        nodes.extend(vector.inodes.iter().enumerate().map(|(row, inode)| Node {
            ino: inode.ino,
            parent: ROOT,
            // A blob has at most 4,096 layers, and less than 2^27 words.
            row: row as u32,
            links: 0,
            layer: layer as u16,
            kind: Kind::from_tag(inode.kind).unwrap_or(Kind::Wht),
        }));
    }
    // Stable: of equal numbers, the uppermost layer's stays first.
    nodes.sort_by_key(|node| node.ino);
    nodes.dedup_by_key(|node| node.ino);
    nodes
}

/// Visits the directories breadth first from the root.
struct Walk<'a> {
    layers: &'a mut [Vector],
    nodes: &'a mut [Node],
}

impl Walk<'_> {
    /// Fills parents and links, and puts each directory's visible entries in order of name.
    fn run(&mut self) -> Result<()> {
        let root = position(self.nodes, ROOT).filter(|&at| self.nodes[at].kind == Kind::Dir);
        let root = root.ok_or(Rule::NoRootDirectory)?;
        self.nodes[root].links = 2;
        let mut queue = vec![root];
        let mut next = 0;
        while let Some(&directory) = queue.get(next) {
            self.visit(directory, &mut queue)?;
            next += 1;
        }
        Ok(())
    }

    fn visit(&mut self, directory: usize, queue: &mut Vec<usize>) -> Result<()> {
        let Node {
            ino, layer, row, ..
        } = self.nodes[directory];
        let Vector {
            inodes,
            entries,
            heap,
            ..
        } = &mut self.layers[usize::from(layer)];
        let inode = &mut inodes[row as usize];
        let (first, count) = (inode.first as usize, inode.count as usize);
        let entries = entries.get_mut(first..first + count).unwrap_or(&mut []);
        let mut kept = 0;
        for at in 0..entries.len() {
            let entry = entries[at];
            let child = position(self.nodes, entry.ino).ok_or(Rule::EntryOfMissingInode)?;
            if !reach(&mut self.nodes[child], ino)? {
                continue;
            }
            if self.nodes[child].kind == Kind::Dir {
                self.nodes[directory].links += 1;
                queue.push(child);
            }
            entries[kept] = entry;
            kept += 1;
        }
        inode.count = kept as u64;
        sort_by_name(&mut entries[..kept], heap)
    }
}

/// Notes an entry of `parent` that leads to `node`; says whether it is visible.
fn reach(node: &mut Node, parent: u64) -> Result<bool> {
    match node.kind {
        Kind::Wht => return Ok(false),
        Kind::Dir if node.links > 0 => return Err(Rule::DirectoryWithTwoParents.into()),
        Kind::Dir => {
            node.links = 2;
            node.parent = parent;
        }
        _ => node.links += 1,
    }
    Ok(true)
}

/// Puts entries in order of name; each name may stand once.
fn sort_by_name(entries: &mut [EntryRow], heap: &[u8]) -> Result<()> {
    let name = |entry: &EntryRow| {
        let start = entry.name_offset as usize;
        heap.get(start..start + entry.name_length as usize)
            .unwrap_or(&[])
    };
    entries.sort_by(|one, other| name(one).cmp(name(other)));
    if entries
        .windows(2)
        .any(|pair| name(&pair[0]) == name(&pair[1]))
    {
        return Err(Rule::DuplicateName.into());
    }
    Ok(())
}
