//! A directory's entries in the kernel's layout.

use puzzlefs_core::index::{Index, Stat};
use rustix::io::Errno;

use super::attributes::{device, file_type, put_entry};
use super::protocol::{ENTRY_OUT, LARGEST};
use super::reply::Reply;

/// Bytes of a `fuse_dirent` before its name.
const DIRENT: usize = 24;
/// Entries with a fixed position before the others: "." and "..".
const DOTS: u64 = 2;

/// One page of a directory's listing.
pub struct Listing<'a> {
    index: &'a Index,
    /// Whether each entry comes with its attributes.
    plus: bool,
    /// Bytes that the kernel has room for.
    room: usize,
    reply: &'a mut Reply,
}

impl<'a> Listing<'a> {
    /// Makes an empty page of at most `room` bytes.
    pub fn new(index: &'a Index, plus: bool, room: u32, reply: &'a mut Reply) -> Self {
        let room = (room as usize).min(LARGEST);
        Self {
            index,
            plus,
            room,
            reply,
        }
    }

    /// Adds the entries of `directory` from position `start` on, as many as fit.
    ///
    /// An inode without attributes (a device number that cannot be) is left out.
    pub fn fill(mut self, directory: u64, start: u64) -> puzzlefs_core::Result<()> {
        for (position, name) in [b".".as_slice(), b".."].into_iter().enumerate() {
            let parent = self.index.parent(directory)?;
            let ino = if position == 0 { directory } else { parent };
            let position = position as u64;
            if position >= start && !self.put(&self.index.stat(ino)?, name, position, true) {
                return Ok(());
            }
        }
        let first = usize::try_from(start.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        let entries = self.index.entries(directory, first, usize::MAX)?;
        for (number, (name, ino)) in entries.enumerate() {
            let stat = self.index.stat(ino)?;
            let position = (first + number) as u64 + DOTS;
            if device(&stat).is_ok() && !self.put(&stat, name, position, false) {
                break;
            }
        }
        Ok(())
    }

    /// Adds an entry; says whether it fitted. "." and ".." carry no attributes.
    fn put(&mut self, stat: &Stat, name: &[u8], position: u64, dot: bool) -> bool {
        let entry = if self.plus { ENTRY_OUT } else { 0 };
        let length = (entry + DIRENT + name.len()).next_multiple_of(8);
        if self.reply.body_length() + length > self.room {
            return false;
        }
        self.write(stat, name, position, dot).is_ok()
    }

    fn write(&mut self, stat: &Stat, name: &[u8], position: u64, dot: bool) -> Result<(), Errno> {
        if self.plus && dot {
            self.reply.space(ENTRY_OUT)?.fill(0);
        } else if self.plus {
            put_entry(stat, self.reply)?;
        }
        self.reply.longs(&[stat.ino, position + 1])?;
        // A name has at most 255 bytes.
        let length = name.len() as u32;
        self.reply.words(&[length, file_type(stat.kind) >> 12])?;
        self.reply.put(name)?;
        let padding = name.len().next_multiple_of(8) - name.len();
        self.reply.space(padding)?.fill(0);
        Ok(())
    }
}
