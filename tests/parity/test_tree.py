"""Both backends scan a directory to the same tables, and number and encode them alike."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from struct import pack

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from puzzlefs._native import Backend
from puzzlefs.records import CHUNK, ENTRY, INODE, Kind
from puzzlefs.rows import ScanRules, Vector
from tests.conftest import Backends
from tests.parity.outcome import any_outcome
from tests.trees import tree_of

ALL = ScanRules([], [b"*"], [], False, 0, 0, False)


def scanned(backend: Backend, root: Path, rules: ScanRules = ALL, mounts: tuple[bytes, ...] = ()) -> object:
    tree, *rest = backend.scan_tree(os.fsencode(root), list(mounts), rules)
    return tree.vector(), tree.inode_count, rest


def test_golden_trees_give_the_same_tables(backends: Backends, golden_trees: Path) -> None:
    """All kinds, links, owners, times and attributes, and a directory below which something is mounted."""
    for rules in (ALL, ALL._replace(keep=[b"user.*"], drop=[b"*b*"], sort=True), ALL._replace(times=1, all_root=True)):
        one, other = (scanned(backend, golden_trees, rules, (b"kinds/a",)) for backend in backends)

        assert one == other


def test_words_for_what_is_wrong_are_the_same(backends: Backends, tmp_path: Path) -> None:
    """A root that is not there, a file in its place, an unknown rule for times."""
    (tmp_path / "file").write_bytes(b"")
    for root, rules in ((tmp_path / "no", ALL), (tmp_path / "file", ALL), (tmp_path, ALL._replace(times=3))):
        one, other = (any_outcome(backend.scan_tree, os.fsencode(root), [], rules) for backend in backends)

        assert one == other
        assert one[0] in ("SourceError", "ValueError")


NAMES = [bytes([byte]) for byte in range(1, 256) if byte not in b"./"] + [
    b"a]",
    b"ab",
    b"-",
    b"abc",
    b"a\nb",
    b"[a]",
    b"..a",
]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("names")
    for name in NAMES:
        os.close(os.open(os.path.join(os.fsencode(root), name), os.O_CREAT | os.O_WRONLY))
    return root


@given(pattern=st.lists(st.sampled_from([*b"*?[]!-^\\abcz.\n"]) | st.integers(1, 255), max_size=8).map(bytes))
@example(b"[]-a]*")
@example(b"[!]-a]?")
@example(b"[z-a]")
@example(b"[!z-a]")
@example(b"[a-c-z]")
@example(b"*a*b*c")
def test_globs_mean_what_fnmatch_says(backends: Backends, names: Path, pattern: bytes) -> None:
    """A pattern leaves out the names that match it in Python's terms."""
    if b"/" in pattern:
        return
    expected = {name for name in NAMES if not fnmatchcase(name, pattern)}
    for backend in backends:
        tree = backend.scan_tree(os.fsencode(names), [], ALL._replace(exclude=[pattern]))[0]

        assert set(tree_of(tree.vector())) - {b""} == expected


def inode(ino: int, kind: Kind, first: int = 0, amount: int = 0) -> bytes:
    return INODE.pack(ino, kind, 0o755, 0, 0, 0, 0, first, amount, 0, 0, 0, 0, 0, 0)


def entries(*pairs: tuple[int, int]) -> bytes:
    """Return entries of a heap of letters: (number, which letter)."""
    return b"".join(ENTRY.pack(ino, letter, 1, 0) for ino, letter in pairs)


