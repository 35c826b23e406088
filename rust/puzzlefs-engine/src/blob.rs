//! One opened blob: its stored bytes, checked as the reader was told.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use puzzlefs_core::digest::{Hex, Sha256};
use puzzlefs_core::limits::VERITY_BLOCK;
use puzzlefs_core::{BlobFault, Digest};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::fsverity::measure;
use crate::hashing::{LeafHasher, leaves};
use crate::seek_table::{FOOTER_SIZE, SeekTable};
use crate::waiting;

/// `Result` of work on one blob.
pub type Result<T> = std::result::Result<T, BlobFault>;

/// Blocks that are read and hashed at a time.
const STEP_BLOCKS: usize = 64;
/// Frames in the largest seek table that stays in memory with its blob.
const KEPT_FRAMES: usize = 4096;

/// When the bytes of a blob are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Never.
    Never,
    /// The whole blob, once, on first use.
    Once,
    /// The whole blob on first use, and then every byte each time it is taken from disk.
    Always,
}

/// What tells a file from another, and from itself after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// What a blob was when its SHA-256 was found right.
#[derive(Debug)]
pub struct Proof {
    /// The file that was read then.
    identity: Identity,
    size: u64,
    /// The hash of each 4,096-byte block, kept to check bytes again; empty unless that is wanted.
    leaves: Vec<Digest>,
}

/// An open blob.
pub struct Blob {
    file: OwnedFd,
    size: u64,
    guard: Guard,
    table: OnceLock<Arc<SeekTable>>,
}

/// What stands between the disk and whoever reads.
enum Guard {
    /// Nothing, or nothing any more.
    None,
    /// The hashes of its blocks.
    Leaves(Arc<Proof>),
}

impl Blob {
    /// Opens a blob and, unless `proof` says that it was done before, checks it whole. Without hashes
    /// of its blocks a proof holds for the very file that was checked, and only while that is unchanged.
    ///
    /// Returns the proof, if there is one, beside the blob. `verity` is the fs-verity digest that the
    /// image gives, or zeros; where the kernel enforces the same one, there is nothing left to check.
    pub fn open(
        directory: BorrowedFd<'_>,
        digest: &Digest,
        verity: &Digest,
        verify: Verify,
        proof: Option<Arc<Proof>>,
    ) -> Result<(Self, Option<Arc<Proof>>)> {
        let (file, identity) = open_regular(directory, &Hex(digest).to_string())?;
        let size = identity.size;
        let (guard, size, proof) = match (verify, proof) {
            (Verify::Never, _) => (Guard::None, size, None),
            (_, None) if *verity != [0; 32] && measure(file.as_fd()) == Some(*verity) => {
                (Guard::None, size, None)
            }
            (_, proof) => {
                let always = verify == Verify::Always;
                let proof = match proof {
                    Some(proof) if always || proof.identity == identity => proof,
                    _ => Arc::new(check(file.as_fd(), identity, digest, always)?),
                };
                let guard = if always {
                    Guard::Leaves(Arc::clone(&proof))
                } else {
                    Guard::None
                };
                (guard, proof.size, Some(proof))
            }
        };
        Ok((
            Self {
                file,
                size,
                guard,
                table: OnceLock::new(),
            },
            proof,
        ))
    }

    /// Bytes in the stored blob.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` with the stored bytes from `offset`.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset
            .checked_add(buffer.len() as u64)
            .ok_or(BlobFault::Short)?;
        match &self.guard {
            Guard::None => read_exactly(self.file.as_fd(), offset, buffer, BlobFault::Short),
            Guard::Leaves(proof) if end <= proof.size => self.read_checked(proof, offset, buffer),
            Guard::Leaves(_) => Err(BlobFault::Short),
        }
    }

    /// Fills `buffer` by way of whole blocks, each compared with its hash before it is copied.
    fn read_checked(&self, proof: &Proof, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let block = VERITY_BLOCK as u64;
        let mut scratch = Vec::new();
        let mut position = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let skipped = (position % block) as usize;
            let start = position - skipped as u64;
            let blocks = (skipped + rest.len())
                .div_ceil(VERITY_BLOCK)
                .min(STEP_BLOCKS);
            let length = (proof.size - start).min((blocks * VERITY_BLOCK) as u64) as usize;
            scratch.resize(length, 0);
            read_exactly(
                self.file.as_fd(),
                start,
                &mut scratch,
                BlobFault::WrongContent,
            )?;
            let wanted = proof.leaves.get((start / block) as usize..).unwrap_or(&[]);
            if !has_leaves(&scratch, wanted) {
                return Err(BlobFault::WrongContent);
            }
            let taken = (length - skipped).min(rest.len());
            let (now, later) = rest.split_at_mut(taken);
            now.copy_from_slice(&scratch[skipped..skipped + taken]);
            rest = later;
            position += taken as u64;
        }
        Ok(())
    }

    /// Returns the blob's seek table.
    pub fn table(&self) -> Result<Arc<SeekTable>> {
        if let Some(table) = self.table.get() {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(self.read_table()?);
        if table.frames() <= KEPT_FRAMES {
            return Ok(Arc::clone(self.table.get_or_init(|| table)));
        }
        Ok(table)
    }

    fn read_table(&self) -> Result<SeekTable> {
        let mut footer = [0; FOOTER_SIZE];
        if let Some(start) = self.size.checked_sub(FOOTER_SIZE as u64) {
            self.read(start, &mut footer)?;
        }
        let length = SeekTable::size_of(&footer, self.size).map_err(BlobFault::Corrupt)?;
        let mut table = vec![0; usize::try_from(length).map_err(|_| BlobFault::Short)?];
        self.read(self.size - length, &mut table)?;
        SeekTable::parse(&table, self.size).map_err(BlobFault::Corrupt)
    }
}

