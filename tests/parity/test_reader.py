"""Both backends read the same bytes, and say the same where they cannot."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from puzzlefs._native import Backend
from puzzlefs.errors import BlobError, MissingBlobError
from puzzlefs.records import COMPRESSED, Kind
from tests.conftest import Backends, GoldenImage
from tests.parity.files import Store, files_image
from tests.parity.outcome import any_outcome
from tests.strategies import holes, noise, repeated

NEVER, ONCE, ALWAYS = 0, 1, 2
MODES = pytest.mark.parametrize("verify", [NEVER, ONCE, ALWAYS])
CACHE = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    directory = tmp_path / "blobs"
    directory.mkdir()
    return Store(directory)


def paths_of(index: Any, directory: int = 1, above: bytes = b"") -> dict[bytes, int]:
    """Return the number of every path that a tree has."""
    found: dict[bytes, int] = {}
    for name, ino in index.entries(directory, 0, 1 << 20):
        path = os.path.join(above, name)
        found[path] = ino
        if index.stat(ino)[1] == Kind.DIR:
            found |= paths_of(index, ino, path)
    return found


@MODES
@pytest.mark.parametrize("name", ["vi-kinds:v", "vic-kinds:v", "vic-text:v", "vi-wide:v"])
def test_golden_files_are_read_right(
    backend: Backend, golden: dict[str, GoldenImage], golden_trees: Path, name: str, verify: int
) -> None:
    """Every file of a golden image has the content of the tree it was built from."""
    image = golden[name]
    index = backend.Index(image.rootfs)
    reader = backend.Reader(index, os.fsencode(image.blobs), verify, CACHE)
    tree = os.fsencode(golden_trees / name.partition("-")[2].removesuffix(":v"))
    files = {path: ino for path, ino in paths_of(index).items() if index.stat(ino)[1] == Kind.FILE}

    assert files
    for path, ino in files.items():
        content = Path(os.fsdecode(os.path.join(tree, path))).read_bytes()
        assert reader.read(ino, 0, len(content) + 1) == content


@pytest.fixture
def layered(store: Store, backends: Backends) -> tuple[Store, bytes, bytes]:
    """A file of pieces of a raw blob and of one with three frames; also its content."""
    raw, content = noise(1, 5000), repeated(2, 10_000) + noise(3, 300)
    framed = backends.python.compress(content, 4096)
    one, two = store.put(raw), store.put(framed)
    chunks = [(one, 0, 100, 4000), (two, COMPRESSED, 4000, 6300), (one, 0, 7, 0), (two, COMPRESSED, 0, 1)]
    expected = raw[100:4100] + content[4000:10_300] + content[:1]
    return store, files_image(chunks, []), expected


@MODES
@pytest.mark.parametrize("cache", [0, 5000, CACHE])
def test_any_range_is_read(backend: Backend, layered: tuple[Store, bytes, bytes], verify: int, cache: int) -> None:
    """Offsets and sizes inside, across and past chunks, frames and the end of the file."""
    store, rootfs, expected = layered
    reader = backend.Reader(backend.Index(rootfs), store.directory, verify, cache)
    for offset in (0, 1, 3999, 4000, 4001, 4096, 8191, 10_299, 10_300, 10_301, 1 << 62):
        for size in (0, 1, 100, 4096, 9000, 1 << 40):
            assert reader.read(2, offset, size) == expected[offset : offset + size], (offset, size)
    assert reader.read(3, 0, 10) == b""


@MODES
def test_extract_writes_the_file_and_leaves_holes(backend: Backend, store: Store, tmp_path: Path, verify: int) -> None:
    """The content is whole, and aligned blocks of zeros take no room, the last short one too."""
    content = holes(5, 3_000_000)[:-1] + bytes(2048)
    cut = [0, 262_144, 1_500_001, 1_500_002, len(content)]
    chunks = [(store.put(content[a:b]), 0, 0, b - a) for a, b in pairwise(cut)]
    reader = backend.Reader(backend.Index(files_image(chunks)), store.directory, verify, CACHE)
    path = tmp_path / "out"
    with path.open("wb") as out:
        reader.extract(2, out.fileno())

    assert path.read_bytes() == content
    assert path.stat().st_blocks * 512 <= 16384


def test_extract_reports_the_systems_error(backends: Backends, layered: tuple[Store, bytes, bytes]) -> None:
    """A descriptor that cannot be written gives the system's error."""
    store, rootfs, _ = layered
    fd = os.open(store.path, os.O_RDONLY)
    try:
        for backend in backends:
            reader = backend.Reader(backend.Index(rootfs), store.directory, ONCE, CACHE)
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                reader.extract(2, fd)
            assert caught.value.errno == errno.EBADF
    finally:
        os.close(fd)


