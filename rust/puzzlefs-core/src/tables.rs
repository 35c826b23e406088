//! Fixed-width little-endian records in which tables cross to Python; `records.py` has the same.
//!
//! A vector (one layer) is four tables and a heap of bytes: names, attribute keys and values, link
//! targets. A record points into the heap by offset and length, and selects consecutive rows of
//! another table by `first` and `count`.

use alloc::vec::Vec;

use crate::digest::Digest;

/// Bit of [`InodeRow::flags`]: the inode has an InodeAdditional, perhaps an empty one.
pub const HAS_ADDITIONAL: u32 = 1;
/// Bit of [`ChunkRow::flags`] and [`BlobRow::flags`]: the blob's bytes are Zstandard frames.
pub const COMPRESSED: u32 = 1;

/// A field of a record.
trait Field: Sized {
    fn put(&self, to: &mut Vec<u8>);
    fn take(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! number_fields {
    ($($number:ty)*) => {$(
        impl Field for $number {
            fn put(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn take(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}

number_fields!(u16 u32 u64 i64);

impl Field for Digest {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let (bytes, rest) = from.split_first_chunk()?;
        *from = rest;
        Some(*bytes)
    }
}

/// A record of fixed width.
pub trait Record: Sized {
    /// Bytes in a record.
    const SIZE: usize;

    /// Appends the record's bytes.
    fn write(&self, to: &mut Vec<u8>);

    /// Reads a record from its bytes, of which there must be [`Record::SIZE`].
    fn read(from: &[u8]) -> Option<Self>;

    /// Returns the bytes of a table.
    fn pack(table: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(table.len() * Self::SIZE);
        table.iter().for_each(|row| row.write(&mut bytes));
        bytes
    }

    /// Reads a table, or `None` where the bytes are not whole records.
    fn unpack(bytes: &[u8]) -> Option<Vec<Self>> {
        if !bytes.len().is_multiple_of(Self::SIZE) {
            return None;
        }
        bytes.chunks_exact(Self::SIZE).map(Self::read).collect()
    }
}

/// A table whose rows are taken one at a time: a slice of records, or [`Packed`] ones.
pub trait Rows<R>: Sync {
    /// Returns how many there are.
    fn count(&self) -> usize;

    /// Returns a row, or `None` where there is none.
    fn row(&self, number: usize) -> Option<R>;

    /// Returns all rows in turn.
    fn rows(&self) -> impl Iterator<Item = R> {
        (0..self.count()).map_while(|number| self.row(number))
    }
}

impl<R: Copy + Sync> Rows<R> for [R] {
    fn count(&self) -> usize {
        self.len()
    }

    fn row(&self, number: usize) -> Option<R> {
        self.get(number).copied()
    }
}

/// A table as its bytes, where a copy of it would be too long.
pub struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    /// Takes the bytes, or `None` where they are not whole records.
    pub fn new<R: Record>(bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(R::SIZE).then_some(Self(bytes))
    }
}

impl<R: Record> Rows<R> for Packed<'_> {
    fn count(&self) -> usize {
        self.0.len() / R::SIZE
    }

    fn row(&self, number: usize) -> Option<R> {
        R::read(self.0.get(number.checked_mul(R::SIZE)?..)?.get(..R::SIZE)?)
    }
}

macro_rules! record {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl Record for $name {
            const SIZE: usize = 0 $(+ size_of::<$type>())*;

            fn write(&self, to: &mut Vec<u8>) {
                $(self.$field.put(to);)*
            }

            fn read(from: &[u8]) -> Option<Self> {
                let mut from = from;
                Some(Self { $($field: Field::take(&mut from)?,)* })
            }
        }
    };
}

record! {
    /// An inode of a layer.
    InodeRow {
        /// Number, from 1.
        ino: u64,
        /// Tag of [`crate::metadata::Kind`].
        kind: u16,
        /// Twelve permission bits.
        permissions: u16,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Nanoseconds of the time of last modification.
        mtime_nsec: u32,
        /// Seconds of that time since the epoch.
        mtime_sec: i64,
        /// First row of a directory's entries or a file's chunks; a device's major number.
        first: u64,
        /// How many such rows; a device's minor number.
        count: u64,
        /// First row of the extended attributes.
        xattr_first: u64,
        /// How many of them.
        xattr_count: u32,
        /// [`HAS_ADDITIONAL`].
        flags: u32,
        /// Where a symbolic link's target starts in the heap.
        link_offset: u64,
        /// Bytes in it.
        link_length: u32,
        /// 0.
        reserved: u32,
    }
}

record! {
    /// An entry of a directory.
    EntryRow {
        /// Number of the inode that it names.
        ino: u64,
        /// Where the name starts in the heap.
        name_offset: u64,
        /// Bytes in it.
        name_length: u32,
        /// 0.
        reserved: u32,
    }
}

record! {
    /// A part of a blob that a file consists of.
    ChunkRow {
        /// Row of the image's digest table.
        blob: u32,
        /// [`COMPRESSED`].
        flags: u32,
        /// Where the part starts, in uncompressed bytes of the blob.
        offset: u64,
        /// Bytes in the part.
        length: u64,
    }
}

record! {
    /// An extended attribute.
    XattrRow {
        /// Where the key starts in the heap.
        key_offset: u64,
        /// Where the value starts.
        value_offset: u64,
        /// Bytes in the key.
        key_length: u32,
        /// Bytes in the value.
        value_length: u32,
    }
}

record! {
    /// The two digests of a blob.
    VerityRow {
        /// SHA-256 of the blob.
        digest: Digest,
        /// Its fs-verity digest.
        verity: Digest,
    }
}

record! {
    /// What a build knows of a file that it is to read.
    SourceRow {
        /// Bytes in the file.
        size: u64,
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
        /// Time of last modification in nanoseconds since the epoch.
        mtime: i64,
        /// Time of last change in nanoseconds since the epoch.
        ctime: i64,
    }
}

record! {
    /// A blob that a build stored.
    BlobRow {
        /// SHA-256 of the stored bytes.
        digest: Digest,
        /// Their fs-verity digest.
        verity: Digest,
        /// How many they are.
        size: u64,
        /// Bytes before compression.
        raw_size: u64,
        /// [`COMPRESSED`].
        flags: u32,
        /// 0.
        reserved: u32,
    }
}

record! {
    /// A chunk, and where its bytes are stored.
    ContentRow {
        /// SHA-256 of the chunk.
        content: Digest,
        /// Row of its blob.
        blob: u32,
        /// Bytes in it.
        length: u32,
        /// Where it starts in the uncompressed bytes of the blob.
        offset: u64,
    }
}

/// The tables of one layer, inodes ascending by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vector {
    /// Inodes.
    pub inodes: Vec<InodeRow>,
    /// Entries of directories, in stored order.
    pub entries: Vec<EntryRow>,
    /// Chunks of files.
    pub chunks: Vec<ChunkRow>,
    /// Extended attributes.
    pub xattrs: Vec<XattrRow>,
    /// Names, attribute keys and values, link targets.
    pub heap: Vec<u8>,
}

impl Vector {
    /// Returns a name, key, value or link target, or `None` where that is not inside the heap.
    pub fn text(&self, offset: u64, length: u32) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.heap.get(start..start.checked_add(length as usize)?)
    }
}

/// Returns `count` rows of a table from row `first`, or `None` where they are not all inside it.
pub fn rows<T>(table: &[T], first: u64, count: u64) -> Option<&[T]> {
    let start = usize::try_from(first).ok()?;
    table.get(start..start.checked_add(usize::try_from(count).ok()?)?)
}

/// All that a rootfs blob says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Each distinct blob that a chunk names, in order of first mention.
    pub digests: Vec<Digest>,
    /// fs-verity digests of blobs, in stored order.
    pub verity: Vec<VerityRow>,
    /// The layers, uppermost first.
    pub vectors: Vec<Vector>,
}
