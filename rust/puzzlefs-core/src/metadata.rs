//! The rootfs blob's structs, each value checked as it is read. Nothing is allocated.
//!
//! A reader works through a blob once, depth first in the order of the methods below: an object that
//! is taken twice counts twice against the message's budget. docs/format.md §9 lists the rules.

use crate::digest::Digest;
use crate::error::{Result, Rule, Unsupported};
use crate::limits::{
    FILE_SIZE_LIMIT, MANIFEST_VERSION, NAME_LIMIT, NANOSECONDS, PERMISSIONS_MASK, SYMLINK_LIMIT,
    VECTOR_LIMIT, XATTR_KEY_LIMIT, XATTR_VALUE_LIMIT,
};
use crate::message::Message;
use crate::object::{List, Struct};

/// The tag of the format's mode union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// A named pipe.
    Fifo = 1,
    /// A character device.
    Chr = 2,
    /// A directory.
    Dir = 3,
    /// A block device.
    Blk = 4,
    /// A regular file.
    File = 5,
    /// A symbolic link.
    Lnk = 6,
    /// A socket.
    Sock = 7,
    /// A whiteout: hides its number in the layers below.
    Wht = 8,
}

impl Kind {
    /// Returns the kind with this tag.
    pub fn from_tag(tag: u16) -> Option<Self> {
        Some(match tag {
            1 => Self::Fifo,
            2 => Self::Chr,
            3 => Self::Dir,
            4 => Self::Blk,
            5 => Self::File,
            6 => Self::Lnk,
            7 => Self::Sock,
            8 => Self::Wht,
            _ => return None,
        })
    }
}

/// The root struct, its version and features accepted.
#[derive(Clone, Copy)]
pub struct Rootfs<'m>(Struct<'m>);

impl<'m> Rootfs<'m> {
    /// Reads the root of a message.
    pub fn read(message: &'m Message<'m>) -> Result<Self> {
        let root = message.root()?;
        let features = root.u64(8);
        if features != 0 {
            return Err(Unsupported::RequiredFeatures(features).into());
        }
        let version = root.u64(0);
        if version != MANIFEST_VERSION {
            return Err(Unsupported::ManifestVersion(version).into());
        }
        Ok(Self(root))
    }

    /// Returns the layers, uppermost first.
    pub fn vectors(&self) -> Result<Vectors<'m>> {
        let list = self.0.list(0)?;
        if list.len() > VECTOR_LIMIT {
            return Err(Rule::TooManyLayers.into());
        }
        Ok(Vectors(list))
    }

    /// Returns the fs-verity digests of the blobs, in stored order.
    pub fn verity(&self) -> Result<Verities<'m>> {
        Ok(Verities(self.0.list(1)?))
    }
}

/// Iterator over the layers; an item is the layer's inodes.
#[derive(Clone)]
pub struct Vectors<'m>(List<'m>);

impl<'m> Iterator for Vectors<'m> {
    type Item = Result<Inodes<'m>>;

    fn next(&mut self) -> Option<Self::Item> {
        let inodes = self.0.next()?.list(0);
        Some(
            inodes
                .map(|list| Inodes { list, previous: 0 })
                .map_err(Into::into),
        )
    }
}

/// Iterator over (SHA-256, fs-verity digest) of blobs.
#[derive(Clone)]
pub struct Verities<'m>(List<'m>);

impl Iterator for Verities<'_> {
    type Item = Result<(Digest, Digest)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| {
            let (digest, verity) = (entry.data(0)?, entry.data(1)?);
            match (digest.try_into(), verity.try_into()) {
                (Ok(digest), Ok(verity)) => Ok((digest, verity)),
                _ => Err(Rule::BadVerityEntry.into()),
            }
        })
    }
}

/// Iterator over a layer's inodes, ascending by number.
#[derive(Clone)]
pub struct Inodes<'m> {
    list: List<'m>,
    previous: u64,
}

impl<'m> Iterator for Inodes<'m> {
    type Item = Result<Inode<'m>>;

    fn next(&mut self) -> Option<Self::Item> {
        let inode = Inode::read(self.list.next()?, self.previous);
        if let Ok(inode) = &inode {
            self.previous = inode.ino;
        }
        Some(inode)
    }
}

/// An inode's fields; its objects are read by [`Inode::mode`] and then [`Inode::additional`].
#[derive(Clone, Copy)]
pub struct Inode<'m> {
    /// Number, from 1.
    pub ino: u64,
    /// Kind of file.
    pub kind: Kind,
    /// Twelve permission bits.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whole seconds of the time of last modification, since the epoch.
    pub mtime_sec: i64,
    /// Nanoseconds of that time, below 1,000,000,000.
    pub mtime_nsec: u32,
    object: Struct<'m>,
}

impl<'m> Inode<'m> {
    fn read(object: Struct<'m>, previous: u64) -> Result<Self> {
        let ino = object.u64(0);
        check(ino != 0, Rule::InodeZero)?;
        check(ino > previous, Rule::InodesDoNotAscend)?;
        let kind = Kind::from_tag(object.u16(8)).ok_or(Rule::UnknownKind)?;
        let permissions = object.u16(10);
        check(permissions <= PERMISSIONS_MASK, Rule::PermissionsOutOfRange)?;
        let mtime_nsec = object.u32(20);
        check(mtime_nsec < NANOSECONDS, Rule::NanosecondsOutOfRange)?;
        Ok(Self {
            ino,
            kind,
            permissions,
            uid: object.u32(12),
            gid: object.u32(16),
            mtime_sec: object.u64(24).cast_signed(),
            mtime_nsec,
            object,
        })
    }

