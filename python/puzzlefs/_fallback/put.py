"""Atomic storing of blobs: a blob gets its name only when it is whole."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from puzzlefs.errors import StoreError
from puzzlefs.rows import BlobRecord


@contextmanager
def _reported(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(path, error.errno or errno.EIO) from None


class BlobDirectory:
    """The directories into which blobs are put; close it by leaving its `with` block."""

    def __init__(self, blobs: bytes, temporary: bytes, sync: bool) -> None:
        self._path = blobs
        self._sync = sync
        self._serial = 0
        self._blobs = _open_directory(blobs)
        try:
            self._temporary = _open_directory(temporary)
        except StoreError:
            os.close(self._blobs)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._blobs)
        os.close(self._temporary)

    def put(self, digest: bytes, content: bytes) -> bool:
        """Store a blob and return whether it is new; a file of its name and size is kept. Raises `StoreError`."""
        name = digest.hex()
        with _reported(os.path.join(self._path, name.encode())):
            if self._has(name, len(content)):
                return False
            self._serial += 1
            unfinished = f"{os.getpid()}-{id(self)}-{self._serial}"
            try:
                self._write(unfinished, content)
                os.rename(unfinished, name, src_dir_fd=self._temporary, dst_dir_fd=self._blobs)
            except OSError:
                with suppress(OSError):
                    os.unlink(unfinished, dir_fd=self._temporary)
                raise
        return True

    def holds(self, blob: BlobRecord) -> bool:
        """Tell whether a file of the blob's name and size is there."""
        try:
            return self._has(blob.digest.hex(), blob.size)
        except OSError:
            return False

    def _has(self, name: str, size: int) -> bool:
        try:
            found = os.stat(name, dir_fd=self._blobs)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == size

    def _write(self, name: str, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(name, flags, 0o644, dir_fd=self._temporary)
        try:
            written = 0
            while written < len(content):
                written += os.write(fd, content[written:])
            if self._sync:
                os.fsync(fd)
        finally:
            os.close(fd)


def _open_directory(path: bytes) -> int:
    with _reported(path):
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
