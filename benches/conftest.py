"""What the hot paths are measured on: the same bytes for both backends, made without chance."""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path

import pytest

from puzzlefs import constants
from puzzlefs._native import Backend, load
from puzzlefs.records import CHUNK, COMPRESSED, ENTRY, INODE, SOURCE, VERITY, Kind
from puzzlefs.rows import Vector


@pytest.fixture(params=["rust", "python"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    return load(request.param)


@pytest.fixture(scope="session")
def noise() -> bytes:
    """4 MiB that do not compress."""
    return random.Random(1).randbytes(4 * constants.MIB)


@pytest.fixture(scope="session")
def text() -> bytes:
    """1 MiB of Python's own sources."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return b"".join(source.read_bytes() for source in sources)[: constants.MIB]


@pytest.fixture(scope="session")
def tables() -> tuple[bytes, bytes, Vector]:
    """The digest table, verity table and vector of 100 directories with 100 files each."""
    directories, files = 100, 100
    chance = random.Random(2)
    digests = [chance.randbytes(32) for _ in range(1000)]
    entries, chunks, heap = bytearray(), bytearray(), bytearray()
    inodes = [_inode(1, Kind.DIR, 0, directories)]

    def enter(number: int, name: bytes) -> None:
        entries.extend(ENTRY.pack(number, len(heap), len(name), 0))
        heap.extend(name)

    for row in range(directories):
        enter(2 + row, b"directory-%04d" % row)
        inodes.append(_inode(2 + row, Kind.DIR, directories + row * files, files))
    for row in range(directories * files):
        number = 2 + directories + row
        enter(number, b"file-%06d" % row)
        inodes.append(_inode(number, Kind.FILE, row, 1))
        # Every digest is mentioned in turn, so that the table is in order of first mention.
        chunks.extend(CHUNK.pack(row % len(digests), COMPRESSED, 4096, 1 + row))
    vector = Vector(b"".join(inodes), bytes(entries), bytes(chunks), b"", bytes(heap))
    return b"".join(digests), b"".join(VERITY.pack(digest, bytes(32)) for digest in sorted(digests)), vector


def _inode(number: int, kind: Kind, first: int, count: int) -> bytes:
    return INODE.pack(number, kind, 0o755, 0, 0, 1, 1_700_000_000, first, count, 0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, bytes]:
    """A directory, the names of 300 files in it (8 MiB of text and noise), and their source rows."""
    root = tmp_path_factory.mktemp("tree")
    sources = b"".join(path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    chance = random.Random(3)
    names, rows = b"", []
    for number in range(300):
        start = chance.randrange(len(sources))
        content = sources[start : start + 26000] if number % 3 else chance.randbytes(32000)
        path = root / f"{number:03}"
        path.write_bytes(content)
        status = path.stat()
        names += path.name.encode() + b"\0"
        rows.append(SOURCE.pack(status.st_size, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns))
    return str(root).encode(), names, b"".join(rows)
