"""One request costs the same in a large directory as in a small one, in a large file as in a small one."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from puzzlefs._native import Backend, Index
from puzzlefs.digests import DigestTable
from puzzlefs.records import Kind
from puzzlefs.tables import Inode, write_vector

SMALL, LARGE = 25, 25_000
REQUESTS = 25
# What goes through all entries, or all chunks, takes a thousand times as long.
FACTOR = 30
PIECE = 16


def index_of(backend: Backend, *inodes: Inode) -> Index:
    digests = DigestTable()
    vector = write_vector(inodes, digests)
    return backend.Index(backend.encode_rootfs(digests.packed(), b"", [vector]))


def directory_of(backend: Backend, count: int) -> Index:
    """An image of one directory of small files."""
    entries = tuple((b"%07d" % number, number) for number in range(2, count + 2))
    return index_of(
        backend, Inode(1, Kind.DIR, 0o755, entries=entries), *(Inode(number, Kind.FILE) for _, number in entries)
    )


def quickest(count: int, request: Callable[[int], object]) -> float:
    """Return the seconds of a request at places spread over `count`: of many attempts the best."""
    places = [number * (count - 1) // (REQUESTS - 1) for number in range(REQUESTS)]
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for place in places:
            request(place)
        times.append(time.perf_counter() - start)
    return min(times)


def look_up(backend: Backend, count: int) -> float:
    index = directory_of(backend, count)
    assert index.lookup(1, b"%07d" % (count + 1)) == count + 1
    return quickest(count, lambda place: index.lookup(1, b"%07d" % (place + 2)))


def list_a_page(backend: Backend, count: int) -> float:
    index = directory_of(backend, count)
    return quickest(count, lambda place: [index.stat(ino) for _, ino in index.entries(1, place, 5)])


def test_a_look_up_does_not_depend_on_the_directory(backend: Backend) -> None:
    assert look_up(backend, LARGE) < FACTOR * look_up(backend, SMALL)


def test_a_page_of_a_listing_does_not_depend_on_the_directory(backend: Backend) -> None:
    assert list_a_page(backend, LARGE) < FACTOR * list_a_page(backend, SMALL)


def test_a_read_does_not_depend_on_the_file(backend: Backend, tmp_path: Path) -> None:
    blob = os.urandom(PIECE)
    digest = hashlib.sha256(blob).digest()
    (tmp_path / digest.hex()).write_bytes(blob)

    def read(count: int) -> float:
        file = Inode(2, Kind.FILE, chunks=((digest, 0, 0, PIECE),) * count)
        index = index_of(backend, Inode(1, Kind.DIR, 0o755, entries=((b"file", 2),)), file)
        reader = backend.Reader(index, bytes(tmp_path), 1, 1 << 20)
        assert reader.read(2, (count - 1) * PIECE, PIECE) == blob
        return quickest(count, lambda place: reader.read(2, place * PIECE, PIECE))

    assert read(LARGE) < FACTOR * read(SMALL)
