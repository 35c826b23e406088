"""Both backends put the same chunks into the same packs, and say where they are."""

from __future__ import annotations

import hashlib
import os
import struct
from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from puzzlefs._fallback.pack import PackRule
from puzzlefs._native import Backend
from puzzlefs.constants import KIB, PACK_FRAME_SIZE, PACK_SIZE_MAX, PACK_SIZE_MIN
from puzzlefs.records import BLOB, CHUNK, COMPRESSED
from puzzlefs.rows import BlobRecord
from tests.conftest import Backends
from tests.parity.files import plan
from tests.parity.outcome import any_outcome
from tests.strategies import holes, noise
from tests.support import make_writer

NONE, UPSTREAM, FRAMES = 0, 1, 2
SMALL = PACK_SIZE_MIN
FORMS = pytest.mark.parametrize(
    ("compression", "frame_size"), [(NONE, 0), (FRAMES, PACK_FRAME_SIZE), (FRAMES, 64 * KIB)]
)


def text(seed: int, size: int) -> bytes:
    """Return `size` bytes of words."""
    words = [noise(word, 3 + word % 7).hex().encode() for word in range(1 << 8)]
    return b" ".join(words[number] for number in noise(seed, size // 8))[:size]


def program(seed: int, size: int) -> bytes:
    """Return `size` bytes that compress and have zeros among them."""
    words = text(seed, size)
    return b"\0".join(words[at : at + 30] for at in range(0, size, 30))[:size]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of every kind of content, some of them alike."""
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    for number in range(4):
        (tree / f"text{number}").write_bytes(text(number, 500_000))
        (tree / f"program{number}").write_bytes(program(number, 500_000))
        (tree / "deep" / f"noise{number}").write_bytes(noise(number % 3, 400_000))
        (tree / "deep" / f"holes{number}").write_bytes(holes(number, 300_000))
        (tree / "deep" / f"small{number}").write_bytes(text(number + 9, 900))
    return tree


def names(paths: bytes) -> list[str]:
    return [os.fsdecode(path) for path in paths.split(b"\0")[:-1]]


def numbers(table: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(table) // 4}I", table))


@FORMS
def test_tables_and_blobs_are_the_same(
    backends: Backends, tree: Path, tmp_path: Path, compression: int, frame_size: int
) -> None:
    """Records, trace, files on disk and counters agree between the backends, whatever the number of threads."""
    results = []
    for number, (backend, jobs) in enumerate([(backends.python, 1), (backends.rust, 1), (backends.rust, 4)]):
        home = tmp_path / f"home{number}"
        home.mkdir()
        writer = make_writer(backend, tree, home, compression, SMALL, frame_size, jobs)
        tables = writer.run(*plan(tree), None, 1 << 62)
        stored = {path.name: path.read_bytes() for path in (home / "blobs").iterdir()}
        results.append((tables, writer.progress(), stored))

    assert results[0] == results[1] == results[2]
    assert 8 < len(results[0][2]) < len(results[0][0][3]) // 8


@FORMS
def test_the_chunks_are_where_they_are_said_to_be(
    backend: Backend, tree: Path, tmp_path: Path, compression: int, frame_size: int
) -> None:
    """Each file is what its pieces of the packs say, and every byte of a pack belongs to one chunk."""
    paths, rows = plan(tree)
    tables = make_writer(backend, tree, tmp_path, compression, SMALL, frame_size).run(paths, rows)
    contents = []
    for blob in map(BlobRecord._make, BLOB.iter_unpack(tables[0])):
        stored = (tmp_path / "blobs" / blob.digest.hex()).read_bytes()
        content = backend.decompress(stored) if blob.flags & COMPRESSED else stored
        assert hashlib.sha256(stored).digest() == blob.digest
        assert backend.verity_digest(stored) == blob.verity
        assert (len(stored), len(content)) == (blob.size, blob.raw_size)
        assert len(content) <= 4 * SMALL
        contents.append(content)
    pieces = iter(CHUNK.iter_unpack(tables[1]))
    for name, count in zip(names(paths), numbers(tables[2]), strict=True):
        found = [next(pieces) for _ in range(count)]
        content = b"".join(contents[row][at : at + size] for row, _, at, size in found)
        assert content == (tree / name).read_bytes()
    covered = {(row, at + offset) for row, _, at, size in CHUNK.iter_unpack(tables[1]) for offset in (0, size - 1)}
    assert covered >= {(row, at) for row, content in enumerate(contents) for at in (0, len(content) - 1)}


def test_packs_end_where_the_rule_says(backend: Backend, tree: Path, tmp_path: Path) -> None:
    """Packs are runs of new chunks, cut by their digests."""
    paths, rows = plan(tree)
    tables = make_writer(backend, tree, tmp_path, NONE, SMALL).run(paths, rows)
    stream = b"".join((tree / name).read_bytes() for name in names(paths))
    expected: list[bytes] = []
    rule, start, pack, met = PackRule(SMALL), 0, b"", set()
    for length in backend.cut_lengths(stream):
        chunk = stream[start : start + length]
        start += length
        digest = hashlib.sha256(chunk).digest()
        if digest in met:
            continue
        met.add(digest)
        if pack and rule.is_full(len(pack), length):
            expected.append(pack)
            pack = b""
        pack += chunk
        if rule.ends(len(pack), digest, length):
            expected.append(pack)
            pack = b""
    expected += [pack] if pack else []

    found = [digest for digest, *_ in BLOB.iter_unpack(tables[0])]
    assert found == [hashlib.sha256(pack).digest() for pack in expected]


def test_a_frame_holds_whole_chunks(backend: Backend, tmp_path: Path) -> None:
    """As many as fit; only a chunk that is larger than a frame has several."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(10):
        (tree / str(number)).write_bytes(text(number, 900_000))
    lengths = backend.cut_lengths(b"".join((tree / str(number)).read_bytes() for number in range(10)))
    starts = set(accumulate(lengths, initial=0))
    for limit in (64 * KIB, PACK_FRAME_SIZE):
        tables = make_writer(backend, tree, tmp_path, FRAMES, PACK_SIZE_MAX, limit).run(*plan(tree))
        digest, _, size, raw_size, flags, _ = next(BLOB.iter_unpack(tables[0]))
        stored = (tmp_path / "blobs" / digest.hex()).read_bytes()
        count = int.from_bytes(stored[-9:-5], "little")
        sizes = [row[1] for row in struct.iter_unpack("<II", stored[-9 - 8 * count : -9])]
        ends = list(accumulate(sizes))

        assert (flags, ends[-1], len(stored)) == (COMPRESSED, raw_size, size)
        assert max(sizes) <= limit
        inner = [end for end in ends if end not in starts]
        assert bool(inner) == (limit < max(lengths))
        if not inner:
            assert all(sum(pair) > limit for pair in pairwise(sizes[:-1]))


def test_noise_is_stored_as_it_is(backend: Backend, tmp_path: Path) -> None:
    """Packs that compression does not make smaller are raw."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(4):
        (tree / str(number)).write_bytes(noise(number, 400_000))
    tables = make_writer(backend, tree, tmp_path, FRAMES, SMALL).run(*plan(tree))

    assert {flags for *_, flags, _ in BLOB.iter_unpack(tables[0])} == {0}


def test_packs_that_make_no_sense_are_refused_alike(backends: Backends) -> None:
    """Sizes out of range, packs in the original's form, frames of no size."""
    for form in [
        (NONE, 0, SMALL - 1),
        (FRAMES, 65536, PACK_SIZE_MAX + 1),
        (FRAMES, 65536, -1),
        (UPSTREAM, 0, SMALL),
        (FRAMES, 0, SMALL),
        (FRAMES, -1, SMALL),
    ]:
        said = [any_outcome(construct, backend, *form) for backend in backends]

        assert said[0] == said[1]
        assert said[0][0] == "ValueError"


def construct(backend: Backend, compression: int, frame_size: int, pack_size: int) -> None:
    backend.StreamWriter(b"/", b"/", b"/", compression, frame_size, 1, False, pack_size=pack_size)
