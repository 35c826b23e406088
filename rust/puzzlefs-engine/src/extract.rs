//! Writing a file's content to disk, with holes where it is zero.

use std::os::fd::BorrowedFd;

use puzzlefs_core::{Error, Result};
use rustix::io::{Errno, retry_on_intr};

/// Bytes in a block that may be a hole.
const BLOCK: usize = 4096;

/// A file that is being written from its start to its end.
pub struct Extraction<'a> {
    file: BorrowedFd<'a>,
    position: u64,
    /// Where the last byte that was really written stands.
    written: u64,
}

impl<'a> Extraction<'a> {
    /// Begins to write `file`, an empty regular file.
    pub fn new(file: BorrowedFd<'a>) -> Self {
        Self {
            file,
            position: 0,
            written: 0,
        }
    }

    /// Gives the file its size before its content.
    pub fn reserve(&self, size: u64) -> Result<()> {
        retry_on_intr(|| rustix::fs::ftruncate(self.file, size)).map_err(system)
    }

    /// Bytes so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Adds the next bytes. All but the last call must add whole blocks.
    pub fn write(&mut self, content: &[u8]) -> Result<()> {
        let mut at = 0;
        while at < content.len() {
            let holes = blocks(&content[at..]).take_while(|block| is_hole(block));
            at += holes.map(<[u8]>::len).sum::<usize>();
            let filled = blocks(&content[at..]).take_while(|block| !is_hole(block));
            let length = filled.map(<[u8]>::len).sum::<usize>();
            self.write_at(&content[at..at + length], self.position + at as u64)?;
            at += length;
        }
        self.position += content.len() as u64;
        Ok(())
    }

    /// Sets the file's size, where a hole ends it.
    pub fn finish(self) -> Result<()> {
        if self.written == self.position {
            return Ok(());
        }
        retry_on_intr(|| rustix::fs::ftruncate(self.file, self.position)).map_err(system)
    }

    fn write_at(&mut self, content: &[u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while done < content.len() {
            let rest = &content[done..];
            let count = retry_on_intr(|| rustix::io::pwrite(self.file, rest, offset + done as u64))
                .map_err(system)?;
            if count == 0 {
                return Err(system(Errno::IO));
            }
            done += count;
            self.written = offset + done as u64;
        }
        Ok(())
    }
}

fn blocks(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.chunks(BLOCK)
}

/// Tells whether a block may be left out: it holds zeros alone.
fn is_hole(block: &[u8]) -> bool {
    // In groups, so that each is compared at once.
    let (groups, rest) = block.as_chunks::<64>();
    groups.iter().all(|group| *group == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}

fn system(errno: Errno) -> Error {
    Error::Os(errno.raw_os_error())
}
