"""An initramfs: a cpio archive of the kernel's "newc" kind, which the kernel unpacks into its first root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

_EXECUTABLE = 0o100755
_DIRECTORY = 0o040755


class Archive:
    """Writes files and the directories above them, each once; symbolic links are followed."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._known: set[str] = set()

    def tree(self, source: Path, place: Path, without: Iterable[str] = ()) -> None:
        """Add a file or a directory with all below it as `place`; names in `without` are left out."""
        if source.is_file():
            self.file(place, source.read_bytes(), source.stat())
            return
        for entry in sorted(source.iterdir()):
            if entry.name not in without:
                self.tree(entry, place / entry.name, without)

    def file(self, place: Path, content: bytes, status: os.stat_result | None = None) -> None:
        """Add a file, executable. Its time stays: Python compares it with the one in compiled files."""
        if str(place) in self._known:
            return
        for directory in reversed(place.parents):
            self._entry(str(directory), _DIRECTORY, b"", 0)
        self._entry(str(place), _EXECUTABLE, content, int(status.st_mtime) if status else 0)

    def close(self) -> None:
        """Write the entry that ends the archive."""
        self._entry("TRAILER!!!", 0, b"", 0)

    def _entry(self, place: str, mode: int, content: bytes, mtime: int) -> None:
        name = place.lstrip("/").encode() + b"\0"
        if place in self._known or name == b"\0":
            return
        self._known.add(place)
        ino = len(self._known)
        links = 2 if stat.S_ISDIR(mode) else 1
        # ino, mode, uid, gid, nlink, mtime, filesize, device and rdevice in two parts each, namesize, check
        fields = ino, mode, 0, 0, links, mtime, len(content), 0, 0, 0, 0, len(name), 0
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._write(header + name)
        self._write(content)

    def _write(self, part: bytes) -> None:
        self._output.write(part + bytes(-len(part) % 4))
