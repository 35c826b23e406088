//! The one error type of the project. The glue turns each variant into a Python exception.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;

use crate::digest::{Digest, Hex};

/// `Result` with the project's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;

/// Everything that can go wrong, as facts; paths are relative to what the caller named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Metadata or a compressed blob breaks a rule of docs/format.md.
    Corrupt(Rule),
    /// The image needs something that this reader does not know.
    Unsupported(Unsupported),
    /// A blob of an image is missing, damaged or unreadable.
    Blob {
        /// SHA-256 that names the blob.
        digest: Digest,
        /// What is wrong with it.
        fault: BlobFault,
    },
    /// The tree does not reach this inode number, or not as the kind that was asked for.
    NoInode(u64),
    /// This inode is no directory.
    NotDirectory(u64),
    /// A file of the root filesystem cannot be read.
    #[cfg(feature = "alloc")]
    Source {
        /// Path relative to the root.
        path: Vec<u8>,
        /// The system's error number.
        errno: i32,
    },
    /// A file changed while the build read it.
    #[cfg(feature = "alloc")]
    SourceChanged {
        /// Path relative to the root.
        path: Vec<u8>,
    },
    /// The store cannot be read or written.
    #[cfg(feature = "alloc")]
    Store {
        /// The file or directory.
        path: Vec<u8>,
        /// The system's error number.
        errno: i32,
    },
    /// A system call on a descriptor of the caller failed with this error number.
    Os(i32),
    /// The caller told the work to stop.
    Cancelled,
    /// Tables given to the metadata writer contradict themselves, or a call its own conditions.
    Contradiction(&'static str),
}

impl From<Rule> for Error {
    fn from(rule: Rule) -> Self {
        Self::Corrupt(rule)
    }
}

impl From<Unsupported> for Error {
    fn from(what: Unsupported) -> Self {
        Self::Unsupported(what)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(rule) => rule.fmt(f),
            Self::Unsupported(what) => what.fmt(f),
            Self::Blob { digest, fault } => write!(f, "blob sha256:{}: {fault}", Hex(digest)),
            Self::NoInode(ino) => write!(f, "no inode {ino}"),
            Self::NotDirectory(ino) => write!(f, "inode {ino} is no directory"),
            #[cfg(feature = "alloc")]
            Self::Source { path, errno } | Self::Store { path, errno } => {
                write!(f, "{}: system error {errno}", path.escape_ascii())
            }
            #[cfg(feature = "alloc")]
            Self::SourceChanged { path } => {
                write!(f, "{}: changed while it was read", path.escape_ascii())
            }
            Self::Os(errno) => write!(f, "system error {errno}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Contradiction(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for Error {}

/// What an image or this reader lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// Bits of `requiredFeatures`, all of them.
    RequiredFeatures(u64),
    /// A manifest version other than 3.
    ManifestVersion(u64),
    /// A directory that continues in a lower layer.
    LookBelow,
    /// Directories nested deeper than this many, where they are to be unpacked.
    DirectoryDepth(u32),
    /// A base that uses the highest inode number that there is.
    NoNumbersLeft,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequiredFeatures(bits) => {
                write!(f, "rootfs: required feature bits {bits:#x} are not known")
            }
            Self::ManifestVersion(version) => {
                write!(f, "rootfs: manifest version {version} is not 3")
            }
            Self::LookBelow => f.write_str("rootfs: lookBelow is set"),
            Self::DirectoryDepth(limit) => {
                write!(f, "directories are nested more than {limit} deep")
            }
            Self::NoNumbersLeft => f.write_str("the base leaves no inode numbers for new files"),
        }
    }
}

/// What is wrong with a blob of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobFault {
    /// There is no such file.
    Missing,
    /// Its SHA-256 is another.
    WrongContent,
    /// A chunk's offset and length reach past its (uncompressed) end.
    Short,
    /// The system's error number.
    CannotBeRead(i32),
    /// Its frames or seek table break a rule.
    Corrupt(Rule),
}

impl fmt::Display for BlobFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not in the store"),
            Self::WrongContent => f.write_str("content does not match the digest"),
            Self::Short => f.write_str("shorter than its chunk"),
            Self::CannotBeRead(errno) => write!(f, "cannot be read: system error {errno}"),
            Self::Corrupt(rule) => rule.fmt(f),
        }
    }
}

/// Defines [`Rule`] and the text of each rule in one table.
macro_rules! rules {
    ($($name:ident = $text:literal;)*) => {
        /// A rule of the format (docs/format.md) that bytes break. `Display` gives the rule's text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule { $(#[doc = $text] $name,)* }

        impl Rule {
            /// Returns the rule's text.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

rules! {
    TooLarge = "rootfs: too large";
    TruncatedSegmentTable = "rootfs: truncated segment table";
    TooManySegments = "rootfs: too many segments";
    SegmentsDoNotFill = "rootfs: segments do not fill the blob";
    FarPointerOutOfBounds = "rootfs: far pointer out of bounds";
    NestedFarPointer = "rootfs: nested far pointer";
    WrongPointerKind = "rootfs: wrong kind of pointer";
    WrongElementSize = "rootfs: wrong element size";
    ObjectOutOfBounds = "rootfs: object out of bounds";
    ObjectsOverlap = "rootfs: objects overlap";
    TooManyLayers = "rootfs: too many layers";
    InodeZero = "rootfs: inode number 0";
    InodesDoNotAscend = "rootfs: inode numbers do not ascend";
    UnknownKind = "rootfs: unknown inode kind";
    PermissionsOutOfRange = "rootfs: permissions out of range";
    NanosecondsOutOfRange = "rootfs: nanoseconds out of range";
    BadEntryName = "rootfs: bad entry name";
    BadDigestLength = "rootfs: bad digest length";
    FileTooLarge = "rootfs: file too large";
    BadAttributeKey = "rootfs: bad attribute key";
    BadAttributeValue = "rootfs: bad attribute value";
    BadLinkTarget = "rootfs: bad link target";
    BadVerityEntry = "rootfs: bad verity entry";
    NoRootDirectory = "rootfs: no root directory";
    EntryOfMissingInode = "rootfs: entry of a missing inode";
    DirectoryWithTwoParents = "rootfs: directory with two parents";
    DuplicateName = "rootfs: duplicate name";
    SeekTableMissing = "seek table missing";
    TooManyFrames = "too many frames";
    SeekTableMalformed = "seek table malformed";
    SeekTableMismatch = "seek table does not match the blob";
    FrameTooLarge = "frame too large";
    FrameDamaged = "frame damaged";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
