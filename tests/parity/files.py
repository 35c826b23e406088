"""Small images with their blobs on disk, and source trees with their plan."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from puzzlefs._fallback import encode_rootfs
from puzzlefs.records import SOURCE, Kind
from tests.strategies import Image, Node, pack


class Store(NamedTuple):
    """A directory of blobs."""

    path: Path

    @property
    def directory(self) -> bytes:
        return os.fsencode(self.path)

    def put(self, content: bytes) -> bytes:
        """Store a blob; return its digest."""
        digest = hashlib.sha256(content).digest()
        self.file(digest).write_bytes(content)
        return digest

    def file(self, digest: bytes) -> Path:
        return self.path / digest.hex()


def files_image(*files: list[tuple[bytes, int, int, int]]) -> bytes:
    """Return a rootfs blob whose root holds files 2, 3, … with these (digest, flags, offset, length) chunks."""
    nodes = [Node(ino, Kind.FILE, chunks=chunks) for ino, chunks in enumerate(files, 2)]
    root = Node(1, Kind.DIR, entries=[(b"file%d" % node.ino, node.ino) for node in nodes])
    return encode_rootfs(*pack(Image([[root, *nodes]])))


def source_row(path: Path | str) -> bytes:
    """Return what a scan says of a file."""
    now = os.lstat(path)
    return SOURCE.pack(now.st_size, now.st_dev, now.st_ino, now.st_mtime_ns, now.st_ctime_ns)


def joined(*paths: bytes) -> bytes:
    """Return paths as `StreamWriter.run` takes them."""
    return b"".join(path + b"\0" for path in paths)


def plan(root: Path) -> tuple[bytes, bytes]:
    """Return (paths, source rows) of a tree's regular files in stream order, for `StreamWriter.run`.

    A visit of a directory takes its entries by name, then its subdirectories depth first; a hard
    link counts once.
    """
    paths: list[bytes] = []
    met: set[tuple[int, int]] = set()

    def visit(directory: bytes) -> None:
        below = []
        for entry in sorted(os.scandir(os.path.join(os.fsencode(root), directory)), key=lambda entry: entry.name):
            now = entry.stat(follow_symlinks=False)
            path = os.path.join(directory, entry.name)
            if entry.is_dir(follow_symlinks=False):
                below.append(path)
            elif entry.is_file(follow_symlinks=False) and (now.st_dev, now.st_ino) not in met:
                paths.append(path)
            met.add((now.st_dev, now.st_ino))
        for path in below:
            visit(path)

    visit(b"")
    return joined(*paths), b"".join(source_row(os.fsdecode(os.path.join(os.fsencode(root), path))) for path in paths)
