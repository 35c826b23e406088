"""What an image says of its tree, in a form in which two images can be compared inode for inode."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from puzzlefs.image import Image
from puzzlefs.records import Kind


def described(image: Image | str) -> dict[bytes, tuple[Any, ...]]:
    """Return for each path all that its inode says, its content's digest, and the first path of the inode."""
    opened = Image.open(image) if isinstance(image, str) else image
    index, reader = opened.index, opened.reader()
    first: dict[int, bytes] = {1: b""}
    tree = {}
    for path, ino in [(b"", 1), *opened.walk()]:
        stat = index.stat(ino)
        content = b"" if stat[1] != Kind.FILE else sha256(reader.read(ino, 0, stat[7])).digest()
        tree[path] = (*stat[1:], index.xattrs(ino), index.symlink(ino), content, first.setdefault(ino, path))
    return tree


def differing(one: Image | str, other: Image | str) -> list[tuple[bytes, Any, Any]]:
    """Return (path, what the one says of it, what the other says), None for nothing, where they differ."""
    ours, theirs = described(one), described(other)
    return [
        (path, ours.get(path), theirs.get(path))
        for path in sorted({*ours, *theirs})
        if ours.get(path) != theirs.get(path)
    ]
