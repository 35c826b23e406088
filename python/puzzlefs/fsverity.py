"""The kernel's fs-verity: making files immutable and having every read of them checked.

`<linux/fsverity.h>` has the numbers and structures.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from puzzlefs import constants, mountinfo
from puzzlefs._native import native
from puzzlefs.errors import BlobError, IntegrityError, MissingBlobError, StoreError, UnsupportedError, shown
from puzzlefs.names import parse_verity
from puzzlefs.records import VERITY

if TYPE_CHECKING:
    from puzzlefs.image import Image

_ENABLE: Final = 0x40806685
_MEASURE: Final = 0xC0046686
_SHA256: Final = 1
# version, algorithm, block size, salt size and address, signature size, 0, signature address, 11 times 0
_ENABLE_ARGUMENT: Final = Struct("<IIIIQIIQ88x")
# algorithm, digest size, digest
_DIGEST: Final = Struct("<HH32s")
_UNSUPPORTED: Final = (errno.ENOTTY, errno.EOPNOTSUPP)
_NO_ENTRY: Final = bytes(32)


class VerityResult(NamedTuple):
    """How many files are now under fs-verity, and how many of them already were."""

    files: int
    already: int


def enable(image: Image, digest: str) -> VerityResult:
    """Put an image's manifest, rootfs blob and file data under fs-verity and check each measurement.

    digest is the manifest's fs-verity digest in hex, which everything else follows from. Files that
    are under fs-verity already are measured only. Raises `IntegrityError` or `BlobError` where a
    digest is not as the image has it, `UnsupportedError` where the filesystem or kernel lacks
    fs-verity, `StoreError` for a file that cannot be changed.
    """
    if native.verity_digest(image.content) != parse_verity(digest):
        raise IntegrityError(f"{image.name}: the manifest's fs-verity digest is not {digest.lower()}")
    files = already = 0
    for blob, verity in _chain(image, parse_verity(digest)):
        already += not _enable_blob(image, blob, verity)
        files += 1
    return VerityResult(files, already)


def _chain(image: Image, digest: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (SHA-256, fs-verity digest) of every blob that the manifest's digest vouches for."""
    yield image.descriptor.raw_digest, digest
    rootfs = image.manifest.rootfs
    stated = rootfs.annotations.get(constants.ROOTFS_VERITY)
    if stated is None:
        raise IntegrityError(f"{image.name}: the manifest names no fs-verity digest of the rootfs blob")
    # Reading it checks it against that very digest.
    yield rootfs.raw_digest, native.verity_digest(image.rootfs)
    for blob, verity in VERITY.iter_unpack(image.index.blobs()):
        if verity == _NO_ENTRY:
            raise BlobError(blob, "no fs-verity entry")
        yield blob, verity


def _enable_blob(image: Image, blob: bytes, verity: bytes) -> bool:
    """Put one blob under fs-verity; return False where it already was."""
    path = image.blobs / blob.hex()
    with _opened(path, blob) as descriptor:
        try:
            new = enable_file(descriptor)
            found = measure_file(descriptor)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                raise UnsupportedError(_lack(descriptor, path, error.errno)) from error
            raise StoreError(os.fsencode(path), error.errno or errno.EIO) from error
    if found != verity:
        raise BlobError(blob, f"the kernel measures {found.hex()}, not {verity.hex()}")
    return new


@contextmanager
def _opened(path: os.PathLike[str], blob: bytes) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingBlobError(blob) from None
    except OSError as error:
        raise StoreError(os.fsencode(path), error.errno or errno.EIO) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def enable_file(descriptor: int) -> bool:
    """Put a file, open for reading and by nobody for writing, under fs-verity; False where it was.

    Raises `OSError`: ENOTTY where the filesystem knows no fs-verity, EOPNOTSUPP where it or the
    kernel has it switched off.
    """
    argument = _ENABLE_ARGUMENT.pack(1, _SHA256, constants.VERITY_BLOCK, 0, 0, 0, 0, 0)
    try:
        fcntl.ioctl(descriptor, _ENABLE, argument)
    except FileExistsError:
        return False
    return True


def measure_file(descriptor: int) -> bytes:
    """Return the fs-verity digest that the kernel has for a file. Raises `OSError` ENODATA without."""
    answer = fcntl.ioctl(descriptor, _MEASURE, _DIGEST.pack(0, 32, b""))
    algorithm, size, digest = _DIGEST.unpack(answer)
    if algorithm != _SHA256 or size != 32:
        raise OSError(errno.EOPNOTSUPP, "measured with another algorithm than SHA-256")
    return bytes(digest)


def _lack(descriptor: int, path: os.PathLike[str], number: int) -> str:
    mount = mountinfo.of_device(os.fstat(descriptor).st_dev)
    kind = mount.kind if mount else "unknown"
    directory = shown(os.path.dirname(os.fspath(path)))
    if kind in ("ext4", "f2fs"):
        need = "a kernel with CONFIG_FS_VERITY and the filesystem's feature 'verity'"
    elif kind == "btrfs":
        need = "a kernel with CONFIG_FS_VERITY"
    else:
        need = "an ext4, f2fs or btrfs filesystem"
    return f"the filesystem ({kind}) at {directory} has no fs-verity: needs {need} ({os.strerror(number)})"
