"""Both backends see the same tree in an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from puzzlefs._fallback import encode_rootfs
from puzzlefs._native import Backend, Index
from puzzlefs.records import VERITY, Kind
from tests.conftest import Backends, GoldenImage
from tests.parity.outcome import any_outcome
from tests.parity.test_metadata import IMAGES
from tests.strategies import Image, Node, noise, pack

U64 = (1 << 64) - 1


def facts(index: Index) -> Iterator[tuple[str, Any]]:
    """Yield everything that an index says of its tree."""
    yield "counts", (index.inode_count, index.highest_ino, index.content_bytes, index.has_xattrs)
    yield "blobs", index.blobs()
    yield "inodes", index.inodes()
    for ino in index.inodes():
        stat = index.stat(ino)
        yield "inode", (stat, index.xattrs(ino), index.symlink(ino), index.chunks(ino))
        if stat[1] == Kind.DIR:
            entries = index.entries(ino, 0, 1 << 20)
            yield "directory", (ino, index.parent(ino), entries)
            yield "lookups", [index.lookup(ino, name) for name, _ in entries]


@pytest.mark.parametrize("name", IMAGES)
def test_golden_trees_are_the_same(backends: Backends, golden: dict[str, GoldenImage], name: str) -> None:
    """Every golden image is one tree."""
    rust, python = [list(facts(backend.Index(golden[name].rootfs))) for backend in backends]

    assert rust == python


def test_the_golden_delta_can_be_listed(backend: Backend, golden: dict[str, GoldenImage]) -> None:
    """A directory that holds whiteouts lists without them: deleted names are gone, new ones there."""
    base, delta = (backend.Index(golden[f"vi-delta:{tag}"].rootfs) for tag in ("base", "delta"))
    before, after = ({name for name, _ in index.entries(1, 0, 100)} for index in (base, delta))

    assert before - after == {b"null"}
    assert after - before == {b"hello2"}
    assert delta.lookup(1, b"null") == 0
    assert [name for name, _ in delta.entries(delta.lookup(1, b"a"), 0, 9)] == [b"hardlink-to-hello"]


def test_the_golden_wide_directory_is_read_in_pages(backend: Backend, golden: dict[str, GoldenImage]) -> None:
    """Pages of any size, one after another, are the whole directory; past its end there is nothing."""
    index = backend.Index(golden["vi-wide:v"].rootfs)
    directory = next(ino for ino in index.inodes() if ino != 1 and index.stat(ino)[1] == Kind.DIR)
    whole = index.entries(directory, 0, 10_000)

    assert len(whole) == 3000
    assert whole == sorted(whole)
    assert [row for start in range(0, 3000, 7) for row in index.entries(directory, start, 7)] == whole
    assert index.entries(directory, 3000, 5) == index.entries(directory, 5, 0) == []


@pytest.fixture(scope="module")
def small() -> bytes:
    """A root with a file, a link, and a device; number 9 is a whiteout, 8 is not reached."""
    layer = [
        Node(1, Kind.DIR, entries=[(b"file", 2), (b"hidden", 9), (b"link", 3), (b"dev", 4), (b"again", 2)]),
        Node(2, Kind.FILE, chunks=[(noise(1, 32), 1, 5, 10), (noise(2, 32), 0, 0, 7), (noise(1, 32), 0, 1, 1)]),
        Node(3, Kind.LNK, link=b"file"),
        Node(4, Kind.CHR, device=(5, 1)),
        Node(8, Kind.FIFO, link=b"ignored"),
        Node(9, Kind.WHT),
    ]
    verity = [(noise(2, 32), noise(3, 32)), (noise(4, 32), noise(5, 32))]
    return make(Image([layer], verity))


def make(image: Image) -> bytes:
    """Return an image's rootfs blob."""
    return encode_rootfs(*pack(image))


def test_stat_has_every_field(backend: Backend, small: bytes) -> None:
    """Sizes, link counts and device numbers are those of the merged tree."""
    index = backend.Index(small)

    assert index.stat(1) == (1, Kind.DIR, 0o755, 0, 0, 0, 0, 0, 2, 0, 0)
    assert index.stat(2) == (2, Kind.FILE, 0o755, 0, 0, 0, 0, 18, 2, 0, 0)
    assert index.stat(3) == (3, Kind.LNK, 0o755, 0, 0, 0, 0, 4, 1, 0, 0)
    assert index.stat(4) == (4, Kind.CHR, 0o755, 0, 0, 0, 0, 0, 1, 5, 1)
    assert (index.inode_count, index.highest_ino, index.content_bytes, index.has_xattrs) == (4, 9, 18, False)


def test_blobs_come_in_order_of_first_mention(backend: Backend, small: bytes) -> None:
    """Each digest once; one without a verity entry has zeros, a verity entry alone names no blob."""
    expected = [(noise(1, 32), bytes(32)), (noise(2, 32), noise(3, 32))]

    assert list(VERITY.iter_unpack(backend.Index(small).blobs())) == expected


METHODS: dict[str, Callable[[Index, int], object]] = {
    "stat": lambda index, ino: index.stat(ino),
    "lookup": lambda index, ino: index.lookup(ino, b"file"),
    "parent": lambda index, ino: index.parent(ino),
    "entries": lambda index, ino: index.entries(ino, 0, 10),
    "xattrs": lambda index, ino: index.xattrs(ino),
    "symlink": lambda index, ino: index.symlink(ino),
    "chunks": lambda index, ino: index.chunks(ino),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_number_gets_one_answer(backends: Backends, small: bytes, method: str) -> None:
    """Of each kind of inode, and of numbers that are hidden, not reached or not there, both say the same."""
    for ino in (1, 2, 3, 4, 8, 9, 0, 77, U64):
        rust, python = [any_outcome(METHODS[method], backend.Index(small), ino) for backend in backends]

        assert rust == python, ino
        if ino not in (1, 2, 3, 4):
            assert rust == ("KeyError", (ino,))
        elif method in ("lookup", "parent", "entries") and ino != 1:
            assert rust[0] == "NotADirectoryError"


def test_numbers_that_do_not_fit_are_refused_alike(backends: Backends, small: bytes) -> None:
    """Negative and enormous arguments are one error in both."""
    for arguments in ((1, -1, 5), (1, 0, -1), (-1, 0, 5), (U64 + 1, 0, 5)):
        rust, python = [any_outcome(backend.Index(small).entries, *arguments) for backend in backends]

        assert (rust[0], python[0]) == ("OverflowError", "OverflowError"), arguments


def test_sizes_add_up_beyond_64_bits(backends: Backends) -> None:
    """Three of the largest files: their sum needs more than 64 bits, and both say what they say."""
    largest = (1 << 63) - 1
    files = [Node(ino, Kind.FILE, chunks=[(noise(1, 32), 0, 0, largest)]) for ino in (2, 3, 4)]
    blob = make(Image([[Node(1, Kind.DIR, entries=[(b"%d" % node.ino, node.ino) for node in files]), *files]]))

    assert [backend.Index(blob).content_bytes for backend in backends] == [3 * largest] * 2


def test_the_first_verity_entry_of_a_digest_counts(backends: Backends) -> None:
    """Where a hostile image measures a blob twice, both backends take the same."""
    file = Node(2, Kind.FILE, chunks=[(noise(1, 32), 0, 0, 1)])
    verity = [(noise(1, 32), noise(seed, 32)) for seed in (5, 6, 7)]
    blob = make(Image([[Node(1, Kind.DIR, entries=[(b"f", 2)]), file]], verity))

    assert [backend.Index(blob).blobs() for backend in backends] == [noise(1, 32) + noise(5, 32)] * 2
