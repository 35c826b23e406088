"""The kernel's fs-verity: making an image's blobs immutable and having every read of them checked."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from puzzlefs import constants, mountinfo
from puzzlefs._native import native
from puzzlefs.errors import BlobError, IntegrityError, MissingBlobError, StoreError, UnsupportedError, shown
from puzzlefs.names import parse_verity
from puzzlefs.records import VERITY
from puzzlefs.verity_ioctl import enable_file, measure_file

if TYPE_CHECKING:
    from puzzlefs.image import Image

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
    path = os.path.join(image.store.blob_directory, blob.hex())
    with _opened(path, blob) as descriptor:
        try:
            # First, because a filesystem that is mounted read-only refuses to enable what is enabled.
            found = measure_file(descriptor)
            new = found is None and enable_file(descriptor)
            found = found or measure_file(descriptor) or b""
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                raise UnsupportedError(_lack(descriptor, path, error.errno)) from error
            raise StoreError(os.fsencode(path), error.errno or errno.EIO) from error
    if found != verity:
        raise BlobError(blob, f"the kernel measures {found.hex()}, not {verity.hex()}")
    return new


def enforced(image: Image) -> int:
    """Return how many of an image's blobs, the rootfs blob included, the kernel checks against the image.

    Those are the blobs under fs-verity whose measurement is what the image says.
    """
    stated = dict(VERITY.iter_unpack(image.index.blobs()))
    rootfs = image.manifest.rootfs
    stated[rootfs.raw_digest] = native.verity_digest(image.rootfs)
    count = 0
    for blob, verity in stated.items():
        try:
            with _opened(os.path.join(image.store.blob_directory, blob.hex()), blob) as descriptor:
                count += measure_file(descriptor) == verity
        except (MissingBlobError, StoreError):
            continue
        except OSError:
            # The filesystem knows no fs-verity: neither of this blob nor of those beside it.
            break
    return count


@contextmanager
def _opened(path: str, blob: bytes) -> Iterator[int]:
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


def _lack(descriptor: int, path: str, number: int) -> str:
    mount = mountinfo.of_device(os.fstat(descriptor).st_dev)
    kind = mount.kind if mount else "unknown"
    directory = shown(os.path.dirname(path))
    if kind in ("ext4", "f2fs"):
        need = "a kernel with CONFIG_FS_VERITY and the filesystem's feature 'verity'"
    elif kind == "btrfs":
        need = "a kernel with CONFIG_FS_VERITY"
    else:
        need = "an ext4, f2fs or btrfs filesystem"
    return f"the filesystem ({kind}) at {directory} has no fs-verity: needs {need} ({os.strerror(number)})"
