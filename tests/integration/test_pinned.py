"""`mount -d DIGEST` without the kernel's help: each byte is checked before it is served, each file opened once."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from puzzlefs.builder import BuildOptions, build
from puzzlefs.errors import IntegrityError
from puzzlefs.image import Image
from puzzlefs.records import CHUNK, VERITY
from tests.mounts import mounted, requires_fuse
from tests.support import run_puzzlefs

BLOCK = 4096
_IN_OPEN = 0x20
_EVENT = struct.Struct("iIII")


@pytest.fixture(autouse=True)
def _backend(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of every mount uses each backend in turn."""
    requires_fuse()
    monkeypatch.setenv("PUZZLEFS_BACKEND", backend_name)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """A pinned image of two files, the chunks of `noise` of at least 16 blocks."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "noise").write_bytes(random.Random(1).randbytes(600_000))
    (tree / "small").write_bytes(b"small\n")
    result = build(tree, f"{tmp_path}/oci:v", BuildOptions(pack_size=0))
    return Image.open(f"{tmp_path}/oci:v", result.digest)


def chunks_of(image: Image, path: str) -> list[tuple[Path, int, int]]:
    """Return (blob, start in it, length) of a file's chunks."""
    blobs = [image.blobs / digest.hex() for digest, _ in VERITY.iter_unpack(image.index.blobs())]
    rows = CHUNK.iter_unpack(image.index.chunks(image.resolve(path)))
    return [(blobs[row], start, length) for row, _, start, length in rows]


def flip(path: Path, offset: int) -> None:
    """Change one bit in place."""
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def read_from_server(path: Path, offset: int) -> bytes:
    """Read a block of a mounted file, and not out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(descriptor, BLOCK, offset)
    finally:
        os.close(descriptor)


def is_eio(read: Callable[[], object]) -> bool:
    try:
        read()
    except OSError as error:
        return error.errno == errno.EIO
    return False


def test_a_flipped_byte_anywhere_is_never_served(image: Image, tmp_path: Path) -> None:
    """Manifest and rootfs blob: no mount. A chunk: an error, and all other bytes right."""
    rootfs = image.blobs / image.manifest.rootfs.raw_digest.hex()
    for path in (image.blobs / image.descriptor.raw_digest.hex(), rootfs):
        for offset in (0, path.stat().st_size // 2, path.stat().st_size - 1):
            flip(path, offset)
            done = run_puzzlefs("mount", "-d", image.verity, image.name, tmp_path, check=False)
            assert done.returncode == 3, done.stderr
            flip(path, offset)
    noise = (tmp_path / "tree" / "noise").read_bytes()
    chunk, start, length = chunks_of(image, "noise")[1]
    before = chunks_of(image, "noise")[0][2]
    for offset in (start, start + length // 2, start + length - 1):
        flip(chunk, offset)
        with mounted(str(image.name), tmp_path / "m", image.verity) as root:
            assert (root / "small").read_bytes() == b"small\n"
            assert read_from_server(root / "noise", 0) == noise[:BLOCK]
            assert is_eio(lambda root=root: read_from_server(root / "noise", before))  # type: ignore[misc]
        flip(chunk, offset)


def test_the_index_is_trusted_for_nothing(image: Image, tmp_path: Path) -> None:
    """It may name another manifest, platform or size: what is mounted is what the digest says, or nothing."""
    (tmp_path / "tree" / "small").write_bytes(b"forged\n")
    build(tmp_path / "tree", f"{tmp_path}/oci:forged")
    index = tmp_path / "oci" / "index.json"
    document = json.loads(index.read_bytes())
    honest, forged = document["manifests"]
    name = "org.opencontainers.image.ref.name"
    forged["annotations"][name] = honest["annotations"][name]
    document["manifests"] = [forged]
    index.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="the manifest's fs-verity digest is not"):
        Image.open(str(image.name), image.verity)
    done = run_puzzlefs("mount", "-d", image.verity, image.name, tmp_path, check=False)
    assert done.returncode == 3, done.stderr


def test_nothing_is_looked_up_again_after_its_check(image: Image, tmp_path: Path) -> None:
    """Once mounted, index, manifest and rootfs blob may be anything; a chunk that was read, too."""
    small = chunks_of(image, "small")[0][0]
    documents = [image.blobs / image.descriptor.raw_digest.hex(), image.blobs / image.manifest.rootfs.raw_digest.hex()]
    with mounted(str(image.name), tmp_path / "m", image.verity) as root:
        assert read_from_server(root / "small", 0) == b"small\n"
        for path in (tmp_path / "oci" / "index.json", *documents, small):
            forged = tmp_path / "forged"
            forged.write_bytes(b"forged\n")
            forged.rename(path)
        assert read_from_server(root / "small", 0) == b"small\n"
        assert (root / "noise").read_bytes() == (tmp_path / "tree" / "noise").read_bytes()


@contextmanager
def opens_counted(directory: Path) -> Iterator[Counter[str]]:
    """Count how often each file of a directory is opened, by whichever process."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert queue >= 0 and libc.inotify_add_watch(queue, os.fsencode(directory), _IN_OPEN) >= 0
    counts: Counter[str] = Counter()
    try:
        yield counts
        events = os.read(queue, 1 << 20)
    finally:
        os.close(queue)
    while events:
        *_, length = _EVENT.unpack_from(events)
        name = events[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode()
        # The directory's own openings have no name.
        counts.update([name] if name else [])
        events = events[_EVENT.size + length :]


def test_each_file_is_opened_once(image: Image, tmp_path: Path) -> None:
    """From the command's start to the last byte of every file."""
    mountpoint = tmp_path / "m"
    mountpoint.mkdir()
    with opens_counted(image.blobs) as counts:
        run_puzzlefs("mount", "-d", image.verity, image.name, mountpoint)
        try:
            for _ in range(2):
                subprocess.run(["cat", mountpoint / "noise", mountpoint / "small"], capture_output=True, check=True)
        finally:
            run_puzzlefs("umount", mountpoint)
    digests = [image.descriptor.raw_digest, *(layer.raw_digest for layer in image.manifest.layers)]
    assert counts == {digest.hex(): 1 for digest in digests}


@pytest.mark.parametrize("change", ["written", "truncated"])
def test_a_blob_that_changes_after_its_check_is_noticed(image: Image, tmp_path: Path, change: str) -> None:
    """Another process writes into the very file that is served."""
    noise = (tmp_path / "tree" / "noise").read_bytes()
    chunk, start, _ = chunks_of(image, "noise")[0]
    log = tmp_path / "log"
    with mounted(str(image.name), tmp_path / "m", image.verity, log=log) as root:
        assert read_from_server(root / "noise", 0) == noise[:BLOCK]
        if change == "written":
            flip(chunk, start + 8 * BLOCK)
        else:
            os.truncate(chunk, start + 8 * BLOCK)
        assert is_eio(lambda: read_from_server(root / "noise", 8 * BLOCK))
    assert f"blob sha256:{chunk.name}: content does not match the digest" in log.read_text()
