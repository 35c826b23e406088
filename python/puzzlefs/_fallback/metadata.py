"""The rootfs blob as tables (docs/format.md, Rootfs blob, and section 9, Values).

Fields are read in the order that section 9 gives, so that the first broken rule is the one reported.
"""

from __future__ import annotations

from puzzlefs.constants import (
    FILE_SIZE_LIMIT,
    MANIFEST_VERSION,
    NAME_LIMIT,
    SYMLINK_LIMIT,
    VECTOR_LIMIT,
    XATTR_KEY_LIMIT,
    XATTR_VALUE_LIMIT,
)
from puzzlefs.errors import UnsupportedError
from puzzlefs.records import CHUNK, COMPRESSED, ENTRY, HAS_ADDITIONAL, INODE, VERITY, XATTR, Kind
from puzzlefs.rows import InodeRecord

from .message import Message, Struct, StructList, require

RawVector = tuple[bytes, bytes, bytes, bytes, bytes]


def decode_rootfs(rootfs: bytes) -> tuple[int, bytes, bytes, list[RawVector]]:
    """Return (manifest version, digest table, verity table, vectors uppermost first)."""
    root = Message(rootfs).root()
    features, version = root.u64(1), root.u64(0)
    if features:
        raise UnsupportedError(f"rootfs: required feature bits {features:#x} are not known")
    if version != MANIFEST_VERSION:
        raise UnsupportedError(f"rootfs: manifest version {version} is not {MANIFEST_VERSION}")
    layers = root.list(0)
    require(layers.length <= VECTOR_LIMIT, "too many layers")
    digests: dict[bytes, int] = {}
    vectors = [_VectorDecoder(digests).decode(layer.list(0)) for layer in layers.items()]
    verity = b"".join(_verity_entry(entry) for entry in root.list(1).items())
    return version, b"".join(digests), verity, vectors


def _verity_entry(entry: Struct) -> bytes:
    digest, verity = entry.data(0), entry.data(1)
    require(len(digest) == 32 and len(verity) == 32, "bad verity entry")
    return VERITY.pack(digest, verity)


class _VectorDecoder:
    """Collects the five tables of one InodeVector; `digests` is shared by all."""

    def __init__(self, digests: dict[bytes, int]) -> None:
        self._digests = digests
        self._inodes = bytearray()
        self._entries = bytearray()
        self._chunks = bytearray()
        self._xattrs = bytearray()
        self._heap = bytearray()

    def decode(self, inodes: StructList) -> RawVector:
        previous = 0
        for inode in inodes.items():
            record = self._inode(inode, previous)
            previous = record.ino
            self._inodes += INODE.pack(*record)
        tables = self._inodes, self._entries, self._chunks, self._xattrs, self._heap
        return bytes(tables[0]), bytes(tables[1]), bytes(tables[2]), bytes(tables[3]), bytes(tables[4])

    def _keep(self, data: bytes) -> int:
        """Append `data` to the heap and return where it starts."""
        self._heap += data
        return len(self._heap) - len(data)

    def _inode(self, inode: Struct, previous: int) -> InodeRecord:
        ino = inode.u64(0)
        require(ino != 0, "inode number 0")
        require(ino > previous, "inode numbers do not ascend")
        kind, permissions, nanoseconds = inode.bits(64, 16), inode.bits(80, 16), inode.bits(160, 32)
        require(Kind.FIFO <= kind <= Kind.WHT, "unknown inode kind")
        require(permissions <= 0o7777, "permissions out of range")
        require(nanoseconds < 1_000_000_000, "nanoseconds out of range")
        seconds = inode.u64(3)
        seconds -= seconds >> 63 << 64
        owner = inode.bits(96, 32), inode.bits(128, 32)
        first, count = self._mode(inode, kind)
        additional = self._additional(inode, kind)
        return InodeRecord(ino, kind, permissions, *owner, nanoseconds, seconds, first, count, *additional, 0)

    def _mode(self, inode: Struct, kind: int) -> tuple[int, int]:
        """Read the mode's object: (first, count) of entries or chunks, (major, minor) of a device."""
        if kind in (Kind.CHR, Kind.BLK):
            device = inode.struct(0)
            return device.u64(0), device.u64(1)
        if kind == Kind.DIR:
            return self._directory(inode.struct(0))
        if kind == Kind.FILE:
            return self._file(inode.list(0))
        return 0, 0

    def _directory(self, directory: Struct) -> tuple[int, int]:
        if directory.bits(0, 1):
            raise UnsupportedError("rootfs: lookBelow is set")
        first, entries = len(self._entries) // ENTRY.size, directory.list(0)
        for entry in entries.items():
            ino, name = entry.u64(0), entry.data(0)
            sound = 0 < len(name) <= NAME_LIMIT and name not in (b".", b"..") and not {0, ord("/")} & set(name)
            require(sound, "bad entry name")
            self._entries += ENTRY.pack(ino, self._keep(name), len(name), 0)
        return first, entries.length

    def _file(self, chunks: StructList) -> tuple[int, int]:
        first, size = len(self._chunks) // CHUNK.size, 0
        for chunk in chunks.items():
            blob = chunk.struct(0)
            digest = blob.data(0)
            require(len(digest) == 32, "bad digest length")
            offset, length = blob.u64(0), chunk.u64(0)
            size += length
            require(max(offset + length, size) <= FILE_SIZE_LIMIT, "file too large")
            row = self._digests.setdefault(digest, len(self._digests))
            self._chunks += CHUNK.pack(row, COMPRESSED if blob.bits(64, 1) else 0, offset, length)
        return first, chunks.length

    def _additional(self, inode: Struct, kind: int) -> tuple[int, int, int, int, int]:
        """Return (xattr_first, xattr_count, flags, link_offset, link_length)."""
        additional = inode.struct(1)
        first, xattrs = len(self._xattrs) // XATTR.size, additional.list(0)
        for xattr in xattrs.items():
            key = xattr.data(0)
            require(0 < len(key) <= XATTR_KEY_LIMIT and 0 not in key, "bad attribute key")
            value = xattr.data(1)
            require(len(value) <= XATTR_VALUE_LIMIT, "bad attribute value")
            self._xattrs += XATTR.pack(self._keep(key), self._keep(value), len(key), len(value))
        target = additional.data(1)
        if kind == Kind.LNK:
            require(0 < len(target) <= SYMLINK_LIMIT and 0 not in target, "bad link target")
        flags = HAS_ADDITIONAL if inode.has(1) else 0
        return first, xattrs.length, flags, self._keep(target), len(target)
