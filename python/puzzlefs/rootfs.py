"""The rootfs blob of a build, and the file-data blobs that it names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from puzzlefs import constants, records
from puzzlefs._native import native
from puzzlefs.delta import Numbering, changed_inodes, whole_tree
from puzzlefs.image import Image
from puzzlefs.oci import Descriptor
from puzzlefs.records import Kind
from puzzlefs.rows import Vector
from puzzlefs.scan import Node, Scan
from puzzlefs.stream import Stream
from puzzlefs.tables import DigestTable, Inode, write_vector

MtimeRule = Callable[[int], tuple[int, int]]
"""A file's modification time in nanoseconds -> the image's (seconds, nanoseconds)."""


class Base(NamedTuple):
    """An image built upon, with its tables."""

    image: Image
    digests: bytes
    verity: bytes
    vectors: list[Vector]

    @classmethod
    def of(cls, image: Image) -> Base:
        """Decode an image's rootfs blob."""
        _, digests, verity, vectors = native.decode_rootfs(image.rootfs)
        return cls(image, digests, verity, [Vector(*vector) for vector in vectors])


def describe(tree: Scan, stream: Stream, mtime: MtimeRule, *, all_root: bool) -> Iterator[Inode]:
    """Yield what the image says of every node of a numbered tree; ascending if it is numbered alone."""
    return (_describe(node, stream, mtime, all_root) for node in tree.nodes())


def _describe(node: Node, stream: Stream, mtime: MtimeRule, all_root: bool) -> Inode:
    status = node.status
    is_device = node.kind in (Kind.CHR, Kind.BLK)
    return Inode(
        node.ino,
        node.kind,
        status.st_mode & 0o7777,
        0 if all_root else status.st_uid,
        0 if all_root else status.st_gid,
        mtime(status.st_mtime_ns),
        (os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
        tuple((name, child.ino) for name, child in node.entries),
        stream.chunks.get(node.ino, ()),
        tuple(node.xattrs),
        node.target,
    )


def encode(inodes: Iterable[Inode], stream: Stream) -> bytes:
    """Return the rootfs blob of a tree that stands alone; its inodes come in ascending order."""
    digests = DigestTable()
    vector = write_vector(inodes, digests)
    return native.encode_rootfs(digests.packed(), _verity_rows(stream, b""), [vector])


def encode_delta(inodes: Sequence[Inode], stream: Stream, base: Base, numbering: Numbering, *, whole: bool) -> bytes:
    """Return the rootfs blob of a tree upon a base: a new vector, then the base's.

    whole writes the vector as the original does, with every inode of the tree; otherwise it holds
    what differs from the base. A vector that repeats the base's uppermost says nothing and is left
    out; one that repeats an older layer does not: it undoes what came between.
    """
    digests = DigestTable(base.digests)
    rows = _verity_rows(stream, base.verity)
    if not whole:
        upper = changed_inodes(inodes, base.image.index, numbering.unused)
        vectors = [write_vector(upper, digests), *base.vectors] if upper else base.vectors
        return native.encode_rootfs(digests.packed(), rows, vectors)
    vectors = [write_vector(whole_tree(inodes, numbering.hidden), digests), *base.vectors]
    rootfs = native.encode_rootfs(digests.packed(), rows, vectors)
    uppermost, below, *_ = native.decode_rootfs(rootfs)[3]
    return native.encode_rootfs(digests.packed(), rows, base.vectors) if uppermost == below else rootfs


def _verity_rows(stream: Stream, below: bytes) -> bytes:
    verity = dict(records.VERITY.iter_unpack(below)) | {blob.digest: blob.verity for blob in stream.blobs}
    return b"".join(records.VERITY.pack(*pair) for pair in sorted(verity.items()))


def every_chunk(stream: Stream, *, compressed: bool) -> Iterator[Descriptor]:
    """Yield a descriptor for each chunk of the stream, repeats included: the original's list."""
    media_type = constants.FILEDATA_ZSTD if compressed else constants.FILEDATA
    for row in stream.order:
        blob = stream.blobs[row]
        yield Descriptor(media_type, f"sha256:{blob.digest.hex()}", blob.size)


def every_blob(stream: Stream, base: Base | None) -> Iterator[Descriptor]:
    """Yield a descriptor for each blob that the image names, once: the stream's, then the base's others."""
    listed = set()
    for blob in stream.blobs:
        if blob.digest not in listed:
            listed.add(blob.digest)
            yield _filedata(blob.digest, blob.size, blob.flags)
    if not base:
        return
    sizes = {layer.digest: layer.size for layer in base.image.manifest.layers}
    for vector in base.vectors:
        for row, flags, _, _ in records.CHUNK.iter_unpack(vector.chunks):
            digest = base.digests[32 * row : 32 * row + 32]
            if digest in listed:
                continue
            listed.add(digest)
            size = sizes.get(f"sha256:{digest.hex()}")
            yield _filedata(digest, base.image.store.size(digest) if size is None else size, flags)


def _filedata(digest: bytes, size: int, flags: int) -> Descriptor:
    media_type = constants.FILEDATA_ZSTD if flags & records.COMPRESSED else constants.FILEDATA
    return Descriptor(media_type, f"sha256:{digest.hex()}", size)
