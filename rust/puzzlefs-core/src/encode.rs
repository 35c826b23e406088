//! Tables to a rootfs blob, byte for byte as the original writes it.
//!
//! Which object goes where follows from the order of allocation, which is the order of the
//! statements below, and from the allocator (`segments.rs`).

use alloc::vec::Vec;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::MANIFEST_VERSION;
use crate::metadata::Kind;
use crate::segments::{Place, Segments, Shape};
use crate::tables::{COMPRESSED, HAS_ADDITIONAL, InodeRow, Tables, Vector, rows};

const ROOTFS: Shape = Shape(1, 2);
const INODE_VECTOR: Shape = Shape(0, 1);
const INODE_PLAIN: Shape = Shape(3, 2);
const INODE_WITH_TIME: Shape = Shape(4, 2);
const DIRECTORY: Shape = Shape(1, 1);
const DIR_ENTRY: Shape = Shape(1, 1);
const DEVICE: Shape = Shape(2, 0);
const FILE_CHUNK: Shape = Shape(1, 1);
const BLOB_REF: Shape = Shape(2, 1);
const ADDITIONAL: Shape = Shape(0, 2);
const XATTR: Shape = Shape(0, 2);
const VERITY: Shape = Shape(0, 2);

/// Inodes whose memory is given back together.
const FREED_AT_ONCE: usize = 1 << 16;

const OUTSIDE_TABLE: Error = Error::Contradiction("an inode selects rows outside its table");
const OUTSIDE_HEAP: Error = Error::Contradiction("a record points outside the heap");
const OUTSIDE_DIGESTS: Error =
    Error::Contradiction("a chunk names a blob outside the digest table");

/// A rootfs blob whose parts are not yet put together.
pub struct Encoded(Segments);

impl Encoded {
    /// Returns how many bytes the blob has.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Gives the blob piece by piece to `take`, whose error ends it; each piece is freed once it is taken.
    pub fn write<E>(
        self,
        take: impl FnMut(&[u8]) -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        self.0.write(take)
    }
}

/// Returns the rootfs blob for tables as [`crate::decode::decode`] gives them.
pub fn encode(tables: &Tables) -> Result<Vec<u8>> {
    let encoded = encode_parts(tables.clone())?;
    let mut blob = Vec::with_capacity(encoded.size());
    encoded.write(|piece| {
        blob.extend_from_slice(piece);
        Result::Ok(())
    })?;
    Ok(blob)
}

/// Returns what [`encode`] does in parts, for a caller that has little memory or its own place for the blob.
///
/// A layer whose times are all zero gets the original's size of inodes. Inodes are freed on the way.
pub fn encode_parts(tables: Tables) -> Result<Encoded> {
    for vector in &tables.vectors {
        check_vector(vector, tables.digests.len())?;
    }
    let (mut segments, root) = Segments::new()?;
    let rootfs = segments.structure(root, ROOTFS)?;
    segments.put(rootfs, 0, &MANIFEST_VERSION.to_le_bytes());
    let first = segments.list(rootfs.plus(1), tables.vectors.len(), INODE_VECTOR)?;
    for (row, mut vector) in tables.vectors.into_iter().enumerate() {
        let inodes = core::mem::take(&mut vector.inodes);
        let mut encoder = VectorEncoder::new(&mut segments, &tables.digests, &vector, &inodes);
        encoder.write(first.plus(row * INODE_VECTOR.words()), inodes)?;
    }
    let first = segments.list(rootfs.plus(2), tables.verity.len(), VERITY)?;
    for (row, entry) in tables.verity.iter().enumerate() {
        let place = first.plus(row * VERITY.words());
        segments.data(place, &entry.digest)?;
        segments.data(place.plus(1), &entry.verity)?;
    }
    Ok(Encoded(segments))
}

