"""Putting an image under fs-verity, against a kernel made of Python."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puzzlefs._native import load
from puzzlefs.errors import BlobError, IntegrityError, MissingBlobError, StoreError, UnsupportedError
from puzzlefs.fsverity import VerityResult, enable, enforced
from puzzlefs.image import Image
from tests.images import Crafted, craft, directory, file_of

CONTENT = b"content" * 5000


class Kernel:
    """Answers the two requests as `<linux/fsverity.h>` describes them."""

    def __init__(self) -> None:
        self.enabled: set[int] = set()
        self.failure = 0
        self.refusal = 0
        self.measured: Callable[[bytes], bytes] = load("python").verity_digest

    def ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes:
        """Stand in for fcntl.ioctl."""
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure))
        ino = os.fstat(descriptor).st_ino
        if request == 0x40806685:
            assert argument == bytes.fromhex("010000000100000000100000") + bytes(116)
            if self.refusal:
                raise OSError(self.refusal, os.strerror(self.refusal))
            if ino in self.enabled:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            self.enabled.add(ino)
            return argument
        assert request == 0xC0046686
        assert argument == bytes.fromhex("00002000") + bytes(32)
        if ino not in self.enabled:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return bytes.fromhex("01002000") + self.measured(os.pread(descriptor, 1 << 30, 0))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel with fs-verity."""
    kernel = Kernel()
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    return kernel


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    """One file, twice."""
    inodes = [directory(1, (b"a", 2), (b"b", 3)), file_of(2, CONTENT), file_of(3, CONTENT)]
    return craft(tmp_path / "oci", inodes, [CONTENT])


def test_manifest_rootfs_and_each_blob_once(kernel: Kernel, crafted: Crafted) -> None:
    image = Image.open(crafted.name)
    assert enable(image, image.verity) == VerityResult(3, 0)
    names = {path.stat().st_ino: path.read_bytes() for path in crafted.blobs.iterdir()}
    assert {names[ino] for ino in kernel.enabled} == {image.content, crafted.rootfs, CONTENT}


def test_again_is_fine(kernel: Kernel, crafted: Crafted) -> None:
    image = Image.open(crafted.name)
    enable(image, image.verity)
    assert enable(image, image.verity.upper()) == VerityResult(3, 3)


def test_only_what_the_image_says_counts_as_enforced(kernel: Kernel, crafted: Crafted) -> None:
    """The rootfs blob and the chunk, not the manifest; nothing where the measurement is another."""
    image = Image.open(crafted.name)
    assert enforced(image) == 0
    enable(image, image.verity)
    assert enforced(image) == 2
    kernel.measured = lambda _: b"m" * 32
    assert enforced(image) == 0
    kernel.failure = errno.ENOTTY
    assert enforced(image) == 0


def test_enabled_blobs_need_no_right_to_write(kernel: Kernel, crafted: Crafted) -> None:
    """A filesystem mounted read-only refuses every request to enable."""
    image = Image.open(crafted.name)
    enable(image, image.verity)
    kernel.refusal = errno.EROFS
    assert enable(image, image.verity) == VerityResult(3, 3)


def test_wrong_pin_changes_nothing(kernel: Kernel, crafted: Crafted) -> None:
    with pytest.raises(IntegrityError, match="the manifest's fs-verity digest is not 0000"):
        enable(Image.open(crafted.name), "00" * 32)
    assert kernel.enabled == set()


def test_measurement_must_be_the_images(kernel: Kernel, crafted: Crafted) -> None:
    image = Image.open(crafted.name)
    kernel.measured = lambda _: b"m" * 32
    with pytest.raises(BlobError, match=f"the kernel measures {b'm'.hex() * 32}, not {image.verity}"):
        enable(image, image.verity)


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EOPNOTSUPP])
def test_what_the_system_lacks_is_named(kernel: Kernel, crafted: Crafted, number: int) -> None:
    kernel.failure = number
    image = Image.open(crafted.name)
    with pytest.raises(UnsupportedError, match=r"the filesystem \(\w+\) at .*/sha256 has no fs-verity: needs "):
        enable(image, image.verity)


def test_other_failures_name_the_file(kernel: Kernel, crafted: Crafted) -> None:
    kernel.failure = errno.EROFS
    image = Image.open(crafted.name)
    with pytest.raises(StoreError, match=image.descriptor.raw_digest.hex()):
        enable(image, image.verity)


def test_missing_blob(kernel: Kernel, crafted: Crafted) -> None:
    image = Image.open(crafted.name)
    for path in crafted.blobs.iterdir():
        if path.read_bytes() == CONTENT:
            path.unlink()
    with pytest.raises(MissingBlobError):
        enable(image, image.verity)


def test_blob_without_entry(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crafted = craft(tmp_path / "oci", [directory(1, (b"a", 2)), file_of(2, CONTENT)], [CONTENT], lambda _: bytes(32))
    image = Image.open(crafted.name)
    with pytest.raises(BlobError, match="no fs-verity entry"):
        enable(image, image.verity)


def test_this_filesystem(tmp_path: Path, crafted: Crafted) -> None:
    """On the real kernel: it works, or says what is missing."""
    image: Any = Image.open(crafted.name)
    try:
        assert enable(image, image.verity).files == 3
    except UnsupportedError as error:
        pytest.skip(str(error))
    with pytest.raises(OSError):
        (crafted.blobs / image.descriptor.raw_digest.hex()).write_bytes(b"")
