"""Both backends save the same work with an earlier build's trace, and believe the same traces."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest

from puzzlefs._native import Backend
from puzzlefs.constants import PACK_SIZE_MAX
from puzzlefs.records import BLOB
from tests.conftest import Backends
from tests.parity.files import plan
from tests.strategies import noise
from tests.support import make_writer

LATER = 1 << 62
NONE, FRAMES = 0, 2


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of five files of several chunks each, one of them empty, made long ago for a file."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(5):
        (tree / f"file{number}").write_bytes(noise(number, 300_000) if number != 2 else b"")
    return tree


@pytest.mark.parametrize("compression", [NONE, FRAMES])
def test_what_is_known_is_not_read(backend: Backend, tree: Path, tmp_path: Path, compression: int) -> None:
    """Files that did not change are not even opened: they may be gone since they were scanned."""
    files = plan(tree)
    first = make_writer(backend, tree, tmp_path, compression).run(*files, None, LATER)
    for path in tree.iterdir():
        path.unlink()
    writer = make_writer(backend, tree, tmp_path, compression)

    assert writer.run(*files, first[4], LATER) == first
    assert writer.progress() == (5, 1_200_000, len(first[3]) // 4, 0, 0, len(first[0]) // BLOB.size)


def test_files_of_fresh_or_made_up_times_are_read(backend: Backend, tree: Path, tmp_path: Path) -> None:
    """A file that changed at the horizon or later may change again unnoticed."""
    paths, rows = plan(tree)
    changed = min(row[4] for row in struct.iter_unpack("<QQQqq", rows))
    first = make_writer(backend, tree, tmp_path).run(paths, rows, None, changed)
    (tree / "file4").unlink()
    with pytest.raises(Exception, match="file4"):
        make_writer(backend, tree, tmp_path).run(paths, rows, first[4], LATER)


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_no_blob_is_believed_to_be_there(backend: Backend, tree: Path, tmp_path: Path, damage: str) -> None:
    """Blobs that the store has lost are made again."""
    files = plan(tree)
    first = make_writer(backend, tree, tmp_path).run(*files, None, LATER)
    for digest, *_ in list(BLOB.iter_unpack(first[0]))[::3]:
        path = tmp_path / "blobs" / digest.hex()
        path.unlink() if damage == "gone" else os.truncate(path, 1)
    before = make_writer(backend, tree, tmp_path).run(*files, first[4], LATER)

    assert before == first
    for digest, _, size, *_ in BLOB.iter_unpack(first[0]):
        assert (tmp_path / "blobs" / digest.hex()).stat().st_size == size


def test_known_content_is_not_compressed_again(backend: Backend, tree: Path, tmp_path: Path) -> None:
    """A copy of the tree is read, but its chunks keep the blobs that the trace says."""
    first = make_writer(backend, tree, tmp_path, FRAMES).run(*plan(tree), None, LATER)
    for path in list(tree.iterdir()):
        path.write_bytes(path.read_bytes())
        os.utime(path, (1, 1))
    writer = make_writer(backend, tree, tmp_path, FRAMES)

    assert writer.run(*plan(tree), first[4], 0)[:4] == first[:4]
    assert writer.progress()[4] == 0


def test_what_is_no_trace_is_no_help(backends: Backends, tree: Path, tmp_path: Path) -> None:
    """Cut off, of other compression, or contradicting itself: as good as none, for both."""
    files = plan(tree)
    first = make_writer(backends.rust, tree, tmp_path).run(*files, None, LATER)
    trace = first[4]
    other = make_writer(backends.rust, tree, tmp_path, FRAMES).run(*files, None, LATER)[4]
    row = len(trace) - 4
    bad = [b"", b"PZTRACE3", trace[:-1], trace + b"\0", other, trace[:row] + b"\xff" * 4, trace[:64] + trace[88:]]
    (tree / "file0").unlink()
    for backend in backends:
        for content in bad:
            with pytest.raises(Exception, match="file0"):
                make_writer(backend, tree, tmp_path).run(*files, content, LATER)
        assert make_writer(backend, tree, tmp_path).run(*files, trace, LATER) == first


@pytest.mark.parametrize("compression", [NONE, FRAMES])
def test_packs_larger_than_all_blocks_come_to_an_end(backends: Backends, tmp_path: Path, compression: int) -> None:
    """Parts that are stored as they are wait for their pack, and the reader that fills it never for their memory."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(16):
        (tree / f"{number:02}").write_bytes(noise(number, 3 << 20))
    traces = [b""]

    def store() -> None:
        writer = make_writer(backends.rust, tree, tmp_path, compression, PACK_SIZE_MAX, frame_size=640 << 10)
        traces.append(writer.run(*plan(tree), traces[-1], LATER)[4])

    for count in (2, 3):
        # A reader that waits for ever does so in this thread.
        thread = threading.Thread(target=store, daemon=True)
        thread.start()
        thread.join(30)
        assert len(traces) == count
        for path in tree.iterdir():
            with open(path, "r+b") as file:
                for place in range(0, 3 << 20, 700_000):
                    file.seek(place)
                    file.write(b"x")
