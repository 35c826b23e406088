"""Images broken in every place: both backends read the original bytes or say what is wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from puzzlefs._native import Backend
from puzzlefs.builder import BuildOptions, build
from puzzlefs.errors import PuzzleFSError
from puzzlefs.image import Image
from puzzlefs.records import CHUNK, VERITY, Kind
from puzzlefs.verify_store import verify_store
from tests.conftest import GoldenImage
from tests.mounts import layout_of

TAGS = ["raw", "packed", "delta"]
Contents = dict[bytes, tuple[Any, bytes]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three images: stored as it is, compressed, and a delta upon the first."""
    home = tmp_path_factory.mktemp("whole")
    tree = home / "tree"
    (tree / "dir").mkdir(parents=True)
    source = random.Random(1)
    (tree / "dir" / "f").write_bytes(source.randbytes(3000))
    (tree / "text").write_bytes(b"the same again " * 9000)
    (tree / "link").symlink_to("dir/f")
    (tree / "dir" / "hard").hardlink_to(tree / "text")
    os.mkfifo(tree / "pipe")
    build(tree, f"{home}/oci:raw")
    build(tree, f"{home}/oci:packed", BuildOptions(compression=True))
    (tree / "dir" / "new").write_bytes(source.randbytes(2000))
    (tree / "pipe").unlink()
    build(tree, f"{home}/oci:delta", BuildOptions(base="raw"))
    return home / "oci"


def contents(name: str) -> Contents:
    """Return everything that an image says of each path, its bytes included."""
    image = Image.open(name)
    found = {}
    for path, ino in image.walk():
        stat = image.index.stat(ino)
        content = image.filesystem.reader.read(ino, 0, stat[7]) if stat[1] == Kind.FILE else image.index.symlink(ino)
        found[path] = (stat, content)
    return found


def blobs_of_files(image: Image) -> set[str]:
    """Return the names of the blobs that the tree's files take bytes from; a delta lists its base's too."""
    digests = [digest.hex() for digest, _ in VERITY.iter_unpack(image.index.blobs())]
    chunks = (CHUNK.iter_unpack(image.index.chunks(ino)) for ino in image.index.inodes())
    return {digests[row] for rows in chunks for row, *_ in rows}


def is_right_or_refused(name: str, right: Contents) -> bool:
    """Assert that an image is read as it was or not at all; return whether it was read."""
    try:
        found = contents(name)
    except PuzzleFSError:
        return False
    assert found == right
    return True


