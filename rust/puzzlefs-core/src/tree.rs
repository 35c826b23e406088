//! A directory tree as one layer, on its way into an image: its files get their chunks, its inodes
//! their numbers upon a base.

use alloc::vec::Vec;

use crate::delta;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::metadata::Kind;
use crate::tables::{ChunkRow, InodeRow, Vector};

/// A directory tree as the tables of one layer: every inode that the root reaches and no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    vector: Vector,
}

impl Tree {
    /// Takes the tables; what is wrong with them shows when they are used.
    pub fn new(vector: Vector) -> Self {
        Self { vector }
    }

    /// Returns how many inodes there are.
    pub fn inode_count(&self) -> usize {
        self.vector.inodes.len()
    }

    /// Returns the tables.
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// Returns the tables and ends the tree.
    pub fn into_vector(self) -> Vector {
        self.vector
    }

    /// Gives the files their chunks, in ascending order of inode number.
    ///
    /// `counts` says how many of the chunks each file has; `digests` the row of the image's digest
    /// table for each blob that the chunks name.
    pub fn set_chunks(
        &mut self,
        chunks: Vec<ChunkRow>,
        counts: &[u32],
        digests: &[u32],
    ) -> Result<()> {
        let differ = Error::Contradiction("chunks and files differ in number");
        self.vector.chunks = chunks;
        for chunk in &mut self.vector.chunks {
            let row = digests.get(chunk.blob as usize);
            chunk.blob = *row.ok_or(Error::Contradiction("a chunk names no blob"))?;
        }
        let is_file = |inode: &&mut InodeRow| inode.kind == Kind::File as u16;
        let mut files = self.vector.inodes.iter_mut().filter(is_file);
        let mut first = 0;
        for &count in counts {
            let inode = files.next().ok_or(differ.clone())?;
            (inode.first, inode.count) = (first, u64::from(count));
            first += u64::from(count);
        }
        if files.next().is_some() || first != self.vector.chunks.len() as u64 {
            return Err(differ);
        }
        Ok(())
    }

    /// Numbers the inodes so that the layer turns the base into this tree.
    ///
    /// A path that the base has keeps its number, unless that went to another inode of the tree (a
    /// hard link that was split); anything else gets the next number after the base's highest. With
    /// `whole` all inodes stay, as the original writes a delta; otherwise those that the base does
    /// not show so already. The chunks name rows of the base's digest table, continued.
    pub fn rebase(&mut self, base: &Index, whole: bool) -> Result<()> {
        let numbering = delta::number(&self.vector, base)?;
        numbering.apply(&mut self.vector)?;
        if whole {
            numbering.hide_names(&mut self.vector);
        } else {
            delta::keep_changed(&mut self.vector, base);
            numbering.hide_unused(&mut self.vector, base);
        }
        self.vector.inodes.sort_unstable_by_key(|inode| inode.ino);
        Ok(())
    }
}
