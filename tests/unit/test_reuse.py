"""Builds refer to chunks of images that the user names, and to no others."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from puzzlefs import reuse
from puzzlefs._native import Backend
from puzzlefs.builder import BuildOptions, Profile
from puzzlefs.builder import build as build_image
from puzzlefs.constants import PACK_SIZE_MIN
from puzzlefs.errors import BlobError, MissingBlobError, UsageError
from puzzlefs.image import Image
from puzzlefs.names import ImageName
from puzzlefs.records import BLOB, CONTENT
from puzzlefs.rootfs import Base
from tests.conftest import Backends
from tests.parity.files import plan
from tests.parity.outcome import any_outcome
from tests.strategies import noise
from tests.support import make_writer, puzzlefs, read_manifest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of large and small files."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(6):
        (tree / f"{number}-large").write_bytes(noise(number, 700_000).hex().encode())
        for small in range(9):
            (tree / f"{number}-small-{small}").write_bytes(noise(number * 10 + small, 7_000))
    return tree


def build(tree: Path, name: str, *flags: object, backend: str = "rust") -> None:
    puzzlefs("build", "-c", "--no-cache", "--pack-size", "256K", *flags, tree, name, backend=backend)


def stored_bytes(layout: Path) -> int:
    return sum(path.stat().st_size for path in (layout / "blobs" / "sha256").iterdir())


def test_a_delta_refers_to_the_packs_of_its_base(tree: Path, tmp_path: Path) -> None:
    """A changed file stores its own chunks and those at its borders, not the packs around it."""
    store = tmp_path / "oci"
    build(tree, f"{store}:base")
    before = stored_bytes(store)
    content = (tree / "3-large").read_bytes()
    (tree / "3-large").write_bytes(content[:600_000] + b"changed" + content[600_000:])
    build(tree, f"{store}:delta", "-b", "base")

    assert stored_bytes(store) - before < 4 * 256 * 1024
    puzzlefs("verify", f"{store}:delta")
    puzzlefs("extract", f"{store}:delta", tmp_path / "out")
    assert (tmp_path / "out" / "3-large").read_bytes() == (tree / "3-large").read_bytes()


def test_an_unchanged_tree_has_no_new_chunks(tree: Path, tmp_path: Path) -> None:
    """All chunks of the base are found again, from its metadata and its blobs alone."""
    store = tmp_path / "oci"
    build(tree, f"{store}:base")
    layers = {layer["digest"] for layer in read_manifest(store, "base")[1]["layers"]}
    build(tree, f"{store}:again", "-b", "base")

    assert {layer["digest"] for layer in read_manifest(store, "again")[1]["layers"]} == layers


def test_an_image_of_another_store_brings_its_blobs(tree: Path, tmp_path: Path) -> None:
    """The image is whole by itself: what it refers to is copied."""
    build(tree, f"{tmp_path}/one:v")
    (tree / "more").write_bytes(noise(99, 300_000))
    build(tree, f"{tmp_path}/two:v", "--reuse", f"{tmp_path}/one:v")
    blobs = {path.name for path in (tmp_path / "one/blobs/sha256").iterdir()}
    shutil.rmtree(tmp_path / "one")

    assert len(blobs & {path.name for path in (tmp_path / "two/blobs/sha256").iterdir()}) > 5
    puzzlefs("verify", f"{tmp_path}/two:v")
    puzzlefs("extract", f"{tmp_path}/two:v", tmp_path / "out")
    assert (tmp_path / "out" / "more").read_bytes() == (tree / "more").read_bytes()


def test_both_backends_refer_to_the_same(tree: Path, tmp_path: Path) -> None:
    """And what an earlier build left makes no difference."""
    manifests = []
    shutil.copytree(tree, tmp_path / "copy")
    (tmp_path / "copy" / "0-large").write_bytes(noise(77, 500_000))
    for backend in ("rust", "python"):
        store = tmp_path / backend
        build(tree, f"{store}:base", backend=backend)
        for flags in (("--no-cache",), ("--cache-dir", tmp_path / "cache"), ("--cache-dir", tmp_path / "cache")):
            words = "build", "-c", "--pack-size", "256K", "-b", "base", *flags, tmp_path / "copy", f"{store}:delta"
            puzzlefs(*words, backend=backend)
            manifests.append(read_manifest(store, "delta")[0]["digest"])

    assert len(set(manifests)) == 1


def test_a_trace_with_offered_blobs_is_no_offer(backends: Backends, tree: Path, tmp_path: Path) -> None:
    """Without the offer a later build makes packs of its own, from what the trace knows of the bytes."""
    paths, rows = plan(tree)
    results = []
    for number, backend in enumerate(backends):
        home = tmp_path / str(number)
        home.mkdir()
        run = make_writer(backend, tree, home, 2, PACK_SIZE_MIN).run
        alone = run(paths, rows, None, 1 << 62)
        other = make_writer(backend, tree, home, 2, 0).run(paths, rows, None, 1 << 62)
        offered = other[0], contents(backend, home, other[0])
        mixed = make_writer(backend, tree, home, 2, PACK_SIZE_MIN).run(paths, rows, None, 1 << 62, None, offered)
        again = make_writer(backend, tree, home, 2, PACK_SIZE_MIN).run(paths, rows, mixed[4], 1 << 62)
        repeated = make_writer(backend, tree, home, 2, PACK_SIZE_MIN).run(paths, rows, mixed[4], 1 << 62, None, offered)
        assert mixed[:4] == other[:4]
        assert again == alone
        assert repeated == mixed
        results.append((mixed, again))
    assert results[0] == results[1]


def contents(backend: Backend, home: Path, blobs: bytes) -> bytes:
    """Return the rows of the chunks that are blobs of their own."""
    rows = []
    for number, (digest, _, _, raw_size, flags, _) in enumerate(BLOB.iter_unpack(blobs)):
        stored = (home / "blobs" / digest.hex()).read_bytes()
        raw = backend.decompress(stored) if flags else stored
        rows.append(CONTENT.pack(sha256(raw).digest(), number, raw_size, 0))
    return b"".join(rows)


def test_offers_that_make_no_sense_are_refused_alike(backends: Backends, tree: Path, tmp_path: Path) -> None:
    """Rows that are not whole, chunks of no blob, chunks beyond their blob's end."""
    blob = BLOB.pack(bytes(32), bytes(32), 9, 9, 0, 0)
    bad = [
        (blob, b"1"),
        (b"1", b""),
        (blob, CONTENT.pack(bytes(32), 1, 1, 0)),
        (blob, CONTENT.pack(bytes(32), 0, 2, 8)),
    ]
    for offered in bad:
        said = [
            any_outcome(make_writer(backend, tree, tmp_path).run, b"", b"", None, 0, None, offered)
            for backend in backends
        ]
        assert said[0] == said[1]
        assert said[0][0] == "ValueError"


