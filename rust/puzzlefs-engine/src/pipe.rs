//! Files whose contents come through a pipe: the stream of a build whose files are no directory's.
//!
//! Each file is its size (u64, little-endian), then its bytes. A size of all ones ends the stream:
//! a pipe that ends before it was given up by its writer.

use std::os::fd::BorrowedFd;

use puzzlefs_core::{Error, Result};
use rustix::io::retry_on_intr;

use crate::progress::Progress;
use crate::stream::Input;

/// In place of a size: no further file.
const END: u64 = u64::MAX;
/// Offsets and sizes fit the kernel's signed 64-bit `loff_t`.
const SIZE_LIMIT: u64 = i64::MAX as u64;

/// Reads files from a pipe.
pub struct Pipe<'a> {
    pipe: BorrowedFd<'a>,
    progress: &'a Progress,
    sizes: Vec<u64>,
    /// What is still to come of the last file.
    left: u64,
    position: u64,
    over: bool,
}

impl<'a> Pipe<'a> {
    /// Reads nothing yet.
    pub fn new(pipe: BorrowedFd<'a>, progress: &'a Progress) -> Self {
        Self {
            pipe,
            progress,
            sizes: Vec::new(),
            left: 0,
            position: 0,
            over: false,
        }
    }

    /// Returns the size of each file that came.
    pub fn into_sizes(self) -> Vec<u64> {
        self.sizes
    }

    fn next(&mut self) -> Result<()> {
        let mut size = [0; 8];
        let mut filled = 0;
        while filled < size.len() {
            filled += self.receive(&mut size[filled..])?;
        }
        let size = u64::from_le_bytes(size);
        self.over = size == END;
        if !self.over {
            if size > SIZE_LIMIT - self.position {
                return Err(Error::Contradiction("the files of a pipe are too large"));
            }
            self.progress.reach(self.sizes.len(), self.position);
            self.sizes.push(size);
            self.left = size;
        }
        self.progress.check(0)
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        match retry_on_intr(|| rustix::io::read(self.pipe, &mut *buffer)) {
            Ok(0) => Err(Error::Cancelled),
            Ok(count) => Ok(count),
            Err(errno) => Err(Error::Os(errno.raw_os_error())),
        }
    }
}

impl Input for &mut Pipe<'_> {
    fn is_over(&self) -> bool {
        self.over
    }

    fn seek(&mut self, position: u64) -> Result<()> {
        if position == self.position {
            return Ok(());
        }
        Err(Error::Contradiction("a pipe cannot be read from elsewhere"))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while !self.over {
            if self.left == 0 {
                self.next()?;
                continue;
            }
            if filled == buffer.len() {
                break;
            }
            let room = &mut buffer[filled..];
            let wanted = room
                .len()
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let count = self.receive(&mut room[..wanted])?;
            filled += count;
            self.left -= count as u64;
            self.position += count as u64;
        }
        self.progress
            .reach(self.sizes.len() - usize::from(self.left > 0), self.position);
        Ok(filled)
    }
}
