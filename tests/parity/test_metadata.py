"""Both backends read a rootfs blob into the same tables and write the original's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from puzzlefs._native import Backend
from puzzlefs.records import INODE, Kind
from puzzlefs.rows import Vector
from tests.conftest import Backends, GoldenImage
from tests.parity.outcome import any_outcome
from tests.strategies import Image, Node, noise, pack

IMAGES = ["vi-delta:base", "vi-delta:delta", "vi-empty:v", "vi-kinds:v", "vi-wide:v", "vic-kinds:v", "vic-text:v"]


@pytest.mark.parametrize("name", IMAGES)
def test_golden_tables_are_the_same(backends: Backends, golden: dict[str, GoldenImage], name: str) -> None:
    """Every golden image reads alike."""
    rootfs = golden[name].rootfs

    assert backends.rust.decode_rootfs(rootfs) == backends.python.decode_rootfs(rootfs)


@pytest.mark.parametrize("name", IMAGES)
def test_golden_bytes_come_back(backend: Backend, golden: dict[str, GoldenImage], name: str) -> None:
    """Writing what was read gives the original's bytes, one segment or many."""
    rootfs = golden[name].rootfs
    version, digests, verity, vectors = backend.decode_rootfs(rootfs)

    assert version == 3
    assert backend.encode_rootfs(digests, verity, [Vector(*vector) for vector in vectors]) == rootfs


def test_times_make_inodes_longer(backend: Backend) -> None:
    """A vector with a time has a word more for each inode; one without has the original's size."""
    plain = [Node(1, Kind.DIR), Node(2, Kind.FIFO)]
    timed = [plain[0], replace(plain[1], mtime=(-5, 7))]
    blobs = [backend.encode_rootfs(*pack(Image([layer]))) for layer in (plain, timed)]

    assert len(blobs[1]) - len(blobs[0]) == 2 * 8
    assert [row[5:7] for row in INODE.iter_unpack(backend.decode_rootfs(blobs[1])[3][0][0])] == [(0, 0), (7, -5)]


@pytest.mark.parametrize("size", [1000, 1023, 1024, 1025, 5000, 65_536])
def test_objects_that_outgrow_a_segment(backends: Backends, size: int) -> None:
    """Targets of every length around a segment's end lie alike in both, and read back."""
    layer = [Node(ino, Kind.SOCK, xattrs=[(b"user.k", noise(ino, size))]) for ino in range(1, 30)]
    tables = pack(Image([[Node(1, Kind.DIR)], layer]))
    blob = backends.rust.encode_rootfs(*tables)

    assert blob == backends.python.encode_rootfs(*tables)
    assert [backend.decode_rootfs(blob) for backend in backends] == [(3, *tables)] * 2


def contradictions() -> Iterator[tuple[str, tuple[bytes, bytes, list[Vector]]]]:
    """Yield tables of which two parts contradict each other, and what is wrong with them."""
    link = Node(2, Kind.LNK, link=b"target", xattrs=[(b"k", b"v")])
    file = Node(3, Kind.FILE, chunks=[(bytes(32), 0, 0, 1)])
    digests, verity, (vector,) = pack(Image([[Node(1, Kind.DIR, entries=[(b"n", 2)]), link, file]]))
    for field in ("inodes", "entries", "chunks", "xattrs"):
        table = getattr(vector, field)
        yield f"{field} cut", (digests, verity, [vector._replace(**{field: table[:-1]})])
        if field != "inodes":
            yield f"{field} missing", (digests, verity, [vector._replace(**{field: b""})])
    yield "no heap", (digests, verity, [vector._replace(heap=b"")])
    yield "short heap", (digests, verity, [vector._replace(heap=vector.heap[:-1])])
    yield "no digests", (b"", verity, [vector])
    yield "half a digest", (digests + b"x", verity, [vector])
    yield "half a verity row", (digests, bytes(65), [vector])
    rows = list(INODE.iter_unpack(vector.inodes))
    for what, changed in {
        "descending": [rows[1], rows[0]],
        "twice": [rows[0], rows[0]],
        "number 0": [(0, *rows[0][1:])],
        "kind 0": [(1, 0, *rows[0][2:])],
        "kind 9": [(1, 9, *rows[0][2:])],
        "no flag": [(*rows[1][:11], 0, *rows[1][12:])],
        "far row": [(*rows[0][:7], (1 << 64) - 1, *rows[0][8:])],
        "far attribute": [(*rows[1][:9], (1 << 64) - 1, *rows[1][10:])],
        "far target": [(*rows[1][:12], (1 << 64) - 1, *rows[1][13:])],
    }.items():
        inodes = b"".join(INODE.pack(*row) for row in changed)
        yield what, (digests, verity, [vector._replace(inodes=inodes)])


CONTRADICTIONS = dict(contradictions())


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_contradictions_are_refused(backends: Backends, what: str) -> None:
    """Tables that contradict themselves are a `ValueError` with one text."""
    tables = CONTRADICTIONS[what]
    said = [any_outcome(backend.encode_rootfs, *tables) for backend in backends]

    assert said[0] == said[1]
    assert said[0][0] == "ValueError"
