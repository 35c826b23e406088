"""Small images that promise much: time and memory stay bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

from puzzlefs import constants
from puzzlefs._native import load
from puzzlefs.constants import FRAME_SIZE_LIMIT, GIB, MIB
from puzzlefs.oci import EMPTY_DESCRIPTOR, Descriptor, canonical
from puzzlefs.records import COMPRESSED, Kind
from puzzlefs.store import Store
from puzzlefs.tables import Inode
from tests.images import TAG, Crafted, craft, directory, file_of
from tests.support import measured

# Of the kernel's count, for a program that keeps 128 MiB of decoded frames; and of addresses.
MEMORY = 300 * MIB
ADDRESSES = 3 * GIB


class Run(NamedTuple):
    code: int
    said: str
    memory: int


def run(backend: str, *words: object, output: int = subprocess.DEVNULL, limits: tuple[str, ...] = ()) -> Run:
    """Run the program with bounded addresses; return what became of it."""
    command = ["prlimit", f"--as={ADDRESSES}", *limits, sys.executable, "-m", "puzzlefs", *words]
    return Run(*measured(command, {"PUZZLEFS_BACKEND": backend}, output))


def repeated(count: int, claimed: int | None = None) -> bytes:
    """Return a compressed blob of `count` frames, each of 16 MiB of zeros, or of one that claims so many bytes."""
    content = bytes(FRAME_SIZE_LIMIT if claimed is None else 1)
    one = load("python").compress(content, FRAME_SIZE_LIMIT)
    # Before the table's header (8), one entry (8) and the footer (9) stands the frame.
    frame = one[:-25]
    entry = len(frame).to_bytes(4, "little") + (claimed or FRAME_SIZE_LIMIT).to_bytes(4, "little")
    header = (0x184D2A5E).to_bytes(4, "little") + (8 * count + 9).to_bytes(4, "little")
    return frame * count + header + entry * count + count.to_bytes(4, "little") + b"\0" + one[-4:]


def image_of(layout: Path, blob: bytes, length: int, times: int = 1) -> Crafted:
    """An image of one file: `length` bytes of a compressed blob, so many times."""
    chunk = (sha256(blob).digest(), COMPRESSED, 0, length)
    return craft(layout, [directory(1, (b"f", 2)), Inode(2, Kind.FILE, chunks=(chunk,) * times)], [blob])


def test_frames_that_claim_much(tmp_path: Path, backend_name: str) -> None:
    """100,000 frames of 9 bytes that claim 16 MiB each: the first that is read is damaged."""
    crafted = image_of(tmp_path / "oci", repeated(100_000, FRAME_SIZE_LIMIT), 1 << 40)
    for words in (["cat", crafted.name, "f"], ["extract", crafted.name, tmp_path / "out"]):
        done = run(backend_name, *words)
        assert (done.code, done.said.endswith(": frame damaged\n"), done.memory < MEMORY) == (3, True, True), done
    done = run(backend_name, "verify", crafted.name)
    assert (done.code, "frame damaged" in done.said, done.memory < MEMORY) == (3, True, True), done


def test_zeros_beyond_measure(tmp_path: Path, backend_name: str) -> None:
    """256 MiB in 9 KiB: it is unpacked as a hole, with little memory."""
    crafted = image_of(tmp_path / "oci", repeated(16), GIB // 4)
    done = run(backend_name, "extract", crafted.name, tmp_path / "out")
    assert (done.code, done.said, done.memory < MEMORY) == (0, "", True), done
    status = (tmp_path / "out" / "f").stat()
    assert (status.st_size, status.st_blocks) == (GIB // 4, 0)


def test_size_that_no_disk_takes(tmp_path: Path, backend_name: str) -> None:
    """A file of 2^44 zeros, one chunk repeated: the size is refused before a byte is decoded."""
    crafted = image_of(tmp_path / "oci", repeated(64), GIB, 1 << 14)
    start = time.monotonic()
    done = run(backend_name, "extract", crafted.name, tmp_path / "out", limits=(f"--fsize={4 * GIB}",))
    assert (done.code, done.said) == (1, f"puzzlefs: {tmp_path}/out/f: File too large\n")
    assert done.memory < MEMORY and time.monotonic() - start < 30


def test_endless_file_is_printed_until_nobody_reads(tmp_path: Path, backend_name: str) -> None:
    crafted = image_of(tmp_path / "oci", repeated(64), GIB, 1 << 14)
    reader, writer = os.pipe()
    head = subprocess.Popen(["head", "-c", "3000000"], stdin=reader, stdout=subprocess.DEVNULL)
    os.close(reader)
    done = run(backend_name, "cat", crafted.name, "f", output=writer)
    os.close(writer)
    assert head.wait() == 0
    assert (done.code, done.said, done.memory < MEMORY) == (0, "", True), done


def test_disk_that_a_repeated_chunk_fills(tmp_path: Path, backend_name: str) -> None:
    """A file of 900 MiB, one chunk repeated, upon a limit of 8 MiB: an error and little memory."""
    blob = os.urandom(MIB)
    chunk = (sha256(blob).digest(), 0, 0, MIB)
    inodes = [directory(1, (b"f", 2)), Inode(2, Kind.FILE, chunks=(chunk,) * 900)]
    crafted = craft(tmp_path / "oci", inodes, [blob])
    done = run(backend_name, "extract", crafted.name, tmp_path / "out", limits=(f"--fsize={8 * MIB}",))
    assert (done.code, done.said) == (1, f"puzzlefs: {tmp_path}/out/f: File too large\n")
    assert done.memory < MEMORY


@pytest.mark.parametrize("layers", [300_000, 1_000_000])
def test_manifest_of_many_layers(layers: int, tmp_path: Path, backend_name: str) -> None:
    """Below 64 MiB of JSON it is read, above refused, unread."""
    crafted = craft(tmp_path / "oci", [directory(1, (b"f", 2)), file_of(2, b"x")], [b"x"])
    store = Store.open(tmp_path / "oci")
    rootfs = Descriptor.of(constants.ROOTFS, crafted.rootfs).document()
    layer = {"mediaType": "", "digest": f"sha256:{0:064}", "size": 0}
    document = {"config": EMPTY_DESCRIPTOR.document(), "layers": [rootfs], "schemaVersion": 2}
    content = canonical(document).replace(b"}],", b"}" + (b"," + canonical(layer)) * layers + b"],")
    with store.unfinished() as unfinished:
        store.put(content, unfinished)
    store.tag(TAG, Descriptor.of(constants.MANIFEST, content))
    done = run(backend_name, "ls", crafted.name)
    if layers == 1_000_000:
        assert (done.code, "are too many" in done.said, done.memory < MEMORY) == (3, True, True), done
    else:
        assert (done.code, done.said, done.memory < GIB) == (0, "", True), done