    /// Reads the object that belongs to the kind.
    pub fn mode(&self) -> Result<Mode<'m>> {
        match self.kind {
            Kind::Dir => self.entries().map(Mode::Directory),
            Kind::File => Ok(Mode::File(Chunks {
                list: self.object.list(0)?,
                size: 0,
            })),
            Kind::Chr | Kind::Blk => {
                let device = self.object.structure(0)?;
                Ok(Mode::Device {
                    major: device.u64(0),
                    minor: device.u64(8),
                })
            }
            Kind::Fifo | Kind::Lnk | Kind::Sock | Kind::Wht => Ok(Mode::Plain),
        }
    }

    fn entries(&self) -> Result<Entries<'m>> {
        let directory = self.object.structure(0)?;
        if directory.bit(0) {
            return Err(Unsupported::LookBelow.into());
        }
        Ok(Entries(directory.list(0)?))
    }

    /// Says whether the inode has an InodeAdditional, perhaps an empty one.
    pub fn has_additional(&self) -> bool {
        self.object.has(1)
    }

    /// Reads the InodeAdditional; a missing one is empty.
    pub fn additional(&self) -> Result<Additional<'m>> {
        Ok(Additional {
            kind: self.kind,
            object: self.object.structure(1)?,
        })
    }
}

/// What an inode's kind brings with it.
#[derive(Clone)]
pub enum Mode<'m> {
    /// A directory's entries.
    Directory(Entries<'m>),
    /// A file's chunks.
    File(Chunks<'m>),
    /// A device's numbers.
    Device {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// Nothing.
    Plain,
}

/// Iterator over a directory's entries in stored order: (inode number, name).
#[derive(Clone)]
pub struct Entries<'m>(List<'m>);

impl<'m> Iterator for Entries<'m> {
    type Item = Result<(u64, &'m [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| {
            let name = entry.data(0)?;
            check(is_name(name), Rule::BadEntryName)?;
            Ok((entry.u64(0), name))
        })
    }
}

fn is_name(name: &[u8]) -> bool {
    let special = matches!(name, b"" | b"." | b"..");
    !special && name.len() <= NAME_LIMIT && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Part of a blob that a file consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// Whether the blob is made of Zstandard frames.
    pub compressed: bool,
    /// Where the part starts, in uncompressed bytes of the blob.
    pub offset: u64,
    /// Bytes in the part.
    pub length: u64,
}

/// Iterator over a file's chunks in order.
#[derive(Clone)]
pub struct Chunks<'m> {
    list: List<'m>,
    /// Bytes in the chunks so far.
    size: u64,
}

impl Iterator for Chunks<'_> {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = self.list.next()?;
        Some(self.read(chunk))
    }
}

impl Chunks<'_> {
    fn read(&mut self, chunk: Struct<'_>) -> Result<Chunk> {
        let blob = chunk.structure(0)?;
        let digest = blob
            .data(0)?
            .try_into()
            .map_err(|_| Rule::BadDigestLength)?;
        let (offset, length) = (blob.u64(0), chunk.u64(0));
        let end = offset.checked_add(length).ok_or(Rule::FileTooLarge)?;
        let size = self.size.checked_add(length).ok_or(Rule::FileTooLarge)?;
        check(end.max(size) <= FILE_SIZE_LIMIT, Rule::FileTooLarge)?;
        self.size = size;
        Ok(Chunk {
            digest,
            compressed: blob.bit(8),
            offset,
            length,
        })
    }
}

/// An inode's extended attributes, and then a symbolic link's target.
#[derive(Clone, Copy)]
pub struct Additional<'m> {
    kind: Kind,
    object: Struct<'m>,
}

impl<'m> Additional<'m> {
    /// Returns the extended attributes in stored order.
    pub fn xattrs(&self) -> Result<Xattrs<'m>> {
        Ok(Xattrs(self.object.list(0)?))
    }

    /// Returns the target; it is checked where the inode is a symbolic link, and means nothing else.
    pub fn target(&self) -> Result<&'m [u8]> {
        let target = self.object.data(1)?;
        let sound = !target.is_empty() && target.len() <= SYMLINK_LIMIT && !target.contains(&0);
        check(sound || self.kind != Kind::Lnk, Rule::BadLinkTarget)?;
        Ok(target)
    }
}

/// Iterator over extended attributes: (key, value).
#[derive(Clone)]
pub struct Xattrs<'m>(List<'m>);

impl<'m> Iterator for Xattrs<'m> {
    type Item = Result<(&'m [u8], &'m [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|xattr| {
            let key = xattr.data(0)?;
            let sound = !key.is_empty() && key.len() <= XATTR_KEY_LIMIT && !key.contains(&0);
            check(sound, Rule::BadAttributeKey)?;
            let value = xattr.data(1)?;
            check(value.len() <= XATTR_VALUE_LIMIT, Rule::BadAttributeValue)?;
            Ok((key, value))
        })
    }
}

fn check(holds: bool, rule: Rule) -> core::result::Result<(), Rule> {
    if holds { Ok(()) } else { Err(rule) }
}
