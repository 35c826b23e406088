//! The files of a build as one stream of bytes, which can be read on from any position.

use puzzlefs_core::Result;
use puzzlefs_core::tables::{Rows, SourceRow};

use crate::progress::Progress;
use crate::source::{SourceFile, SourceRoot};

/// The bytes of a build's files, one file after another.
pub trait Input {
    /// Tells whether every file was read or passed by.
    fn is_over(&self) -> bool;
    /// Goes to a position; files that are passed by are not opened.
    fn seek(&mut self, position: u64) -> Result<()>;
    /// Fills the buffer as far as the stream goes; returns how many bytes that are.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;
}

/// Reads files one after another, each checked before and after.
pub struct Stream<'a, P, R: ?Sized> {
    root: &'a SourceRoot,
    paths: &'a [P],
    rows: &'a R,
    progress: &'a Progress,
    /// The file that is read, and where in the stream it starts.
    number: usize,
    start: u64,
    offset: u64,
    file: Option<SourceFile<'a>>,
}

impl<'a, P: AsRef<[u8]>, R: Rows<SourceRow> + ?Sized> Stream<'a, P, R> {
    /// Begins at the first file; there are as many rows as paths.
    pub fn new(root: &'a SourceRoot, paths: &'a [P], rows: &'a R, progress: &'a Progress) -> Self {
        Self {
            root,
            paths,
            rows,
            progress,
            number: 0,
            start: 0,
            offset: 0,
            file: None,
        }
    }

    fn next(&mut self, size: u64) -> Result<()> {
        self.file = None;
        self.number += 1;
        self.start += size;
        self.offset = 0;
        self.progress.reach(self.number, self.start);
        self.progress.check(0)
    }
}

impl<P: AsRef<[u8]>, R: Rows<SourceRow> + ?Sized> Input for Stream<'_, P, R> {
    fn is_over(&self) -> bool {
        self.number == self.rows.count()
    }

    fn seek(&mut self, position: u64) -> Result<()> {
        if position == self.start + self.offset {
            return Ok(());
        }
        self.file = None;
        while position < self.start {
            self.number -= 1;
            self.start -= self.rows.row(self.number).map_or(0, |row| row.size);
        }
        while let Some(row) = self.rows.row(self.number) {
            if position - self.start < row.size {
                break;
            }
            self.number += 1;
            self.start += row.size;
        }
        self.offset = position - self.start;
        self.progress.reach(self.number, position);
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(row) = self.rows.row(self.number) {
            let left = row.size - self.offset;
            if left > 0 && filled == buffer.len() {
                break;
            }
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(self.root.file(
                    self.paths[self.number].as_ref(),
                    row,
                    self.offset,
                )?),
            };
            if left == 0 {
                file.check()?;
                self.next(row.size)?;
                continue;
            }
            let room = &mut buffer[filled..];
            let wanted = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut room[..wanted])?;
            filled += count;
            self.offset += count as u64;
            self.progress.reach(self.number, self.start + self.offset);
        }
        Ok(filled)
    }
}