def test_what_is_no_file_is_a_key_error(backends: Backends, layered: tuple[Store, bytes, bytes]) -> None:
    """Directories and numbers that are not there cannot be read."""
    store, rootfs, _ = layered
    for ino in (0, 1, 77):
        for backend in backends:
            reader = backend.Reader(backend.Index(rootfs), store.directory, ONCE, CACHE)

            assert any_outcome(reader.read, ino, 0, 1) == ("KeyError", (ino,))
            assert any_outcome(reader.extract, ino, 1) == ("KeyError", (ino,))


def test_links_to_blobs_are_followed(backend: Backend, store: Store, tmp_path: Path) -> None:
    """A store may be made of symbolic links."""
    digest = store.put(b"content")
    store.file(digest).rename(tmp_path / "elsewhere")
    store.file(digest).symlink_to(tmp_path / "elsewhere")
    reader = backend.Reader(backend.Index(files_image([(digest, 0, 0, 7)])), store.directory, ONCE, CACHE)

    assert reader.read(2, 0, 100) == b"content"


# Faults. Each is a blob, what is done to its file, and what is then said (docs/format.md, section 10).

CONTENT = repeated(9, 20_000)


def damage(path: Path, fault: str) -> None:
    """Do to a blob's file what `fault` says."""
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    elif fault == "directory":
        path.unlink()
        path.mkdir()
    elif fault == "loop":
        path.unlink()
        path.symlink_to(path)
    elif fault == "flipped":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif fault == "cut":
        path.write_bytes(content[:-20])
    elif fault == "longer":
        path.write_bytes(content + b"x")
    elif fault == "empty":
        path.write_bytes(b"")


FAULTS = ["missing", "directory", "loop", "flipped", "cut", "longer", "empty"]
ZSTD_MAGIC = bytes.fromhex("28b52ffd")
OTHER = "content does not match the digest"
SAID = {
    "missing": "not in the store",
    "directory": "cannot be read: Is a directory",
    "loop": "cannot be read: Too many levels of symbolic links",
}
UNVERIFIED = {
    (0, "cut"): "shorter than its chunk",
    (0, "empty"): "shorter than its chunk",
    (COMPRESSED, "flipped"): "frame damaged",
    (COMPRESSED, "cut"): "seek table missing",
    (COMPRESSED, "longer"): "seek table missing",
    (COMPRESSED, "empty"): "seek table missing",
}


@MODES
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("flags", [0, COMPRESSED])
def test_a_damaged_blob_is_reported(
    backend: Backend, store: Store, tmp_path: Path, flags: int, fault: str, verify: int
) -> None:
    """Each fault has its text in every mode; unverified reading sees what it comes upon."""
    stored = backend.compress(CONTENT, 4096) if flags else CONTENT
    digest = store.put(stored)
    damage(store.file(digest), fault)
    index = backend.Index(files_image([(digest, flags, 0, len(CONTENT))]))
    reader = backend.Reader(index, store.directory, verify, CACHE)
    said = SAID.get(fault, OTHER if verify else UNVERIFIED.get((flags, fault)))

    if said is None:
        assert reader.read(2, 1, 100) == CONTENT[1:101]
        return
    kind = MissingBlobError if fault == "missing" else BlobError
    for read in (
        lambda: reader.read(2, 0, 100),
        lambda: reader.read(2, 0, 1 << 20),
        lambda: _extract(reader, tmp_path),
    ):
        with pytest.raises(kind) as caught:
            read()
        assert type(caught.value) is kind
        assert (caught.value.digest, caught.value.reason) == (digest, said)