def damages(content: bytes, others: list[bytes]) -> Iterator[bytes]:
    """Yield a file's content cut, extended, swapped for others, with a bit flipped in each of its bytes
    (of a larger file in 150 or so)."""
    for length in {0, 1, len(content) // 2, len(content) - 1}:
        yield content[:length]
    yield content + b"\0"
    yield content + bytes(4096)
    yield from others
    for at in range(0, len(content), max(1, len(content) // 150)):
        yield content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]


def assert_noticed(layout: Path, tag: str) -> None:
    """Both ways to verify find something wrong."""
    with suppress(PuzzleFSError):
        assert not Image.open(f"{layout}:{tag}").verify().ok
    assert not verify_store(layout).ok


@pytest.mark.parametrize("tag", TAGS)
def test_every_blob_damaged(tag: str, whole: Path, tmp_path: Path, chosen: Backend) -> None:
    """No reader is given a byte of what a damaged blob holds, and `verify` tells of it."""
    layout = tmp_path / "oci"
    shutil.copytree(whole, layout)
    right = contents(f"{layout}:{tag}")
    image = Image.open(f"{layout}:{tag}")
    descriptors = [image.descriptor, image.manifest.config, *image.manifest.layers]
    places = [layout / "blobs" / "sha256" / descriptor.raw_digest.hex() for descriptor in descriptors]
    originals = [place.read_bytes() for place in places]
    needed = {places[0].name, places[2].name, *blobs_of_files(image)}
    for place, original in zip(places, originals, strict=True):
        others = [other for other in originals if other != original]
        for number, damaged in enumerate(damages(original, others)):
            place.write_bytes(damaged)
            assert not is_right_or_refused(f"{layout}:{tag}", right) or place.name not in needed
            if number % 10 == 0:
                assert_noticed(layout, tag)
        place.unlink()
        assert not is_right_or_refused(f"{layout}:{tag}", right) or place.name not in needed
        place.write_bytes(original)
    assert is_right_or_refused(f"{layout}:{tag}", right)


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_every_document_damaged(name: str, whole: Path, tmp_path: Path, chosen: Backend) -> None:
    layout = tmp_path / "oci"
    shutil.copytree(whole, layout)
    right = {tag: contents(f"{layout}:{tag}") for tag in TAGS}
    place = layout / name
    original = place.read_bytes()
    for damaged in damages(original, [b"[]", b"{}", b"null"]):
        place.write_bytes(damaged)
        for tag in TAGS:
            is_right_or_refused(f"{layout}:{tag}", right[tag])
        with suppress(PuzzleFSError):
            verify_store(layout)


@pytest.mark.parametrize("kind", ["manifest", "rootfs", "chunk"])
def test_extraction_of_damaged_images(kind: str, whole: Path, tmp_path: Path, chosen: Backend) -> None:
    """A file that was unpacked whole is right; else there is an error."""
    layout = tmp_path / "oci"
    shutil.copytree(whole, layout)
    for tag in TAGS:
        image = Image.open(f"{layout}:{tag}")
        descriptor = {"manifest": image.descriptor, "rootfs": image.manifest.rootfs, "chunk": image.manifest.layers[1]}[
            kind
        ]
        place = layout / "blobs" / "sha256" / descriptor.raw_digest.hex()
        original = place.read_bytes()
        for number, damaged in enumerate([original[:-1], original + b"\0", b"", b"x" + original[1:]]):
            place.write_bytes(damaged)
            with pytest.raises(PuzzleFSError):
                Image.open(f"{layout}:{tag}").extract(tmp_path / f"{tag}{number}")
        place.write_bytes(original)


def test_golden_images_damaged(golden: dict[str, GoldenImage], tmp_path: Path, chosen: Backend) -> None:
    """The original's images: each blob cut, extended, flipped and swapped."""
    for number, name in enumerate(["vi-kinds:v", "vic-kinds:v", "vi-delta:delta", "vic-text:v"]):
        layout = tmp_path / str(number)
        shutil.copytree(golden[name].blobs.parent.parent, layout)
        tag = layout_of(golden[name]).rpartition(":")[2]
        right = contents(f"{layout}:{tag}")
        image = Image.open(f"{layout}:{tag}")
        layers = image.manifest.layers
        for descriptor in [image.descriptor, layers[0], layers[1]]:
            place = layout / "blobs" / "sha256" / descriptor.raw_digest.hex()
            original = place.read_bytes()
            for damaged in list(damages(original, [image.content]))[::9]:
                if damaged != original:
                    place.write_bytes(damaged)
                    assert not is_right_or_refused(f"{layout}:{tag}", right)
            assert_noticed(layout, tag)
            place.write_bytes(original)


def replaced(layout: Path, tag: str, change: Callable[[bytes], bytes]) -> None:
    """Give a tag another manifest, with a right digest."""
    document = json.loads((layout / "index.json").read_bytes())
    for entry in document["manifests"]:
        if entry["annotations"]["org.opencontainers.image.ref.name"] == tag:
            blobs = layout / "blobs" / "sha256"
            content = change((blobs / entry["digest"][7:]).read_bytes())
            digest = sha256(content).hexdigest()
            (blobs / digest).write_bytes(content)
            entry |= {"digest": f"sha256:{digest}", "size": len(content)}
    (layout / "index.json").write_text(json.dumps(document))


ODD = [None, True, -1, 1 << 80, 1e300, "", "sha256:", "sha256:" + "g" * 64, "\ud800", [], [[]], {}, {"a": 1}]


def test_odd_values_in_every_field(whole: Path, tmp_path: Path, chosen: Backend) -> None:
    """A manifest with a right digest that has something odd in a field, or lacks it."""
    layout = tmp_path / "oci"
    shutil.copytree(whole, layout)
    right = contents(f"{layout}:raw")
    index = (layout / "index.json").read_bytes()
    manifest = json.loads(Image.open(f"{layout}:raw").content)
    for place in ((), ("config",), ("layers", 0), ("layers", 1)):
        target = manifest
        for key in place:
            target = target[key]
        for key in list(target):
            kept = target.pop(key)
            for value in [..., *ODD]:
                if value is not ...:
                    target[key] = value
                content = json.dumps(manifest).encode()
                replaced(layout, "raw", lambda _, content=content: content)
                is_right_or_refused(f"{layout}:raw", right)
                verify_store(layout)
                (layout / "index.json").write_bytes(index)
            target[key] = kept


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"layers":' * 100_000,
        b'{"a":' + b"9" * 100_000 + b"}",
        b'{"schemaVersion":2,"schemaVersion":3}',
        b'{"schemaVersion":2,"layers":[],"layers":[1]}',
        b"\xff\xfe{}",
        b'{"schemaVersion":2,"layers":[{}]}' + b" " * 1000,
        b"",
    ],
)
def test_odd_json(content: bytes, whole: Path, tmp_path: Path) -> None:
    """Deep nesting, endless numbers, keys twice, no UTF-8: refused as a manifest, an index, a marker."""
    layout = tmp_path / "oci"
    shutil.copytree(whole, layout)
    replaced(layout, "raw", lambda _: content)
    with pytest.raises(PuzzleFSError):
        Image.open(f"{layout}:raw")
    assert not verify_store(layout).ok
    for name in ("index.json", "oci-layout"):
        (layout / name).write_bytes(content)
        with pytest.raises(PuzzleFSError):
            Image.open(f"{layout}:packed")


@pytest.mark.parametrize("kind", ["index.json", "oci-layout", "manifest", "rootfs", "chunk"])
def test_pipes_and_directories_in_place_of_files(kind: str, whole: Path, tmp_path: Path, chosen: Backend) -> None:
    """Nothing waits for a pipe that nobody writes to."""
    layout = tmp_path / "oci"
    shutil.copytree(whole, layout)
    image = Image.open(f"{layout}:raw")
    blobs = layout / "blobs" / "sha256"
    place = {
        "manifest": blobs / image.descriptor.raw_digest.hex(),
        "rootfs": blobs / image.manifest.rootfs.raw_digest.hex(),
        "chunk": blobs / image.manifest.layers[1].raw_digest.hex(),
    }.get(kind, layout / kind)
    place.unlink()
    for make in (os.mkfifo, os.mkdir):
        make(place)
        with pytest.raises(PuzzleFSError):
            contents(f"{layout}:raw")
        with pytest.raises(PuzzleFSError):
            Image.open(f"{layout}:raw").extract(tmp_path / make.__name__)
        place.unlink() if make is os.mkfifo else place.rmdir()
