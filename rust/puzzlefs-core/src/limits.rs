//! Bounds of the format. Python has the same numbers in `constants.py`.

/// The only manifest version that is read and written.
pub const MANIFEST_VERSION: u64 = 3;

/// Bytes in the shortest chunk, unless the stream ends first.
pub const CHUNK_MIN: usize = 16 << 10;
/// Bytes in a chunk, on average.
pub const CHUNK_AVERAGE: usize = 64 << 10;
/// Bytes in the longest chunk.
pub const CHUNK_MAX: usize = 256 << 10;

/// Bytes in an fs-verity block.
pub const VERITY_BLOCK: usize = 4096;

/// The Zstandard level of every compressed blob.
pub const ZSTD_LEVEL: i32 = 3;
/// Uncompressed bytes in a frame of the original writer.
pub const UPSTREAM_FRAME_SIZE: usize = 4 << 10;
/// Bytes in a pack before compression, on average: the smallest and the largest choice.
pub const PACK_SIZE_MIN: u64 = 256 << 10;
/// See [`PACK_SIZE_MIN`].
pub const PACK_SIZE_MAX: u64 = 8 << 20;
/// Uncompressed bytes in the largest frame that a reader accepts; it bounds the memory of one decompression.
pub const FRAME_SIZE_LIMIT: usize = 16 << 20;
/// Bytes that one frame may take in a blob; they are in memory together while it is decompressed.
pub const STORED_FRAME_LIMIT: usize = 32 << 20;
/// Frames of one blob; their places are in memory together.
pub const FRAME_COUNT_LIMIT: u32 = 1 << 20;

/// Bytes in the largest rootfs blob.
pub const ROOTFS_SIZE_LIMIT: usize = 1 << 30;
/// Segments in a rootfs blob.
pub const SEGMENT_LIMIT: u32 = 512;
/// Layers in an image.
pub const VECTOR_LIMIT: usize = 4096;
/// Bytes in a directory entry's name.
pub const NAME_LIMIT: usize = 255;
/// Bytes in a symbolic link's target.
pub const SYMLINK_LIMIT: usize = 4095;
/// Bytes in the key of an extended attribute.
pub const XATTR_KEY_LIMIT: usize = 255;
/// Bytes in the value of an extended attribute.
pub const XATTR_VALUE_LIMIT: usize = 64 << 10;
/// Bytes in a file: offsets and sizes fit the kernel's signed 64-bit `loff_t`.
pub const FILE_SIZE_LIMIT: u64 = (1 << 63) - 1;
/// Permission bits: set-user-id, set-group-id, sticky and nine for access.
pub const PERMISSIONS_MASK: u16 = 0o7777;
/// Nanoseconds in a second; a time's fraction is less.
pub const NANOSECONDS: u32 = 1_000_000_000;