/// Opens a regular file of the directory, or of wherever a link in it leads; returns what it is too.
fn open_regular(directory: BorrowedFd<'_>, name: &str) -> Result<(OwnedFd, Identity)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::openat(directory, name, flags, Mode::empty()))
        .map_err(fault)?;
    let stat = rustix::fs::fstat(&file).map_err(fault)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((file, Identity::of(&stat))),
        FileType::Directory => Err(fault(Errno::ISDIR)),
        _ => Err(fault(Errno::SPIPE)),
    }
}

/// Hashes a whole file once; its SHA-256 must be `digest`.
fn check(
    file: BorrowedFd<'_>,
    identity: Identity,
    digest: &Digest,
    keep_leaves: bool,
) -> Result<Proof> {
    // One more byte than there should be: a short read is the end.
    waiting::expect_work(identity.size);
    let expected = usize::try_from(identity.size).unwrap_or(usize::MAX);
    let blocks = (expected / VERITY_BLOCK + 1).min(STEP_BLOCKS);
    let mut buffer = vec![0; blocks * VERITY_BLOCK];
    let mut hasher = if keep_leaves {
        Hasher::Leaves(LeafHasher::new())
    } else {
        Hasher::Whole(Sha256::new())
    };
    let mut leaves = Vec::new();
    let mut size = 0;
    loop {
        let filled = read_up_to(file, size, &mut buffer)?;
        match &mut hasher {
            Hasher::Leaves(hasher) => hasher.update(&buffer[..filled], |leaf| leaves.push(leaf)),
            Hasher::Whole(hasher) => hasher.update(&buffer[..filled]),
        }
        size += filled as u64;
        if filled < buffer.len() {
            break;
        }
    }
    let found = match hasher {
        Hasher::Leaves(hasher) => hasher.finish(|leaf| leaves.push(leaf)),
        Hasher::Whole(hasher) => hasher.finish(),
    };
    if found != *digest {
        return Err(BlobFault::WrongContent);
    }
    Ok(Proof {
        identity,
        size,
        leaves,
    })
}

/// What hashes a whole file: with its blocks, or alone.
enum Hasher {
    Leaves(LeafHasher),
    Whole(Sha256),
}

/// Tells whether the blocks of `bytes` have the first of the hashes `wanted`.
fn has_leaves(bytes: &[u8], wanted: &[Digest]) -> bool {
    let mut wanted = wanted.iter();
    let mut equal = true;
    leaves(bytes, |hash| equal &= wanted.next() == Some(&hash));
    equal
}

/// Reads until the buffer is full or the file ends; returns how many bytes.
fn read_up_to(file: BorrowedFd<'_>, offset: u64, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        match waiting::read(file, rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            // An offset past what the system can address is past the end.
            Err(Errno::INVAL) if i64::try_from(offset).is_err() => break,
            Err(errno) => return Err(fault(errno)),
        }
    }
    Ok(filled)
}

fn read_exactly(
    file: BorrowedFd<'_>,
    offset: u64,
    buffer: &mut [u8],
    short: BlobFault,
) -> Result<()> {
    let filled = read_up_to(file, offset, buffer)?;
    if filled == buffer.len() {
        Ok(())
    } else {
        Err(short)
    }
}

fn fault(errno: Errno) -> BlobFault {
    match errno {
        Errno::NOENT => BlobFault::Missing,
        errno => BlobFault::CannotBeRead(errno.raw_os_error()),
    }
}
