"""Both backends store a stream as the same blobs, the original's in its profile."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from puzzlefs._native import Backend
from puzzlefs.constants import CHUNK_MAX
from puzzlefs.errors import CancelledError, SourceChangedError, SourceError, StoreError
from puzzlefs.records import BLOB, CHUNK, COMPRESSED, SOURCE
from puzzlefs.rows import BlobRecord
from tests.conftest import Backends
from tests.parity.files import joined, plan, source_row
from tests.parity.outcome import any_outcome
from tests.strategies import holes, noise, repeated
from tests.support import VECTORS

EXPECTED: dict[str, Any] = json.loads((VECTORS / "expected.json").read_text())
NONE, UPSTREAM, FRAMES = 0, 1, 2
COMPRESSIONS = pytest.mark.parametrize("compression", [NONE, UPSTREAM, FRAMES])


class Home(NamedTuple):
    """Directories for one run of a writer."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def writer(self, backend: Backend, root: Path, compression: int = NONE, jobs: int = 2) -> Any:
        names = os.fsencode(root), os.fsencode(self / "blobs"), os.fsencode(self / "temporary")
        return backend.StreamWriter(*names, compression, 65536, jobs, False)

    def stored(self) -> dict[str, bytes]:
        assert os.listdir(self / "temporary") == []
        return {path.name: path.read_bytes() for path in (self / "blobs").iterdir()}


