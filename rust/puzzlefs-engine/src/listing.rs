//! A directory while it is visited: opened when that is needed, its names in order.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::RawDir;

use crate::source::SourceRoot;

/// Bytes of directory entries that one system call gives.
const LISTING: usize = 256 << 10;

/// A directory of the tree, opened when it is first asked for.
pub(crate) struct Place<'a> {
    root: &'a SourceRoot,
    path: &'a [u8],
    opened: Option<OwnedFd>,
}

impl<'a> Place<'a> {
    pub(crate) fn new(root: &'a SourceRoot, path: &'a [u8]) -> Self {
        Self {
            root,
            path,
            opened: None,
        }
    }

    pub(crate) fn directory(&mut self) -> rustix::io::Result<&OwnedFd> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.root.directory(self.path)?,
        };
        Ok(self.opened.insert(opened))
    }
}

/// The names of a directory, its memory used again for the next one.
#[derive(Default)]
pub(crate) struct Listing {
    buffer: Vec<MaybeUninit<u8>>,
    text: Vec<u8>,
    /// Where each name lies in the text, in order of the names.
    spans: Vec<(usize, usize)>,
}

impl Listing {
    pub(crate) fn read(&mut self, directory: &OwnedFd) -> rustix::io::Result<()> {
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

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.spans
            .iter()
            .map(|(start, end)| &self.text[*start..*end])
    }
}
