//! What each request is answered with, whatever the session.

use std::sync::Arc;

use puzzlefs_core::Error;
use puzzlefs_core::index::Index;
use puzzlefs_core::limits::NAME_LIMIT;
use puzzlefs_core::metadata::Kind;
use rustix::io::Errno;

use super::attributes::{put_absent, put_attributes, put_entry};
use super::directory::Listing;
use super::protocol::{FOREVER, LARGEST, Request, opcode};
use super::reply::Reply;
use crate::reader::Reader;

/// Bytes in a block of statfs(2).
const BLOCK: u32 = 4096;

/// One image as a read-only filesystem; inode numbers are the image's own.
pub struct Filesystem {
    /// The tree.
    pub index: Arc<Index>,
    /// The files' contents.
    pub reader: Arc<Reader>,
}

/// Why a request is not answered with what it asks for.
#[derive(Debug)]
pub enum Refusal {
    /// This error number, as is usual.
    Errno(Errno),
    /// An error of the image, to be told of; the answer is `EIO`.
    Fault(Error),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::NoInode(_) => Self::Errno(Errno::STALE),
            Error::NotDirectory(_) => Self::Errno(Errno::NOTDIR),
            error => Self::Fault(error),
        }
    }
}

/// What a request comes to.
type Answer = Result<(), Refusal>;

impl Filesystem {
    /// Puts the answer to a request into `reply`, which is empty.
    pub fn answer(&self, request: &Request<'_>, reply: &mut Reply) -> Answer {
        use opcode::*;

        match request.opcode {
            LOOKUP => self.lookup(request, reply),
            GETATTR => self.getattr(request, reply),
            READLINK => self.readlink(request, reply),
            READ => self.read(request, reply),
            READDIR => self.readdir(request, false, reply),
            READDIRPLUS => self.readdir(request, true, reply),
            STATFS => self.statfs(reply),
            GETXATTR => self.getxattr(request, reply),
            LISTXATTR => self.listxattr(request, reply),
            RELEASE | RELEASEDIR => Ok(()),
            SETATTR | SYMLINK | MKNOD | MKDIR | UNLINK | RMDIR | RENAME | RENAME2 | LINK
            | WRITE | SETXATTR | REMOVEXATTR | CREATE | FALLOCATE | COPY_FILE_RANGE | TMPFILE => {
                Err(Errno::ROFS.into())
            }
            _ => Err(Errno::NOSYS.into()),
        }
    }

    fn lookup(&self, request: &Request<'_>, reply: &mut Reply) -> Answer {
        let parent = request.node;
        let found = match request.name(0)? {
            b"." => self.index.parent(parent).map(|_| Some(parent))?,
            b".." => Some(self.index.parent(parent)?),
            name => self.index.lookup(parent, name)?,
        };
        match found {
            Some(ino) => put_entry(&self.index.stat(ino)?, reply)?,
            None => put_absent(reply)?,
        }
        Ok(())
    }

    fn getattr(&self, request: &Request<'_>, reply: &mut Reply) -> Answer {
        reply.longs(&[FOREVER, 0])?;
        Ok(put_attributes(&self.index.stat(request.node)?, reply)?)
    }

    fn readlink(&self, request: &Request<'_>, reply: &mut Reply) -> Answer {
        if self.index.stat(request.node)?.kind != Kind::Lnk {
            return Err(Errno::INVAL.into());
        }
        Ok(reply.put(self.index.symlink(request.node)?)?)
    }

    fn read(&self, request: &Request<'_>, reply: &mut Reply) -> Answer {
        let stat = self.index.stat(request.node)?;
        match stat.kind {
            Kind::File => {}
            Kind::Dir => return Err(Errno::ISDIR.into()),
            _ => return Err(Errno::INVAL.into()),
        }
        let (offset, size) = (request.long(8)?, request.word(16)?);
        let available = stat.size.saturating_sub(offset).min(u64::from(size));
        let buffer = reply.space((available as usize).min(LARGEST))?;
        Ok(self.reader.read_into(request.node, offset, buffer)?)
    }

    fn readdir(&self, request: &Request<'_>, plus: bool, reply: &mut Reply) -> Answer {
        let (start, room) = (request.long(8)?, request.word(16)?);
        let listing = Listing::new(&self.index, plus, room, reply);
        Ok(listing.fill(request.node, start)?)
    }

    fn statfs(&self, reply: &mut Reply) -> Answer {
        let blocks = self.index.content_bytes().div_ceil(u128::from(BLOCK));
        let blocks = u64::try_from(blocks).unwrap_or(u64::MAX);
        reply.longs(&[blocks, 0, 0, self.index.inode_count() as u64, 0])?;
        Ok(reply.words(&[BLOCK, NAME_LIMIT as u32, BLOCK, 0, 0, 0, 0, 0, 0, 0])?)
    }

    fn getxattr(&self, request: &Request<'_>, reply: &mut Reply) -> Answer {
        if !self.index.has_xattrs() {
            // The kernel takes this for all inodes and never asks again.
            return Err(Errno::NOSYS.into());
        }
        let (size, name) = (request.word(0)?, request.name(8)?);
        let found = self
            .index
            .xattrs(request.node)?
            .find(|&(key, _)| key == name);
        let (_, value) = found.ok_or(Errno::NODATA)?;
        let length = value.len();
        if put_length(length, size, reply)? {
            reply.put(value)?;
        }
        Ok(())
    }

    fn listxattr(&self, request: &Request<'_>, reply: &mut Reply) -> Answer {
        let size = request.word(0)?;
        let lengths = self
            .index
            .xattrs(request.node)?
            .map(|(key, _)| key.len() + 1);
        if put_length(lengths.sum(), size, reply)? {
            for (key, _) in self.index.xattrs(request.node)? {
                reply.put(key)?;
                reply.put(&[0])?;
            }
        }
        Ok(())
    }
}

/// Answers a question for an attribute's length, which is one for no bytes; else says that the `size`
/// bytes asked for are enough.
fn put_length(length: usize, size: u32, reply: &mut Reply) -> Result<bool, Errno> {
    if size == 0 {
        let length = u32::try_from(length).map_err(|_| Errno::TOOBIG)?;
        reply.words(&[length, 0])?;
        return Ok(false);
    }
    if length > size as usize {
        return Err(Errno::RANGE);
    }
    Ok(true)
}