def make_home(path: Path) -> Home:
    for name in ("blobs", "temporary"):
        (path / name).mkdir(parents=True)
    return Home(path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def unpacked(tables: tuple[bytes, ...]) -> tuple[list[BlobRecord], list[Any], list[int], list[int]]:
    """Return the rows of what `run` gives."""
    blobs, chunks, counts, stream, _ = tables
    numbers = [list(struct.unpack(f"<{len(table) // 4}I", table)) for table in (counts, stream)]
    return list(map(BlobRecord._make, BLOB.iter_unpack(blobs))), list(CHUNK.iter_unpack(chunks)), numbers[0], numbers[1]


GOLDEN = sorted(name for name in EXPECTED if not name.startswith("delta:"))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_trees_give_the_originals_blobs(backend: Backend, golden_trees: Path, home: Home, name: str) -> None:
    """Every chunk of every golden tree, raw and compressed, has the original's digest and size."""
    tree, _, form = name.partition("/")
    writer = home.writer(backend, golden_trees / tree, UPSTREAM if form == "zstd" else NONE)
    blobs, _, _, stream = unpacked(writer.run(*plan(golden_trees / tree)))

    assert [[blobs[row].digest.hex(), blobs[row].size] for row in stream] == EXPECTED[name]["filedata"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree whose files share chunks, span them, are empty, compress and do not compress."""
    root = tmp_path / "source"
    (root / "a" / "deep").mkdir(parents=True)
    files = {
        "a/deep/long": noise(1, 700_000),
        "a/empty": b"",
        "a/same": noise(1, 700_000),
        "b": repeated(2, 150_000),
        "c": b"small",
        "d": holes(3, 900_000),
        "e": b"",
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


@COMPRESSIONS
def test_tables_and_blobs_are_the_same(backends: Backends, source: Path, tmp_path: Path, compression: int) -> None:
    """Records, files on disk and counters agree between the backends, whatever the number of threads."""
    results = []
    for number, (backend, jobs) in enumerate([(backends.python, 1), (backends.rust, 1), (backends.rust, 4)]):
        home = make_home(tmp_path / f"home{number}")
        writer = home.writer(backend, source, compression, jobs)
        results.append((writer.run(*plan(source)), home.stored(), writer.progress()))

    assert results[0] == results[1] == results[2]


@COMPRESSIONS
def test_what_is_said_of_blobs_is_true(backend: Backend, source: Path, home: Home, compression: int) -> None:
    """Digests are those of the stored bytes, rows are distinct and in order of first use, files come back."""
    paths, rows = plan(source)
    writer = home.writer(backend, source, compression)
    blobs, chunks, counts, stream = unpacked(writer.run(paths, rows))
    stored = home.stored()

    assert list(dict.fromkeys(stream)) == list(range(len(blobs)))
    assert len(stored) == len({blob.digest for blob in blobs})
    contents = []
    for blob in blobs:
        bytes_on_disk = stored[blob.digest.hex()]
        content = backend.decompress(bytes_on_disk) if blob.flags & COMPRESSED else bytes_on_disk
        contents.append(content)
        assert hashlib.sha256(bytes_on_disk).digest() == blob.digest
        assert (len(bytes_on_disk), len(content)) == (blob.size, blob.raw_size)
        assert blob.size < blob.raw_size if blob.flags else blob.size == blob.raw_size
        measured = bytes_on_disk
        if compression == UPSTREAM and not blob.flags:
            measured = backend.compress_upstream(content)
        assert blob.verity == backend.verity_digest(measured)
    files = [(source / os.fsdecode(path)).read_bytes() for path in paths.split(b"\0")[:-1]]
    assert [len(contents[row]) for row in stream] == backend.cut_lengths(b"".join(files))
    rest = iter(chunks)
    for content, count in zip(files, counts, strict=True):
        pieces = [next(rest) for _ in range(count)]
        assert all(flags == blobs[row].flags for row, flags, _, _ in pieces)
        assert b"".join(contents[row][at : at + length] for row, _, at, length in pieces) == content
    assert next(rest, None) is None


def test_one_digest_may_be_two_blobs(backends: Backends, home: Home, tmp_path: Path) -> None:
    """A raw chunk may have the bytes of another's frames: one file in the store, but two rows."""
    content = noise(1, 15_000) + bytes(CHUNK_MAX - 15_000)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(backends.python.compress(content, 65536))
    rows = source_row(tmp_path / "a") + source_row(tmp_path / "b")
    for backend in backends:
        blobs, _, _, stream = unpacked(home.writer(backend, tmp_path, FRAMES).run(joined(b"a", b"b"), rows))

        assert stream == [0, 1]
        assert [blob.flags for blob in blobs] == [COMPRESSED, 0]
        assert [blob.digest.hex() for blob in blobs] == [*home.stored()] * 2


@pytest.mark.parametrize("compression", [UPSTREAM, FRAMES])
def test_a_chunk_is_compressed_only_if_that_makes_it_smaller(
    backends: Backends, home: Home, tmp_path: Path, compression: int
) -> None:
    """Frames of exactly the chunk's size are not used."""
    content = noise(7, 1) + bytes(41)
    (tmp_path / "equal").write_bytes(content)
    assert len(backends.python.compress(content, 65536)) == len(backends.python.compress_upstream(content)) == 42
    for backend in backends:
        writer = home.writer(backend, tmp_path, compression)
        blobs, _, _, _ = unpacked(writer.run(joined(b"equal"), source_row(tmp_path / "equal")))

        assert [(blob.size, blob.flags) for blob in blobs] == [(42, 0)]


def test_progress_counts_everything(backend: Backend, source: Path, home: Home) -> None:
    """Files, bytes and chunks read; bytes of chunks met before; bytes newly stored."""
    paths, rows = plan(source)
    writer = home.writer(backend, source)
    assert writer.progress() == (0, 0, 0, 0, 0, 0)
    blobs, _, _, stream = unpacked(writer.run(paths, rows))
    size = sum(row[0] for row in SOURCE.iter_unpack(rows))
    new = sum(blob.size for blob in blobs)
    assert writer.progress() == (paths.count(b"\0"), size, len(stream), size - new, new, len(blobs))

    again = home.writer(backend, source)
    again.run(paths, rows)
    assert again.progress() == (paths.count(b"\0"), size, len(stream), size - new, 0, len(blobs))


def test_an_empty_stream_gives_empty_tables(backend: Backend, source: Path, home: Home) -> None:
    """No files, and files without bytes, need no blob."""
    assert home.writer(backend, source).run(b"", b"")[:4] == (b"", b"", b"", b"")
    rows = source_row(source / "a/empty") + source_row(source / "e")
    assert home.writer(backend, source).run(joined(b"a/empty", b"e"), rows)[:4] == (b"", b"", bytes(8), b"")
    assert home.stored() == {}


def test_a_stored_blob_of_the_same_size_is_kept(backend: Backend, source: Path, home: Home) -> None:
    """What is there is not written again; a file of another size, which a crash left, is replaced."""
    paths, rows = joined(b"c"), source_row(source / "c")
    name = hashlib.sha256(b"small").hexdigest()
    (home / "blobs" / name).write_bytes(b"SMALL")
    home.writer(backend, source).run(paths, rows)
    assert home.stored() == {name: b"SMALL"}
    (home / "blobs" / name).write_bytes(b"sma")
    home.writer(backend, source).run(paths, rows)
    assert home.stored() == {name: b"small"}


def change_size(row: list[int]) -> None:
    row[0] += 1


def change_inode(row: list[int]) -> None:
    row[2] += 1


def change_mtime(row: list[int]) -> None:
    row[3] -= 1


def change_ctime(row: list[int]) -> None:
    row[4] -= 1


@pytest.mark.parametrize("change", [change_size, change_inode, change_mtime, change_ctime])
@pytest.mark.parametrize("name", ["c", "e"])
def test_a_file_that_is_not_what_was_scanned_is_refused(
    backend: Backend, source: Path, home: Home, name: str, change: Callable[[list[int]], None]
) -> None:
    """Size, identity and both times are compared, of empty files too."""
    row = list(SOURCE.unpack(source_row(source / name)))
    change(row)
    with pytest.raises(SourceChangedError) as caught:
        home.writer(backend, source).run(joined(name.encode()), SOURCE.pack(*row))
    assert caught.value.path == name.encode()
    assert home.stored() == {}


BAD_PATHS = {
    b"missing": errno.ENOENT,
    b"a/missing/x": errno.ENOENT,
    b"c/x": errno.ENOTDIR,
    b"link": errno.ELOOP,
    b"up/c": errno.ELOOP,
    b"a" * 256: errno.ENAMETOOLONG,
}


@pytest.mark.parametrize(("path", "number"), BAD_PATHS.items())
def test_a_file_that_cannot_be_opened_is_named(
    backend: Backend, source: Path, home: Home, path: bytes, number: int
) -> None:
    """The error has the path and the system's number; no symbolic link is followed, as a file or on the way."""
    (source / "link").symlink_to("c")
    (source / "up").symlink_to(".")
    with pytest.raises(SourceError) as caught:
        home.writer(backend, source).run(joined(path), source_row(source / "c"))
    assert (caught.value.path, caught.value.errno) == (path, number)
    assert home.stored() == {}


@pytest.mark.parametrize("path", [b"../secret", b"a/../../secret", b"/etc/passwd", b""])
def test_no_path_leads_out_of_the_root(backend: Backend, source: Path, home: Home, path: bytes) -> None:
    """Whatever a path says, the file is looked for beneath the root."""
    (source.parent / "secret").write_bytes(b"secret")
    with pytest.raises(SourceError):
        home.writer(backend, source).run(joined(path), source_row(source.parent / "secret"))
    assert home.stored() == {}


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_regular_file_has_changed(backend: Backend, source: Path, home: Home, kind: str) -> None:
    """A fifo does not block, a directory is not read: neither is the file that was scanned."""
    path = source / kind
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    with pytest.raises(SourceChangedError):
        home.writer(backend, source).run(joined(kind.encode()), source_row(path))


def test_a_root_that_is_not_there_is_named(backends: Backends, source: Path, home: Home) -> None:
    """Both say the same of a root filesystem that cannot be opened."""
    said = [any_outcome(home.writer(backend, source / "none").run, b"", b"") for backend in backends]

    assert said == [("SourceError", ".: No such file or directory")] * 2


@pytest.mark.parametrize("name", ["blobs", "temporary"])
def test_a_store_that_is_not_there_is_named(backend: Backend, source: Path, home: Home, name: str) -> None:
    """Either directory of the store is named where it is missing."""
    (home / name).rmdir()
    with pytest.raises(StoreError) as caught:
        home.writer(backend, source).run(joined(b"c"), source_row(source / "c"))
    assert (caught.value.path, caught.value.errno) == (os.fsencode(home / name), errno.ENOENT)


def test_a_blob_that_cannot_be_stored_is_named(backend: Backend, source: Path, home: Home) -> None:
    """A directory in the place of a blob; nothing is left of the attempt."""
    path = home / "blobs" / hashlib.sha256(b"small").hexdigest()
    path.mkdir()
    with pytest.raises(StoreError) as caught:
        home.writer(backend, source).run(joined(b"c"), source_row(source / "c"))
    assert (caught.value.path, caught.value.errno) == (os.fsencode(path), errno.EISDIR)
    assert os.listdir(home / "temporary") == []


def test_a_cancelled_writer_stops(backend: Backend, source: Path, home: Home) -> None:
    """Told to stop before it starts, it does nothing."""
    writer = home.writer(backend, source)
    writer.cancel()
    with pytest.raises(CancelledError):
        writer.run(*plan(source))


def test_a_running_writer_can_be_cancelled(backend: Backend, tmp_path: Path, home: Home) -> None:
    """Told to stop from another thread, it does so long before it is done."""
    (tmp_path / "huge").write_bytes(b"")
    os.truncate(tmp_path / "huge", 1 << 38)
    writer = home.writer(backend, tmp_path)
    timer = threading.Timer(0.1, writer.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        writer.run(joined(b"huge"), source_row(tmp_path / "huge"))
    timer.join()
    assert os.listdir(home / "temporary") == []


def test_a_writer_runs_once(backends: Backends, source: Path, home: Home) -> None:
    """A second run is refused in the same words."""
    said = []
    for backend in backends:
        writer = home.writer(backend, source)
        writer.run(b"", b"")
        said.append(any_outcome(writer.run, b"", b""))

    assert said[0] == said[1]
    assert said[0][0] != "value"


def test_arguments_that_make_no_sense_are_refused_alike(backends: Backends, source: Path, home: Home) -> None:
    """Unknown compression, frame sizes out of range, rows that do not fit the paths."""
    name = os.fsencode(source)
    calls = [
        lambda backend: backend.StreamWriter(name, name, name, 3, 0, 1, False),
        lambda backend: backend.StreamWriter(name, name, name, -1, 0, 1, False),
        lambda backend: backend.StreamWriter(name, name, name, FRAMES, 0, 1, False),
        lambda backend: backend.StreamWriter(name, name, name, FRAMES, (1 << 24) + 1, 1, False),
        lambda backend: home.writer(backend, source).run(joined(b"c"), b""),
        lambda backend: home.writer(backend, source).run(joined(b"c"), bytes(41)),
        lambda backend: home.writer(backend, source).run(b"", bytes(40)),
        lambda backend: home.writer(backend, source).run(b"c", b""),
        lambda backend: home.writer(backend, source).run(b"c", source_row(source / "c")),
    ]
    for call in calls:
        said = [any_outcome(call, backend) for backend in backends]

        assert said[0] == said[1]
        assert said[0][0] == "ValueError"