/// Checks that the tables of a layer agree with each other.
fn check_vector(vector: &Vector, digests: usize) -> Result<()> {
    vector
        .inodes
        .iter()
        .try_for_each(|inode| check_inode(vector, inode))?;
    let mut previous = 0;
    for inode in &vector.inodes {
        if inode.ino <= previous {
            return Err(Error::Contradiction("inode numbers do not ascend"));
        }
        previous = inode.ino;
    }
    if vector
        .chunks
        .iter()
        .any(|chunk| chunk.blob as usize >= digests)
    {
        return Err(OUTSIDE_DIGESTS);
    }
    let entries = vector
        .entries
        .iter()
        .map(|entry| (entry.name_offset, entry.name_length));
    let keys = vector
        .xattrs
        .iter()
        .map(|xattr| (xattr.key_offset, xattr.key_length));
    let values = vector
        .xattrs
        .iter()
        .map(|xattr| (xattr.value_offset, xattr.value_length));
    for (offset, length) in entries.chain(keys).chain(values) {
        vector.text(offset, length).ok_or(OUTSIDE_HEAP)?;
    }
    Ok(())
}

fn check_inode(vector: &Vector, inode: &InodeRow) -> Result<()> {
    let kind = kind_of(inode)?;
    if kind == Kind::Dir {
        rows(&vector.entries, inode.first, inode.count).ok_or(OUTSIDE_TABLE)?;
    }
    if kind == Kind::File {
        rows(&vector.chunks, inode.first, inode.count).ok_or(OUTSIDE_TABLE)?;
    }
    let xattr_count = u64::from(inode.xattr_count);
    rows(&vector.xattrs, inode.xattr_first, xattr_count).ok_or(OUTSIDE_TABLE)?;
    vector
        .text(inode.link_offset, inode.link_length)
        .ok_or(OUTSIDE_HEAP)?;
    let bare = inode.xattr_count == 0 && inode.link_length == 0;
    if bare || inode.flags & HAS_ADDITIONAL != 0 {
        return Ok(());
    }
    Err(Error::Contradiction(
        "attributes or a link target without HAS_ADDITIONAL",
    ))
}

fn kind_of(inode: &InodeRow) -> Result<Kind> {
    Kind::from_tag(inode.kind).ok_or(Error::Contradiction("unknown inode kind"))
}

/// Writes one layer.
struct VectorEncoder<'a> {
    segments: &'a mut Segments,
    digests: &'a [Digest],
    /// Without its inodes.
    vector: &'a Vector,
    shape: Shape,
    timed: bool,
}

impl<'a> VectorEncoder<'a> {
    fn new(
        segments: &'a mut Segments,
        digests: &'a [Digest],
        vector: &'a Vector,
        inodes: &[InodeRow],
    ) -> Self {
        let timed = inodes
            .iter()
            .any(|inode| inode.mtime_sec != 0 || inode.mtime_nsec != 0);
        let shape = if timed { INODE_WITH_TIME } else { INODE_PLAIN };
        Self {
            segments,
            digests,
            vector,
            shape,
            timed,
        }
    }

    fn write(&mut self, place: Place, mut inodes: Vec<InodeRow>) -> Result<()> {
        let mut place = self.segments.list(place, inodes.len(), self.shape)?;
        // Taken off the end, they can be freed.
        inodes.reverse();
        while let Some(inode) = inodes.pop() {
            self.inode(place, &inode)?;
            place = place.plus(self.shape.words());
            if inodes.len().is_multiple_of(FREED_AT_ONCE) {
                inodes.shrink_to_fit();
            }
        }
        Ok(())
    }

