"""Both backends cut the stream where a group of files begins, and let no pack go on there."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import pytest

from puzzlefs._native import Backend
from puzzlefs.constants import PACK_SIZE_MIN
from puzzlefs.records import BLOB, CHUNK
from tests.conftest import Backends
from tests.parity.files import plan
from tests.parity.outcome import any_outcome
from tests.strategies import noise
from tests.support import make_writer

LATER = 1 << 62
SIZES = [100_000, 30_001, 0, 400_000, 0, 90_000, 5, 300_000]
GROUPS = [1, 3, 7]
FORMS = pytest.mark.parametrize("form", [(0, 0), (2, 0), (0, PACK_SIZE_MIN), (2, PACK_SIZE_MIN)])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of files of these sizes."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number, size in enumerate(SIZES):
        (tree / f"file{number}").write_bytes(noise(number, size))
    return tree


def numbers(*firsts: int) -> bytes:
    return struct.pack(f"<{len(firsts)}I", *firsts)


def run(backend: Backend, tree: Path, home: Path, form: tuple[int, int], groups: bytes) -> tuple[bytes, ...]:
    home.mkdir(exist_ok=True)
    return make_writer(backend, tree, home, *form).run(*plan(tree), None, LATER, groups)


@FORMS
def test_tables_are_the_same(backends: Backends, tree: Path, tmp_path: Path, form: tuple[int, int]) -> None:
    found = [
        run(backend, tree, tmp_path / name, form, numbers(*GROUPS))
        for name, backend in zip(("rust", "python"), backends, strict=True)
    ]

    assert found[0] == found[1] != run(backends.rust, tree, tmp_path / "rust", form, b"")


def test_each_group_is_cut_as_a_stream_of_its_own(backend: Backend, tree: Path, tmp_path: Path) -> None:
    blobs, _, _, stream, _ = run(backend, tree, tmp_path, (0, 0), numbers(*GROUPS))
    sizes = [row[3] for row in BLOB.iter_unpack(blobs)]

    expected = []
    for first, end in pairwise([0, *GROUPS, len(SIZES)]):
        expected += backend.cut_lengths(b"".join(noise(number, SIZES[number]) for number in range(first, end)))
    assert [sizes[row] for (row,) in struct.iter_unpack("<I", stream)] == expected


def test_no_pack_has_chunks_of_two_groups(backend: Backend, tree: Path, tmp_path: Path) -> None:
    blobs, chunks, counts, _, _ = run(backend, tree, tmp_path, (0, PACK_SIZE_MIN), numbers(*GROUPS))
    rows = iter(CHUNK.iter_unpack(chunks))
    packs = [{next(rows)[0] for _ in range(count)} for (count,) in struct.iter_unpack("<I", counts)]

    groups = [set().union(*packs[first:end]) for first, end in pairwise([0, *GROUPS, len(SIZES)])]
    assert sum(map(len, groups)) == len(blobs) // BLOB.size


@pytest.mark.parametrize("groups", [(0,), (8,), (9, 4_000_000_000), (0, 0, 8)])
def test_a_group_at_an_end_of_the_stream_is_none(
    backend: Backend, tree: Path, tmp_path: Path, groups: tuple[int, ...]
) -> None:
    found = run(backend, tree, tmp_path, (0, PACK_SIZE_MIN), numbers(*groups))

    assert found[:4] == run(backend, tree, tmp_path, (0, PACK_SIZE_MIN), b"")[:4]


def test_groups_without_content_are_one_place(backend: Backend, tree: Path, tmp_path: Path) -> None:
    found = run(backend, tree, tmp_path, (0, PACK_SIZE_MIN), numbers(2, 3, 3))

    assert found == run(backend, tree, tmp_path, (0, PACK_SIZE_MIN), numbers(3))


@pytest.mark.parametrize("groups", [numbers(2, 1), numbers(1) + b"\0"])
def test_what_are_no_groups(backends: Backends, tree: Path, tmp_path: Path, groups: bytes) -> None:
    found = [any_outcome(run, backend, tree, tmp_path, (0, 0), groups) for backend in backends]

    assert found[0] == found[1] == ("ValueError", ("groups are not ascending u32 numbers",))


@FORMS
def test_known_chunks_of_other_groups_are_cut_again(
    backends: Backends, tree: Path, tmp_path: Path, form: tuple[int, int]
) -> None:
    """A trace tells where the groups of its stream began, so no cut is taken over that is none here."""
    for name, backend in zip(("rust", "python"), backends, strict=True):
        trace = run(backend, tree, tmp_path / name, form, numbers(*GROUPS))[4]
        fresh = run(backend, tree, tmp_path / f"fresh-{name}", form, numbers(1, 5))

        writer = make_writer(backend, tree, tmp_path / name, *form)
        assert writer.run(*plan(tree), trace, LATER, numbers(1, 5)) == fresh
