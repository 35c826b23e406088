"""Rootfs messages made word by word, so that any rule can be broken.

`Node` describes a struct; `message` lays a tree of them out in one segment, each object once and in
bounds. The pointer functions make single words for messages that are wrong in their pointers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Union

U64 = (1 << 64) - 1
DIGEST = bytes(range(32))

Object = Union["Node", bytes, list["Node"], None]


@dataclass
class Node:
    """A struct: words of data, then objects that its pointers lead to (None: a null pointer)."""

    data: list[int] = field(default_factory=list)
    pointers: list[Object] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.data), len(self.pointers)


def struct_pointer(offset: int, data: int, pointers: int) -> int:
    """Return a struct pointer; `offset` counts words from the word after it."""
    return (offset & 0x3FFFFFFF) << 2 | data << 32 | pointers << 48


def list_pointer(offset: int, code: int, count: int) -> int:
    """Return a list pointer; `count` is words for code 7, else elements."""
    return 1 | (offset & 0x3FFFFFFF) << 2 | code << 32 | count << 35


def far_pointer(segment: int, word: int, double: bool = False) -> int:
    """Return a far pointer to a landing pad of one word, or (double) of two."""
    return 2 | int(double) << 2 | word << 3 | segment << 32


def framed(*segments: list[int]) -> bytes:
    """Return a message of these segments."""
    header = struct.pack(f"<I{len(segments)}I", len(segments) - 1, *map(len, segments))
    words = [word & U64 for segment in segments for word in segment]
    return header + bytes(-len(header) % 8) + struct.pack(f"<{len(words)}Q", *words)


def message(root: Node) -> bytes:
    """Return a message of one segment whose root is `root`."""
    words = [0]
    _place(words, 0, root)
    return framed(words)


def _place(words: list[int], pointer: int, target: Object) -> None:
    """Append an object to the segment and let the word at `pointer` refer to it."""
    offset = len(words) - pointer - 1
    if isinstance(target, Node):
        words[pointer] = struct_pointer(offset, *target.shape)
        _place_structs(words, [target])
    elif isinstance(target, bytes):
        words[pointer] = list_pointer(offset, 2, len(target))
        padded = target + bytes(-len(target) % 8)
        words += struct.unpack(f"<{len(padded) // 8}Q", padded)
    elif target is not None:
        data, pointers = target[0].shape if target else (0, 0)
        words[pointer] = list_pointer(offset, 7, len(target) * (data + pointers))
        words.append(len(target) << 2 | data << 32 | pointers << 48)
        _place_structs(words, target)


def _place_structs(words: list[int], nodes: list[Node]) -> None:
    """Append structs of one shape, one after another, then the objects that they refer to."""
    first = len(words)
    for node in nodes:
        words += [*node.data, *([0] * len(node.pointers))]
    for row, node in enumerate(nodes):
        start = first + row * sum(node.shape) + len(node.data)
        for number, target in enumerate(node.pointers):
            _place(words, start + number, target)


# The format's structs, with sound values unless told otherwise.


def rootfs(
    layers: list[list[Node]] | None = None, verity: list[Node] | None = None, version: int = 3, features: int = 0
) -> Node:
    """Return a Rootfs; a layer is a list of inodes."""
    vectors: Object = None if layers is None else [Node([], [inodes]) for inodes in layers]
    return Node([version, features], [vectors, verity])


def inode(
    ino: int, tag: int, mode: Object = None, additional: Object = None, permissions: int = 0o755, nanoseconds: int = 0
) -> Node:
    """Return an Inode with times."""
    return Node([ino, tag | permissions << 16, nanoseconds << 32, 0], [mode, additional])


def directory(ino: int, *entries: tuple[bytes, int]) -> Node:
    """Return the Inode of a directory with these (name, number) entries."""
    return inode(ino, 3, Node([0], [[Node([number], [name]) for name, number in entries]]))


def chunk(digest: bytes | None = DIGEST, offset: int = 0, length: int = 1) -> Node:
    """Return a FileChunk."""
    return Node([length], [Node([offset, 0], [digest])])


def file(ino: int, *chunks: Node) -> Node:
    """Return the Inode of a file."""
    return inode(ino, 5, list(chunks))


def additional(xattrs: list[tuple[bytes, bytes]], target: bytes | None = None) -> Node:
    """Return an InodeAdditional."""
    return Node([], [[Node([], [key, value]) for key, value in xattrs], target])


def image(*inodes: Node, verity: list[Node] | None = None) -> bytes:
    """Return a message with one layer."""
    return message(rootfs([list(inodes)], verity))
