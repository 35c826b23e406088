"""Small images made by hand, to say what no builder would say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from puzzlefs import constants
from puzzlefs._native import Backend, load
from puzzlefs.digests import DigestTable
from puzzlefs.oci import EMPTY_CONFIG, EMPTY_DESCRIPTOR, Descriptor, Manifest, canonical
from puzzlefs.records import VERITY, Kind
from puzzlefs.store import Store
from puzzlefs.tables import Inode, write_vector
from puzzlefs.vfs import Filesystem

TAG = "t"


class Crafted(NamedTuple):
    """An image in a layout of its own: its name, and the rootfs blob and blob directory behind it."""

    name: str
    rootfs: bytes
    blobs: Path

    def filesystem(self, backend: Backend, verify: int = 1) -> Filesystem:
        """Return the image as one backend shows it."""
        index = backend.Index(self.rootfs)
        return Filesystem(index, backend.Reader(index, bytes(self.blobs), verify, constants.MIB))


def directory(ino: int, *entries: tuple[bytes, int], permissions: int = 0o755) -> Inode:
    """Return a directory."""
    return Inode(ino, Kind.DIR, permissions, entries=entries)


def file_of(ino: int, blob: bytes, permissions: int = 0o644) -> Inode:
    """Return a file whose content is one whole blob."""
    return Inode(ino, Kind.FILE, permissions, chunks=((sha256(blob).digest(), 0, 0, len(blob)),) if blob else ())


def craft(
    layout: Path,
    inodes: Sequence[Inode],
    blobs: Sequence[bytes] = (),
    verity_of: Callable[[bytes], bytes] | None = None,
    media_type: str = constants.FILEDATA,
) -> Crafted:
    """Write an image of one layer, its inodes in ascending order, and the blobs that it names.

    verity_of gives a blob's fs-verity entry from its content; by default the right one.
    """
    verity_of = verity_of or load("python").verity_digest
    digests = DigestTable()
    vector = write_vector(inodes, digests)
    entries = sorted((sha256(blob).digest(), verity_of(blob)) for blob in set(blobs))
    verity = b"".join(VERITY.pack(*entry) for entry in entries)
    rootfs = load("python").encode_rootfs(digests.packed(), verity, [vector])

    return publish(layout, rootfs, blobs, media_type)


def publish(layout: Path, rootfs: bytes, blobs: Sequence[bytes] = (), media_type: str = constants.FILEDATA) -> Crafted:
    """Write an image of a rootfs blob, whatever that is, and the blobs of its files."""
    store = Store.create(layout)
    annotations = {constants.ROOTFS_VERITY: load("python").verity_digest(rootfs).hex()}
    layers = [Descriptor.of(constants.ROOTFS, rootfs, annotations=annotations)]
    layers += [Descriptor.of(media_type, blob) for blob in dict.fromkeys(blobs)]
    manifest = canonical(Manifest(EMPTY_DESCRIPTOR, tuple(layers)).document(artifact=True))
    with store.unfinished() as unfinished:
        for content in (EMPTY_CONFIG, rootfs, *blobs, manifest):
            store.put(content, unfinished)
    store.tag(TAG, Descriptor.of(constants.MANIFEST, manifest))
    return Crafted(f"{layout}:{TAG}", rootfs, store.blobs)
