"""Tables to a rootfs blob, byte for byte as the original writes it (docs/format.md, Rootfs blob).

Which object goes where follows from two things: the order of allocation, which is the order of the
statements below, and the allocator, which fills segments of growing size.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack, pack_into
from typing import Final, NamedTuple

from puzzlefs.constants import MANIFEST_VERSION
from puzzlefs.records import CHUNK, COMPRESSED, ENTRY, HAS_ADDITIONAL, INODE, VERITY, XATTR, Kind
from puzzlefs.rows import InodeRecord, Vector

from .message import BYTE_ELEMENTS, FAR, LIST, STRUCT, STRUCT_ELEMENTS
from .tables import check, inode_records, require, rows, text

FIRST_SEGMENT_WORDS: Final = 1024
SEGMENT_WORDS_LIMIT: Final = 1 << 29
DIGEST_SIZE: Final = 32

ROOTFS: Final = (1, 2)
INODE_VECTOR: Final = (0, 1)
INODE_PLAIN: Final = (3, 2)
INODE_WITH_TIME: Final = (4, 2)
DIRECTORY: Final = (1, 1)
DIR_ENTRY: Final = (1, 1)
DEVICE: Final = (2, 0)
FILE_CHUNK: Final = (1, 1)
BLOB_REF: Final = (2, 1)
ADDITIONAL: Final = (0, 2)
XATTR_SHAPE: Final = (0, 2)
VERITY_SHAPE: Final = (0, 2)


class _Place(NamedTuple):
    """A word of a segment."""

    segment: int
    word: int

    def plus(self, words: int) -> _Place:
        return _Place(self.segment, self.word + words)


class _Builder:
    """Segments being filled. An object goes where its pointer is, else to the first segment with room."""

    def __init__(self) -> None:
        self._segments: list[bytearray] = []
        self._capacities: list[int] = []
        self._next_size = FIRST_SEGMENT_WORDS
        self.root = self._allocate_anywhere(1)

    def message(self) -> bytes:
        sizes = [len(segment) // 8 for segment in self._segments]
        header = pack(f"<I{len(sizes)}I", len(sizes) - 1, *sizes)
        return header + bytes(-len(header) % 8) + b"".join(self._segments)

    def _allocate(self, segment: int, words: int) -> _Place | None:
        used = len(self._segments[segment]) // 8
        if words > self._capacities[segment] - used:
            return None
        self._segments[segment] += bytes(words * 8)
        return _Place(segment, used)

    def _allocate_anywhere(self, words: int) -> _Place:
        for segment in range(len(self._segments)):
            if place := self._allocate(segment, words):
                return place
        size = max(words, self._next_size)
        self._next_size = min(self._next_size + size, SEGMENT_WORDS_LIMIT)
        self._segments.append(bytearray())
        self._capacities.append(size)
        return _Place(len(self._segments) - 1, 0) if words == 0 else self._allocate_anywhere(words)

    def _object(self, pointer: _Place, kind: int, shape: int, words: int) -> _Place:
        """Allocate an object and let the pointer refer to it; `shape` is the pointer's upper half."""
        place = self._allocate(pointer.segment, words)
        if place is None:
            pad = self._allocate_anywhere(words + 1)
            self._put(pointer, pad.word << 3 | FAR, pad.segment)
            pointer, place = pad, pad.plus(1)
        self._put(pointer, place.word - pointer.word - 1 << 2 & 0xFFFFFFFF | kind, shape)
        return place

    def _put(self, place: _Place, low: int, high: int) -> None:
        pack_into("<II", self._segments[place.segment], place.word * 8, low, high)

    def put_bits(self, place: _Place, first: int, layout: str, value: int) -> None:
        """Store a value of one `struct` format at bit `first` of the object at `place`."""
        pack_into("<" + layout, self._segments[place.segment], place.word * 8 + first // 8, value)

    def struct(self, pointer: _Place, shape: tuple[int, int]) -> _Place:
        return self._object(pointer, STRUCT, shape[0] | shape[1] << 16, sum(shape))

    def list(self, pointer: _Place, count: int, shape: tuple[int, int]) -> list[_Place]:
        """Allocate a list of `count` structs; return their places."""
        words = count * sum(shape)
        tag = self._object(pointer, LIST, STRUCT_ELEMENTS | words << 3, words + 1)
        self._put(tag, count << 2, shape[0] | shape[1] << 16)
        return [tag.plus(1 + row * sum(shape)) for row in range(count)]

    def data(self, pointer: _Place, data: bytes) -> None:
        place = self._object(pointer, LIST, BYTE_ELEMENTS | len(data) << 3, (len(data) + 7) // 8)
        self._segments[place.segment][place.word * 8 : place.word * 8 + len(data)] = data


def encode_rootfs(digests: bytes, verity: bytes, vectors: Sequence[Vector]) -> bytes:
    """Return the rootfs blob for tables as `decode_rootfs` gives them. Raises `ValueError`."""
    require(len(digests) % DIGEST_SIZE == 0, "the digest table does not hold whole digests")
    require(len(verity) % VERITY.size == 0, "the verity table does not hold whole records")
    layers = [Vector(*vector) for vector in vectors]
    for layer in layers:
        check(layer, len(digests) // DIGEST_SIZE)
    builder = _Builder()
    rootfs = builder.struct(builder.root, ROOTFS)
    for place, layer in zip(builder.list(rootfs.plus(1), len(layers), INODE_VECTOR), layers, strict=True):
        _VectorEncoder(builder, digests, layer).encode(place)
    places = builder.list(rootfs.plus(2), len(verity) // VERITY.size, VERITY_SHAPE)
    for place, (digest, value) in zip(places, VERITY.iter_unpack(verity), strict=True):
        builder.data(place, digest)
        builder.data(place.plus(1), value)
    builder.put_bits(rootfs, 0, "Q", MANIFEST_VERSION)
    return builder.message()


class _VectorEncoder:
    """Writes one InodeVector."""

    def __init__(self, builder: _Builder, digests: bytes, vector: Vector) -> None:
        self._builder = builder
        self._digests = digests
        self._vector = vector
        timed = any(inode.mtime_sec or inode.mtime_nsec for inode in inode_records(vector))
        self._shape = INODE_WITH_TIME if timed else INODE_PLAIN

    def encode(self, place: _Place) -> None:
        places = self._builder.list(place, len(self._vector.inodes) // INODE.size, self._shape)
        for row, inode in zip(places, inode_records(self._vector), strict=True):
            self._inode(row, inode)

    def _text(self, pointer: _Place, offset: int, length: int) -> None:
        self._builder.data(pointer, text(self._vector, offset, length))

    def _inode(self, place: _Place, inode: InodeRecord) -> None:
        put = self._builder.put_bits
        put(place, 0, "Q", inode.ino)
        put(place, 64, "H", inode.kind)
        put(place, 80, "H", inode.permissions)
        put(place, 96, "I", inode.uid)
        put(place, 128, "I", inode.gid)
        if self._shape is INODE_WITH_TIME:
            put(place, 160, "I", inode.mtime_nsec)
            put(place, 192, "q", inode.mtime_sec)
        pointers = place.plus(self._shape[0])
        self._mode(pointers, inode)
        if inode.flags & HAS_ADDITIONAL:
            self._additional(pointers.plus(1), inode)

    def _mode(self, pointer: _Place, inode: InodeRecord) -> None:
        if inode.kind in (Kind.CHR, Kind.BLK):
            device = self._builder.struct(pointer, DEVICE)
            self._builder.put_bits(device, 0, "Q", inode.first)
            self._builder.put_bits(device, 64, "Q", inode.amount)
        elif inode.kind == Kind.DIR:
            self._entries(pointer, inode)
        elif inode.kind == Kind.FILE:
            self._chunks(pointer, inode)

    def _entries(self, pointer: _Place, inode: InodeRecord) -> None:
        directory = self._builder.struct(pointer, DIRECTORY)
        places = self._builder.list(directory.plus(1), inode.amount, DIR_ENTRY)
        entries = rows(self._vector.entries, ENTRY, inode.first, inode.amount)
        for place, (ino, offset, length, _) in zip(places, entries, strict=True):
            self._builder.put_bits(place, 0, "Q", ino)
            self._text(place.plus(1), offset, length)

    def _chunks(self, pointer: _Place, inode: InodeRecord) -> None:
        places = self._builder.list(pointer, inode.amount, FILE_CHUNK)
        chunks = rows(self._vector.chunks, CHUNK, inode.first, inode.amount)
        for place, (digest, flags, offset, length) in zip(places, chunks, strict=True):
            blob = self._builder.struct(place.plus(1), BLOB_REF)
            self._builder.data(blob.plus(2), self._digests[digest * DIGEST_SIZE : (digest + 1) * DIGEST_SIZE])
            self._builder.put_bits(blob, 0, "Q", offset)
            self._builder.put_bits(blob, 64, "B", flags & COMPRESSED)
            self._builder.put_bits(place, 0, "Q", length)

    def _additional(self, pointer: _Place, inode: InodeRecord) -> None:
        additional = self._builder.struct(pointer, ADDITIONAL)
        places = self._builder.list(additional, inode.xattr_count, XATTR_SHAPE)
        xattrs = rows(self._vector.xattrs, XATTR, inode.xattr_first, inode.xattr_count)
        for place, (key, value, key_length, value_length) in zip(places, xattrs, strict=True):
            # The original fills the second field first.
            self._text(place.plus(1), value, value_length)
            self._text(place, key, key_length)
        if inode.link_length:
            self._text(additional.plus(1), inode.link_offset, inode.link_length)
