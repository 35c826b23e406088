"""A look at every inode that a snapshot tells: which of them are as they were."""

from __future__ import annotations

import os
from typing import NamedTuple

from .directory import open_directory, reported
from .snapshot import Known, identity, read_snapshot
from .trace import UNKNOWN

_ALWAYS = (1 << 63) - 1


class Seen(NamedTuple):
    """An entry as it is now, and whether that is what the snapshot says."""

    known: Known
    status: os.stat_result
    is_same: bool


class Look:
    """What became of a snapshot's inodes; see `puzzlefs._native.Look`.

    root     what became of the root
    entries  the same of the entries of each directory, by its path: None for what is not there any more
    """

    def __init__(self, root: bytes, snapshot: bytes) -> None:
        with reported(b""):
            top = open_directory(root, b"")
        status = os.fstat(top)
        os.close(top)
        self.snapshot = read_snapshot(snapshot)
        self.entries: dict[bytes, dict[bytes, Seen | None]] = {}
        if self.snapshot:
            self.root = _compared(self.snapshot.root, status)
            for path, known in self.snapshot.directories.items():
                self.entries[path] = _looked(root, path, known)

    @property
    def is_unchanged(self) -> bool:
        """Whether all is as it was, and there is nothing else."""
        if not self.snapshot:
            return False
        below = (seen for entries in self.entries.values() for seen in entries.values())
        return self.root.is_same and all(seen is not None and seen.is_same for seen in below)


def _looked(root: bytes, path: bytes, known: list[Known]) -> dict[bytes, Seen | None]:
    found: dict[bytes, Seen | None] = dict.fromkeys(entry.name for entry in known)
    try:
        directory = open_directory(root, path)
    except (OSError, ValueError):
        return found
    try:
        for entry in known:
            try:
                status = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                continue
            found[entry.name] = _compared(entry, status)
    finally:
        os.close(directory)
    return found


def _compared(known: Known, status: os.stat_result) -> Seen:
    return Seen(known, status, known.identity != UNKNOWN and known.identity == identity(status, _ALWAYS))
