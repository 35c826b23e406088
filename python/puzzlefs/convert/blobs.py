"""Blobs of an image to convert, in a directory, each checked by its digest while it is read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

from puzzlefs import constants
from puzzlefs._native import native
from puzzlefs.convert.layer import LayerStream
from puzzlefs.convert.unite import Layer
from puzzlefs.errors import BlobError, CorruptImageError, MissingBlobError, StoreError, UnsupportedError
from puzzlefs.oci import Descriptor

_LAYERS = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_COMPRESSIONS = ("", "+gzip", "+zstd", ".gzip", ".zstd")


class BlobSource:
    """Blobs by digest, as image layouts and skopeo's `dir:` have them.

    directory   of files named by the hexadecimal digits
    suffix      what follows the digits in the name of a manifest
    size_limit  most bytes that a layer may unpack to; None for the default (`LayerStream`)
    """

    def __init__(self, directory: str, suffix: str = "", size_limit: int | None = None) -> None:
        self._directory = directory
        self._suffix = suffix
        self._size_limit = size_limit

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or index. Raises `MissingBlobError`, `BlobError`, `CorruptImageError`."""
        return self._document(descriptor, self._suffix)

    def config(self, descriptor: Descriptor) -> bytes:
        """Return an image config. Raises `MissingBlobError`, `BlobError`, `CorruptImageError`."""
        return self._document(descriptor, "")

    def layer(self, descriptor: Descriptor, diff_id: str | None) -> Layer:
        """Describe a layer. Raises `UnsupportedError` for one that is no tar archive."""
        kind = descriptor.media_type
        if kind.endswith("+encrypted"):
            raise UnsupportedError(f"layer {descriptor.digest} is encrypted ({kind}): decrypt the image first")
        if kind not in {base + compression for base in _LAYERS for compression in _COMPRESSIONS}:
            raise UnsupportedError(f"layer {descriptor.digest} is of unknown media type {kind!r}")
        what = f"layer {descriptor.digest}"

        @contextmanager
        def opened() -> Iterator[LayerStream]:
            with self._open(descriptor) as file:
                yield LayerStream(file, what, descriptor.raw_digest, self._size_limit)

        return Layer(what, opened, diff_id, descriptor.size)

    def _document(self, descriptor: Descriptor, suffix: str) -> bytes:
        if descriptor.size > constants.JSON_SIZE_LIMIT:
            raise CorruptImageError(f"{descriptor.digest}: {descriptor.size} bytes are too many for a document")
        with self._open(descriptor, suffix) as file:
            content = file.read(descriptor.size + 1)
        if native.hash_bytes(content)[0] != descriptor.raw_digest:
            raise BlobError(descriptor.raw_digest, "content does not match the digest")
        return content

    def _open(self, descriptor: Descriptor, suffix: str = "") -> BufferedReader:
        digest = descriptor.raw_digest
        try:
            file = open_input(os.path.join(self._directory, digest.hex() + suffix))
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file
            file.close()
        except FileNotFoundError as error:
            raise MissingBlobError(digest) from error
        except OSError as error:
            raise BlobError(digest, f"cannot be read: {error.strerror}") from error
        raise BlobError(digest, f"cannot be read: {os.strerror(errno.ESPIPE)}")


def open_input(path: str) -> BufferedReader:
    """Open a file for reading, a pipe without waiting for somebody to write."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def plain_layer(file: BufferedReader, what: str, size_limit: int | None) -> Layer:
    """Describe a tar archive that stands alone and can be read once; nothing promises its digest."""

    @contextmanager
    def opened() -> Iterator[LayerStream]:
        yield LayerStream(file, what, None, size_limit)

    try:
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise StoreError(os.fsencode(what), error.errno or errno.EIO) from error
    return Layer(what, opened, None, size)