def test_blobs_that_are_offered_must_be_there(tree: Path, tmp_path: Path) -> None:
    """A named image whose blobs are gone is an error, not a larger image."""
    build(tree, f"{tmp_path}/one:v")
    options = BuildOptions(compression=True, pack_size=PACK_SIZE_MIN, reuse=[f"{tmp_path}/one:v"])
    for layer in read_manifest(tmp_path / "one", "v")[1]["layers"][1:]:
        os.unlink(tmp_path / "one/blobs/sha256" / layer["digest"].removeprefix("sha256:"))
    with pytest.raises(MissingBlobError):
        build_image(tree, f"{tmp_path}/two:v", options)
    with pytest.raises(UsageError):
        build_image(tree, f"{tmp_path}/two:v", options._replace(profile=Profile.UPSTREAM))


def test_chunks_of_an_image_are_read_once(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tree, f"{tmp_path}/oci:base")
    base = Base.of(Image.open(ImageName(f"{tmp_path}/oci", "base")))
    read = reuse.offered([base, base], 1)
    kept = reuse.offered([base, base], 1, tmp_path / "cache")
    monkeypatch.setattr(reuse, "_read", None)

    assert reuse.offered([base, base], 1, tmp_path / "cache") == kept == read


def test_chunks_are_not_kept_from_a_store_that_lost_a_blob(tree: Path, tmp_path: Path) -> None:
    build(tree, f"{tmp_path}/oci:base")
    base = Base.of(Image.open(ImageName(f"{tmp_path}/oci", "base")))
    blobs, _ = reuse.offered([base], 1, tmp_path / "cache")
    blob = tmp_path / "oci/blobs/sha256" / blobs[:32].hex()
    blob.rename(tmp_path / "blob")
    with pytest.raises(MissingBlobError):
        reuse.offered([base], 1, tmp_path / "cache")

    blob.write_bytes(b"cut short")
    with pytest.raises(BlobError):
        reuse.offered([base], 1, tmp_path / "cache")
