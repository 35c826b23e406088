"""Media types, annotation keys and bounds. Rust has the same numbers in `limits.rs`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
ARTIFACT: Final = "application/vnd.puzzlefs.image.v1"
ROOTFS: Final = "application/vnd.puzzlefs.image.rootfs.v1"
FILEDATA: Final = "application/vnd.puzzlefs.image.filedata.v1"
FILEDATA_ZSTD: Final = FILEDATA + "+zstd"

REF_NAME: Final = "org.opencontainers.image.ref.name"
ROOTFS_VERITY: Final = "io.puzzlefsoci.puzzlefs.puzzlefs_verity_root_hash"

MANIFEST_VERSION: Final = 3

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

CHUNK_MIN: Final = 16 * KIB
CHUNK_AVERAGE: Final = 64 * KIB
CHUNK_MAX: Final = 256 * KIB

VERITY_BLOCK: Final = 4096

ZSTD_LEVEL: Final = 3
UPSTREAM_FRAME_SIZE: Final = 4 * KIB
FRAME_SIZE: Final = 64 * KIB
# Bytes before compression in a pack, on average: the default, the smallest and the largest choice.
PACK_SIZE: Final = 2 * MIB
PACK_SIZE_MIN: Final = 256 * KIB
PACK_SIZE_MAX: Final = 8 * MIB
# Whole chunks share frames in packs, up to so many bytes.
PACK_FRAME_SIZE: Final = 640 * KIB
# Bytes of a package's files from which on it shares no pack with another.
GROUP_SIZE_MIN: Final = 256 * KIB
# What a reader accepts in one frame; it bounds the memory of one decompression.
FRAME_SIZE_LIMIT: Final = 16 * MIB
STORED_FRAME_LIMIT: Final = 32 * MIB
FRAME_COUNT_LIMIT: Final = 1 << 20

ROOTFS_SIZE_LIMIT: Final = GIB
JSON_SIZE_LIMIT: Final = 64 * MIB
# Registries refuse larger manifests.
MANIFEST_SIZE_WARNING: Final = 4 * MIB
SEGMENT_LIMIT: Final = 512
VECTOR_LIMIT: Final = 4096
NAME_LIMIT: Final = 255
SYMLINK_LIMIT: Final = 4095
XATTR_KEY_LIMIT: Final = 255
XATTR_VALUE_LIMIT: Final = 64 * KIB
# Offsets and sizes fit the kernel's signed 64-bit loff_t.
FILE_SIZE_LIMIT: Final = (1 << 63) - 1
