"""Cap'n Proto messages, read strictly (docs/format.md, section 9, Framing and Pointers).

Positions, offsets and sizes are in words of eight bytes unless a name says bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct as Layout
from struct import unpack_from
from typing import Final, NamedTuple

from puzzlefs.constants import ROOTFS_SIZE_LIMIT, SEGMENT_LIMIT
from puzzlefs.errors import CorruptImageError

STRUCT, LIST, FAR = 0, 1, 2
BYTE_ELEMENTS: Final = 2
STRUCT_ELEMENTS: Final = 7
WORD: Final = Layout("<Q")


def require(holds: bool, rule: str) -> None:
    """Raise `CorruptImageError` with the rule's text unless it holds."""
    if not holds:
        raise CorruptImageError(f"rootfs: {rule}")


def _offset(pointer: int) -> int:
    """Return the signed 30-bit offset of a struct or list pointer."""
    value = pointer >> 2 & 0x3FFFFFFF
    return value - (1 << 30) if value >> 29 else value


class Target(NamedTuple):
    """What a pointer leads to, far pointers followed."""

    segment: int
    start: int
    pointer: int

    def check_kind(self, kind: int) -> None:
        require(self.pointer & 3 == kind, "wrong kind of pointer")


class Message:
    """The segments of a message, and how many of their words no object has used yet."""

    def __init__(self, data: bytes) -> None:
        require(len(data) <= ROOTFS_SIZE_LIMIT, "too large")
        require(len(data) >= 8, "truncated segment table")
        count = int.from_bytes(data[:4], "little") + 1
        require(count <= SEGMENT_LIMIT, "too many segments")
        header = (count // 2 + 1) * 8
        require(len(data) >= header, "truncated segment table")
        self._sizes = unpack_from(f"<{count}I", data, 4)
        require(header + sum(self._sizes) * 8 == len(data), "segments do not fill the blob")
        self._data = data
        self._starts = [header + sum(self._sizes[:row]) * 8 for row in range(count)]
        self._unused = sum(self._sizes)

    def root(self) -> Struct:
        """Return the struct that word 0 of segment 0 points to."""
        self._check_bounds(0, 0, 1)
        self._take(1)
        return self.struct_at(0, 0)

    def bytes_at(self, segment: int, position: int, length: int) -> bytes:
        """Return `length` bytes from word `position`, which the caller has checked."""
        start = self._starts[segment] + position * 8
        return self._data[start : start + length]

    def word_at(self, segment: int, position: int) -> int:
        word: int = WORD.unpack_from(self._data, self._starts[segment] + position * 8)[0]
        return word

    def _take(self, words: int) -> None:
        require(words <= self._unused, "objects overlap")
        self._unused -= words

    def _check_bounds(self, segment: int, start: int, words: int) -> None:
        require(start >= 0 and start + words <= self._sizes[segment], "object out of bounds")

    def _resolve(self, segment: int, position: int) -> Target | None:
        pointer = self.word_at(segment, position)
        if pointer == 0:
            return None
        if pointer & 3 != FAR:
            return Target(segment, position + 1 + _offset(pointer), pointer)
        return self._follow_far(pointer)

    def _follow_far(self, pointer: int) -> Target:
        """Follow a far pointer to its landing pad: a pointer, or (double) a far pointer and a tag."""
        words = 1 + (pointer >> 2 & 1)
        segment, pad = pointer >> 32, pointer >> 3 & 0x1FFFFFFF
        self._check_far(segment, pad + words)
        first = self.word_at(segment, pad)
        if words == 1:
            self._take(1)
            require(first & 3 != FAR, "nested far pointer")
            return Target(segment, pad + 1 + _offset(first), first)
        require(first & 7 == FAR, "far pointer out of bounds")
        landing, start = first >> 32, first >> 3 & 0x1FFFFFFF
        self._check_far(landing, start)
        self._take(2)
        tag = self.word_at(segment, pad + 1)
        require(tag & 3 != FAR, "nested far pointer")
        return Target(landing, start, tag)

    def _check_far(self, segment: int, end: int) -> None:
        require(segment < len(self._sizes) and end <= self._sizes[segment], "far pointer out of bounds")

    def struct_at(self, segment: int, position: int) -> Struct:
        """Return the struct that the pointer at `position` refers to; null is an empty one."""
        target = self._resolve(segment, position)
        if target is None:
            return Struct(self, 0, 0, 0, 0)
        target.check_kind(STRUCT)
        data, pointers = target.pointer >> 32 & 0xFFFF, target.pointer >> 48
        self._check_bounds(target.segment, target.start, data + pointers)
        self._take(data + pointers)
        return Struct(self, target.segment, target.start, data, pointers)

    def list_at(self, segment: int, position: int) -> StructList:
        """Return the list of structs that the pointer at `position` refers to; null is an empty one."""
        target = self._resolve(segment, position)
        if target is None:
            return StructList(0, Struct(self, 0, 0, 0, 0))
        target.check_kind(LIST)
        require(target.pointer >> 32 & 7 == STRUCT_ELEMENTS, "wrong element size")
        words = target.pointer >> 35
        self._check_bounds(target.segment, target.start, 1 + words)
        tag = self.word_at(target.segment, target.start)
        require(tag & 3 == STRUCT, "wrong element size")
        count, data, pointers = tag >> 2 & 0x3FFFFFFF, tag >> 32 & 0xFFFF, tag >> 48
        require(count * (data + pointers) <= words, "object out of bounds")
        self._take(1 + max(count * (data + pointers), count))
        return StructList(count, Struct(self, target.segment, target.start + 1, data, pointers))

    def data_at(self, segment: int, position: int) -> bytes:
        """Return the Data that the pointer at `position` refers to; null is empty."""
        target = self._resolve(segment, position)
        if target is None:
            return b""
        target.check_kind(LIST)
        require(target.pointer >> 32 & 7 == BYTE_ELEMENTS, "wrong element size")
        length = target.pointer >> 35
        words = (length + 7) // 8
        self._check_bounds(target.segment, target.start, words)
        self._take(words)
        return self.bytes_at(target.segment, target.start, length)


class Struct(NamedTuple):
    """A struct, its bounds checked. Fields beyond its sizes read as zero or null."""

    message: Message
    segment: int
    start: int
    data_words: int
    pointer_count: int

    def u64(self, word: int) -> int:
        """Return a word of the data section."""
        return self.message.word_at(self.segment, self.start + word) if word < self.data_words else 0

    def bits(self, first: int, count: int) -> int:
        """Return `count` bits of the data section from bit `first`, all in one word."""
        return self.u64(first // 64) >> first % 64 & (1 << count) - 1

    def has(self, pointer: int) -> bool:
        """Tell whether a pointer is there and not null."""
        return pointer < self.pointer_count and self.message.word_at(*self._pointer(pointer)) != 0

    def struct(self, pointer: int) -> Struct:
        if pointer >= self.pointer_count:
            return Struct(self.message, 0, 0, 0, 0)
        return self.message.struct_at(*self._pointer(pointer))

    def list(self, pointer: int) -> StructList:
        if pointer >= self.pointer_count:
            return StructList(0, Struct(self.message, 0, 0, 0, 0))
        return self.message.list_at(*self._pointer(pointer))

    def data(self, pointer: int) -> bytes:
        return self.message.data_at(*self._pointer(pointer)) if pointer < self.pointer_count else b""

    def _pointer(self, pointer: int) -> tuple[int, int]:
        return self.segment, self.start + self.data_words + pointer


class StructList(NamedTuple):
    """`length` structs of one shape, one after another from `first`."""

    length: int
    first: Struct

    def items(self) -> Iterator[Struct]:
        words = self.first.data_words + self.first.pointer_count
        for row in range(self.length):
            yield self.first._replace(start=self.first.start + row * words)