def _extract(reader: Any, home: Path) -> None:
    with (home / "out").open("wb") as out:
        reader.extract(2, out.fileno())


@MODES
@pytest.mark.parametrize("flags", [0, COMPRESSED])
@pytest.mark.parametrize("chunk", [(0, 20_001), (20_001, 0), (20_000, 1), (1, (1 << 63) - 2)])
def test_a_chunk_past_its_blob_is_reported(
    backend: Backend, store: Store, flags: int, chunk: tuple[int, int], verify: int
) -> None:
    """However little of it is read; a chunk of no bytes is never looked at."""
    digest = store.put(backend.compress(CONTENT, 4096) if flags else CONTENT)
    index = backend.Index(files_image([(digest, flags, *chunk)]))
    reader = backend.Reader(index, store.directory, verify, CACHE)
    if chunk[1] == 0:
        assert reader.read(2, 0, 1) == b""
        return
    with pytest.raises(BlobError, match="shorter than its chunk"):
        reader.read(2, 0, 1)


def test_only_the_frames_that_are_read_are_decoded(backend: Backend, store: Store) -> None:
    """Unverified, a damaged frame does not keep one from the others."""
    stored = bytearray(backend.compress(noise(1, 12_000), 4096))
    second = stored.find(ZSTD_MAGIC, 4)
    stored[second] ^= 0xFF
    digest = bytes(32)
    store.file(digest).write_bytes(bytes(stored))
    reader = backend.Reader(
        backend.Index(files_image([(digest, COMPRESSED, 0, 12_000)])), store.directory, NEVER, CACHE
    )

    assert reader.read(2, 0, 4096) == noise(1, 12_000)[:4096]
    assert reader.read(2, 8192, 4096) == noise(1, 12_000)[8192:]
    with pytest.raises(BlobError, match="frame damaged"):
        reader.read(2, 8191, 1)


def test_verify_modes_differ_in_when_they_look(backend: Backend, store: Store) -> None:
    """After a first read, damage is seen by mode 2 alone, where it reads; before it, by 1 and 2."""
    digest = store.put(CONTENT)
    index = backend.Index(files_image([(digest, 0, 0, len(CONTENT))]))
    never, once, always = (backend.Reader(index, store.directory, mode, 0) for mode in (NEVER, ONCE, ALWAYS))
    for reader in (never, once, always):
        assert reader.read(2, 0, 10) == CONTENT[:10]
    with store.file(digest).open("r+b") as blob:
        blob.write(b"?")
    changed = b"?" + CONTENT[1:10]
    assert never.read(2, 0, 10) == once.read(2, 0, 10) == changed
    assert always.read(2, 5000, 10) == CONTENT[5000:5010]
    for reader in (always, backend.Reader(index, store.directory, ONCE, 0)):
        with pytest.raises(BlobError, match=OTHER):
            reader.read(2, 0, 10)


def test_a_blob_that_was_bad_stays_bad(backend: Backend, store: Store) -> None:
    """Once a content was wrong, the blob is not tried again; one that was missing is."""
    bad, missing = store.put(CONTENT), store.put(b"other")
    store.file(bad).write_bytes(b"")
    store.file(missing).unlink()
    index = backend.Index(files_image([(bad, 0, 0, 10)], [(missing, 0, 0, 5)]))
    reader = backend.Reader(index, store.directory, ONCE, CACHE)
    for ino, said in ((2, OTHER), (3, "not in the store")):
        with pytest.raises(BlobError, match=said):
            reader.read(ino, 0, 10)
    store.put(CONTENT)
    store.put(b"other")

    with pytest.raises(BlobError, match=OTHER):
        reader.read(2, 0, 10)
    assert reader.read(3, 0, 10) == b"other"


@pytest.mark.parametrize("verify", [-1, 3])
def test_an_unknown_mode_is_refused(backends: Backends, layered: tuple[Store, bytes, bytes], verify: int) -> None:
    """Both backends say the same of a mode that does not exist."""
    store, rootfs, _ = layered
    said = [any_outcome(backend.Reader, backend.Index(rootfs), store.directory, verify, 0) for backend in backends]

    assert said[0] == said[1]
    assert said[0][0] == "ValueError"