    fn inode(&mut self, place: Place, inode: &InodeRow) -> Result<()> {
        self.segments.put(place, 0, &inode.ino.to_le_bytes());
        self.segments.put(place, 8, &inode.kind.to_le_bytes());
        self.segments
            .put(place, 10, &inode.permissions.to_le_bytes());
        self.segments.put(place, 12, &inode.uid.to_le_bytes());
        self.segments.put(place, 16, &inode.gid.to_le_bytes());
        if self.timed {
            self.segments
                .put(place, 20, &inode.mtime_nsec.to_le_bytes());
            self.segments.put(place, 24, &inode.mtime_sec.to_le_bytes());
        }
        let mode = place.plus(self.shape.0);
        match kind_of(inode)? {
            Kind::Dir => self.entries(mode, inode)?,
            Kind::File => self.chunks(mode, inode)?,
            Kind::Chr | Kind::Blk => self.device(mode, inode)?,
            Kind::Fifo | Kind::Lnk | Kind::Sock | Kind::Wht => {}
        }
        if inode.flags & HAS_ADDITIONAL != 0 {
            self.additional(mode.plus(1), inode)?;
        }
        Ok(())
    }

    fn device(&mut self, pointer: Place, inode: &InodeRow) -> Result<()> {
        let device = self.segments.structure(pointer, DEVICE)?;
        self.segments.put(device, 0, &inode.first.to_le_bytes());
        self.segments.put(device, 8, &inode.count.to_le_bytes());
        Ok(())
    }

    fn entries(&mut self, pointer: Place, inode: &InodeRow) -> Result<()> {
        let entries = rows(&self.vector.entries, inode.first, inode.count).ok_or(OUTSIDE_TABLE)?;
        let directory = self.segments.structure(pointer, DIRECTORY)?;
        let first = self
            .segments
            .list(directory.plus(1), entries.len(), DIR_ENTRY)?;
        for (row, entry) in entries.iter().enumerate() {
            let place = first.plus(row * DIR_ENTRY.words());
            self.segments.put(place, 0, &entry.ino.to_le_bytes());
            self.text(place.plus(1), entry.name_offset, entry.name_length)?;
        }
        Ok(())
    }

    fn chunks(&mut self, pointer: Place, inode: &InodeRow) -> Result<()> {
        let chunks = rows(&self.vector.chunks, inode.first, inode.count).ok_or(OUTSIDE_TABLE)?;
        let first = self.segments.list(pointer, chunks.len(), FILE_CHUNK)?;
        for (row, chunk) in chunks.iter().enumerate() {
            let place = first.plus(row * FILE_CHUNK.words());
            let digest = self
                .digests
                .get(chunk.blob as usize)
                .ok_or(OUTSIDE_DIGESTS)?;
            let blob = self.segments.structure(place.plus(1), BLOB_REF)?;
            self.segments.data(blob.plus(2), digest)?;
            self.segments.put(blob, 0, &chunk.offset.to_le_bytes());
            self.segments
                .put(blob, 8, &[(chunk.flags & COMPRESSED) as u8]);
            self.segments.put(place, 0, &chunk.length.to_le_bytes());
        }
        Ok(())
    }

    fn additional(&mut self, pointer: Place, inode: &InodeRow) -> Result<()> {
        let count = u64::from(inode.xattr_count);
        let xattrs = rows(&self.vector.xattrs, inode.xattr_first, count).ok_or(OUTSIDE_TABLE)?;
        let additional = self.segments.structure(pointer, ADDITIONAL)?;
        let first = self.segments.list(additional, xattrs.len(), XATTR)?;
        for (row, xattr) in xattrs.iter().enumerate() {
            let place = first.plus(row * XATTR.words());
            // The original sets the value before the key.
            self.text(place.plus(1), xattr.value_offset, xattr.value_length)?;
            self.text(place, xattr.key_offset, xattr.key_length)?;
        }
        if inode.link_length > 0 {
            self.text(additional.plus(1), inode.link_offset, inode.link_length)?;
        }
        Ok(())
    }

    fn text(&mut self, pointer: Place, offset: u64, length: u32) -> Result<()> {
        let text = self.vector.text(offset, length).ok_or(OUTSIDE_HEAP)?;
        self.segments.data(pointer, text)
    }
}
