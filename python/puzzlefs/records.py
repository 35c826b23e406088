"""Fixed-width little-endian records in which tables cross between Python and a backend.

A *vector* (one InodeVector of the format) is five tables: `inodes`, `entries`, `chunks`, `xattrs`
(records as below, concatenated) and `heap` (names, xattr keys and values, symlink targets; a
record points into it by offset and length). `first` and `amount` of an inode select consecutive
records: of `entries` for a directory, of `chunks` for a file. A device keeps its major number in
`first` and its minor number in `amount`. Both are 0 for every other kind.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


class Kind(IntEnum):
    """The tag of the format's mode union."""

    UNKNOWN = 0
    FIFO = 1
    CHR = 2
    DIR = 3
    BLK = 4
    FILE = 5
    LNK = 6
    SOCK = 7
    WHT = 8


class Times(IntEnum):
    """What becomes of modification times when a tree is scanned."""

    KEEP = 0
    AT_MOST = 1
    EXACTLY = 2


HAS_ADDITIONAL: Final = 1
"""Bit of `rows.InodeRecord.flags`: the inode has an InodeAdditional, perhaps an empty one."""

COMPRESSED: Final = 1
"""Bit of the flags of a `CHUNK` and of `rows.BlobRecord`: the blob's bytes are Zstandard frames."""

# ino, kind, permissions, uid, gid, mtime_nsec, mtime_sec, first, amount,
# xattr_first, xattr_count, flags, link_offset, link_length, 0
INODE: Final = Struct("<QHHIIIqQQQIIQII")
# ino, name_offset, name_length, 0
ENTRY: Final = Struct("<QQII")
# blob (row of the image's digest table), flags, offset in the uncompressed blob, length
CHUNK: Final = Struct("<IIQQ")
# key_offset, value_offset, key_length, value_length
XATTR: Final = Struct("<QQII")
# sha256 of the blob, its fs-verity digest
VERITY: Final = Struct("<32s32s")

# What the build engine is given for a file, and what it gives back for a blob.
# size, st_dev, st_ino, mtime in ns, ctime in ns, both modulo 2^64 as signed numbers
SOURCE: Final = Struct("<QQQqq")
# sha256 and fs-verity digest of the stored bytes, stored size, uncompressed size, flags, 0
BLOB: Final = Struct("<32s32sQQII")
# A chunk: its sha256, row of the blob that has it, length, offset in the uncompressed blob.
CONTENT: Final = Struct("<32sIIQ")


assert INODE.size == 80 and ENTRY.size == 24 and CHUNK.size == 24
assert XATTR.size == 24 and VERITY.size == 64 and SOURCE.size == 40 and BLOB.size == 88
