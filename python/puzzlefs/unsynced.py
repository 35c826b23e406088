"""After a sync that failed: blobs that memory still has and the disk has not are taken out of the store.

The system keeps a file's pages as if they were written, under the right name and size, until it needs
their memory. A later build would take such a blob for a stored one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from puzzlefs import constants
from puzzlefs._native import native
from puzzlefs.errors import PuzzleFSError
from puzzlefs.oci import Descriptor, Manifest
from puzzlefs.store import Store


def discard_lost(store: Store, manifest: Descriptor) -> None:
    """Delete those blobs of an image that the disk does not give back as their digests say."""
    for digest in _digests(store, manifest):
        path = os.path.join(store.blob_directory, digest.hex())
        if _is_lost(path, digest):
            # What cannot be deleted is found by `verify`.
            with suppress(OSError):
                os.unlink(path)


def _digests(store: Store, manifest: Descriptor) -> Iterator[bytes]:
    with suppress(PuzzleFSError):
        named = Manifest.parse(store.get(manifest, constants.JSON_SIZE_LIMIT))
        yield from (layer.raw_digest for layer in (named.config, *named.layers))
    yield manifest.raw_digest


def _is_lost(path: str, digest: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return native.hash_file(descriptor)[1] != digest
    except OSError:
        return True
    finally:
        os.close(descriptor)