SOUND = Vector(
    inode(1, Kind.DIR, 0, 2) + inode(2, Kind.FILE) + inode(3, Kind.FILE), entries((2, 0), (3, 1)), b"", b"", b"abc"
)
BROKEN = {
    "half a row": SOUND._replace(inodes=SOUND.inodes[:-1]),
    "no root": SOUND._replace(inodes=SOUND.inodes[INODE.size :]),
    "empty": Vector(b"", b"", b"", b"", b""),
    "an entry of nothing": SOUND._replace(entries=entries((2, 0), (4, 1))),
    "an inode without a name": SOUND._replace(inodes=inode(1, Kind.DIR, 0, 1) + SOUND.inodes[INODE.size :]),
    "entries outside": SOUND._replace(inodes=inode(1, Kind.DIR, 1, 2) + SOUND.inodes[INODE.size :]),
    "the root below itself": SOUND._replace(entries=entries((1, 0), (2, 1))),
    "a directory twice": Vector(
        inode(1, Kind.DIR, 0, 2) + inode(2, Kind.DIR), entries((2, 0), (2, 1)), b"", b"", b"ab"
    ),
}


@pytest.mark.parametrize("vector", BROKEN.values(), ids=BROKEN)
def test_tables_that_are_no_tree_are_refused_alike(backends: Backends, vector: Vector) -> None:
    """Upon a base a tree must be whole."""
    blob = backends.python.Tree(SOUND).encode(b"", b"", [])

    def upon(backend: Backend) -> bytes:
        tree = backend.Tree(vector)
        tree.rebase(backend.Index(blob), False)
        return tree.encode(b"", b"", [])

    one, other = (any_outcome(upon, backend) for backend in backends)
    assert one == other
    assert one[0] == "ValueError"


CHUNKS = CHUNK.pack(1, 0, 0, 5) + CHUNK.pack(0, 1, 9, 6)


@pytest.mark.parametrize(
    ("chunks", "counts", "digests"),
    [
        (CHUNKS, [2, 0], [7, 8]),
        (CHUNKS, [1, 1], [7, 8]),
        (CHUNKS, [1], [7, 8]),
        (CHUNKS, [1, 1, 0], [7, 8]),
        (CHUNKS, [1, 2], [7, 8]),
        (CHUNKS, [1, 0], [7, 8]),
        (CHUNKS, [1, 1], [7]),
        (CHUNKS[:-1], [1, 1], [7, 8]),
    ],
)
def test_files_get_their_chunks(backends: Backends, chunks: bytes, counts: list[int], digests: list[int]) -> None:
    """Chunks go to the files in order of number, their blobs renamed; what does not fit is refused."""

    def given_chunks(backend: Backend) -> object:
        tree = backend.Tree(SOUND)
        tree.set_chunks(chunks, pack(f"<{len(counts)}I", *counts), pack(f"<{len(digests)}I", *digests))
        return tree.vector()

    one, other = (any_outcome(given_chunks, backend) for backend in backends)
    assert one == other
    fits = len(chunks) == len(CHUNKS) and len(digests) == len(counts) == sum(counts) == 2
    assert (one[0] == "ValueError") != fits
    if fits:
        tables = Vector(*given_chunks(backends.rust))  # type: ignore[misc]
        assert list(CHUNK.iter_unpack(tables.chunks)) == [(8, 0, 0, 5), (7, 1, 9, 6)]


def test_a_tree_ends_with_its_encoding(backends: Backends) -> None:
    """Whatever is asked of it then is refused in the same words."""
    said = []
    for backend in backends:
        tree = backend.Tree(SOUND)
        tree.encode(b"", b"", [])
        said.append([any_outcome(tree.encode, b"", b"", []), any_outcome(tree.vector)])

    assert said[0] == said[1]
    assert {outcome[0] for outcome in said[0]} == {"RuntimeError"}


def test_a_base_may_leave_no_numbers(backends: Backends) -> None:
    """Upon a base with the highest number, a tree with a new file is refused in the same words."""
    last = (1 << 64) - 1
    base = Vector(inode(1, Kind.DIR, 0, 1) + inode(last, Kind.FILE), entries((last, 2)), b"", b"", b"abc")
    blob = backends.python.Tree(base).encode(b"", b"", [])
    said = []
    for backend in backends:
        tree = backend.Tree(SOUND)
        said.append(any_outcome(tree.rebase, backend.Index(blob), False))

    assert said[0] == said[1]
    assert said[0][0] == "UnsupportedError"
