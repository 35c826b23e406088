"""The kernel's fs-verity digest (docs/format.md, fs-verity digest): SHA-256, 4,096-byte blocks, no salt."""

from __future__ import annotations

import os
from hashlib import sha256
from struct import Struct
from typing import Final

from puzzlefs.constants import MIB, VERITY_BLOCK

# version, hash algorithm (SHA-256), log2 of the block size, salt size, 0, data size, root hash, salt, 0
DESCRIPTOR: Final = Struct("<BBBBIQ64s32s144s")
assert DESCRIPTOR.size == 256


def _block_hash(block: bytes) -> bytes:
    return sha256(block.ljust(VERITY_BLOCK, b"\0")).digest()


class VerityHasher:
    """Hashes data that arrives in pieces; keeps one unfinished block for each level of the tree."""

    def __init__(self) -> None:
        self._size = 0
        self._levels: list[bytearray] = []

    def update(self, data: bytes) -> None:
        self._size += len(data)
        self._push(0, data)

    def _push(self, level: int, data: bytes) -> None:
        if level == len(self._levels):
            self._levels.append(bytearray())
        pending = self._levels[level]
        pending += data
        # The last block waits: a level that is a single block is the root, or the data itself.
        while len(pending) > VERITY_BLOCK:
            self._push(level + 1, _block_hash(bytes(pending[:VERITY_BLOCK])))
            del pending[:VERITY_BLOCK]

    def digest(self) -> bytes:
        """Return the digest of all data; nothing may be added afterwards."""
        root = bytes(32)
        level = 0
        while self._size and level < len(self._levels):
            root = _block_hash(bytes(self._levels[level]))
            level += 1
            if level < len(self._levels):
                self._push(level, root)
        return sha256(DESCRIPTOR.pack(1, 1, 12, 0, 0, self._size, root, b"", b"")).digest()


def verity_digest(data: bytes) -> bytes:
    """Return the fs-verity digest of `data`, 32 bytes."""
    hasher = VerityHasher()
    for start in range(0, len(data), MIB):
        hasher.update(data[start : start + MIB])
    return hasher.digest()


def hash_bytes(data: bytes) -> tuple[bytes, bytes]:
    """Return (sha256, fs-verity digest) of `data`."""
    return sha256(data).digest(), verity_digest(data)


def hash_file(fd: int) -> tuple[int, bytes, bytes]:
    """Return (size, sha256, fs-verity digest) of a file, read by position. Raises `OSError`."""
    size, content, verity = 0, sha256(), VerityHasher()
    while piece := os.pread(fd, MIB, size):
        size += len(piece)
        content.update(piece)
        verity.update(piece)
    return size, content.digest(), verity.digest()
