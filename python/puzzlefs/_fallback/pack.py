"""Packs: which chunks share a blob (docs/format.md, Packs)."""

from __future__ import annotations


class PackRule:
    """Where packs of `average` bytes before compression end."""

    def __init__(self, average: int) -> None:
        self._average = average

    def is_full(self, size: int, length: int) -> bool:
        """Tell whether a pack of `size` bytes ends before a chunk of `length` bytes."""
        return size + length > 4 * self._average

    def ends(self, size: int, digest: bytes, length: int) -> bool:
        """Tell whether a pack of `size` bytes ends after its last chunk, given by SHA-256 and length."""
        drawn = int.from_bytes(digest[:8], "big") * (self._average // 4 * 3) >> 64
        return size >= self._average // 4 and drawn < length
