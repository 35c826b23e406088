"""The rootfs blob of a build, and the file-data blobs that it names."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from puzzlefs import constants, records
from puzzlefs._native import Tree, native
from puzzlefs.digests import DigestTable
from puzzlefs.oci import Descriptor
from puzzlefs.rows import Vector
from puzzlefs.stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from puzzlefs.image import Image


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


def encode(tree: Tree, stream: Stream) -> bytes:
    """Return the rootfs blob of a tree that stands alone. Ends the tree."""
    digests = DigestTable()
    _set_chunks(tree, stream, digests)
    return tree.encode(digests.packed(), verity_rows(stream, b""), [])


def encode_delta(tree: Tree, stream: Stream, base: Base, *, whole: bool) -> bytes:
    """Return the rootfs blob of a tree upon a base: a new vector, then the base's. Ends the tree.

    whole writes the vector as the original does, with every inode of the tree; otherwise it holds
    what differs from the base. A vector that repeats the base's uppermost says nothing and is left
    out; one that repeats an older layer does not: it undoes what came between.
    """
    digests = DigestTable(base.digests)
    _set_chunks(tree, stream, digests)
    tree.rebase(base.image.index, whole)
    # It is long, and of no more use when most memory is needed.
    del base.image.index
    verity = verity_rows(stream, base.verity)
    rootfs = tree.encode(digests.packed(), verity, base.vectors)
    if whole:
        uppermost, below, *_ = native.decode_rootfs(rootfs)[3]
        if uppermost == below:
            return native.encode_rootfs(digests.packed(), verity, base.vectors)
    return rootfs


def _set_chunks(tree: Tree, stream: Stream, digests: DigestTable) -> None:
    rows = array("I", (digests.row(blob.digest) for blob in stream.blobs))
    tree.set_chunks(stream.chunks, stream.counts, rows.tobytes())


def verity_rows(stream: Stream, below: bytes) -> bytes:
    """Return the verity table of the blobs that a stream has, and of those `below`."""
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
