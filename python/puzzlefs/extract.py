"""Unpacking an image into a directory."""

from __future__ import annotations

import errno
import os

from puzzlefs.constants import MIB
from puzzlefs.errors import StoreError
from puzzlefs.workers import thread_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from typing import Final

    from puzzlefs.image import Image

_JOBS_LIMIT: Final = 8
# Files come in the order of their contents: what is decompressed is soon done with.
_CACHE_SIZE: Final = 8 * MIB


class ExtractResult:
    """What was unpacked, each inode once, and what this user or filesystem could not be given.

    skipped holds (path relative to the directory, reason) for a whole inode or one property of it.
    """

    __slots__ = ("bytes", "files", "inodes", "skipped")

    def __init__(self, files: int, inodes: int, bytes: int, skipped: list[tuple[builtins.bytes, str]]) -> None:  # noqa: A002
        self.files = files
        self.inodes = inodes
        self.bytes = bytes
        self.skipped = skipped


def extract(
    image: Image, directory: str | os.PathLike[str], *, same_owner: bool = True, jobs: int | None = None
) -> ExtractResult:
    """Unpack an image into a directory that is absent or empty.

    same_owner  give inodes the owners that the image names; only root can, others keep what they make
    jobs        threads that make files; by default one for each processor, eight at most

    Modes are the image's even where owners are not. Devices, owners and attributes that the system
    refuses are listed in the result and are no errors. An error leaves what was made before it.
    Raises `StoreError` for the target, `BlobError` for the image, `UnsupportedError` for
    directories nested more than 2,048 deep, `UsageError` for a negative number of jobs.
    """
    threads = thread_count(jobs, _JOBS_LIMIT)
    # Before anything is made: an image that cannot be read leaves no directory behind.
    reader = image.reader(cache_size=_CACHE_SIZE)
    target = os.fsencode(directory)
    root = _open_target(target)
    try:
        owners = same_owner and os.geteuid() == 0
        files, inodes, size, refused = reader.extract_tree(root, target, owners, threads)
    finally:
        os.close(root)
    skipped = sorted((path, _reason(what, number)) for path, what, number in refused)
    return ExtractResult(files, inodes, size, skipped)


def _reason(what: bytes, number: int) -> str:
    return f"{os.fsdecode(what)}: {os.strerror(number)}" if what else os.strerror(number)


def _open_target(target: bytes) -> int:
    """Open the target, made if absent. Raises `StoreError` where it is no empty directory."""
    try:
        try:
            os.mkdir(target, 0o700)
        except FileExistsError:
            if not os.path.isdir(target):
                raise StoreError(target, errno.ENOTDIR) from None
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(target, error.errno or errno.EIO) from error
    try:
        if os.listdir(descriptor):
            raise StoreError(target, errno.ENOTEMPTY)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
