"""Chunks of other images that a build refers to instead of storing them again.

An image does not list its chunks, but the places where its files are cut tell: a file has one piece for
each chunk that its bytes touch, so a piece that is not its file's last ends where a chunk ends. A chunk
that ends exactly where a file does is not found, and stored again if need be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from struct import Struct

from puzzlefs._native import native
from puzzlefs.build_cache import CHUNKS, BuildCache
from puzzlefs.constants import CHUNK_MAX, FILEDATA
from puzzlefs.oci import Descriptor
from puzzlefs.records import BLOB, CHUNK, COMPRESSED, CONTENT, INODE, VERITY, Kind
from puzzlefs.rootfs import Base
from puzzlefs.rows import BlobRecord, InodeRecord, Vector
from puzzlefs.store import Store
from puzzlefs.workers import thread_count

Offered = tuple[bytes, bytes]
"""(`records.BLOB` rows, `records.CONTENT` rows of chunks in them)."""

# What is kept of an image begins with the bytes of its blobs' rows.
_HEAD = Struct("<Q")


class _Blob:
    """Where pieces of files show that chunks end, and how far files reach."""

    def __init__(self) -> None:
        self.edges = {0}
        self.reach = 0

    def add(self, offset: int, length: int, *, first: bool, last: bool) -> None:
        """Take a piece, which may be the first or the last one of its file."""
        self.reach = max(self.reach, offset + length)
        if not first:
            self.edges.add(offset)
        if not last:
            self.edges.add(offset + length)

    def runs(self) -> list[tuple[int, int]]:
        """Return (offset, length) of what lies between, if it can be a chunk."""
        ends = sorted(self.edges | {self.reach})
        return [(start, end - start) for start, end in pairwise(ends) if end - start <= CHUNK_MAX]


def offered(images: Sequence[Base], jobs: int, cache: str | os.PathLike[str] | None = None) -> Offered:
    """Return the chunks of images, those of every layer, by reading their blobs. Raises `BlobError`.

    cache  directory of what builds keep; there an image's chunks are kept, for they are always the same
    """
    blobs, chunks = bytearray(), bytearray()
    for image in images:
        first = len(blobs) // BLOB.size
        of_blobs, of_chunks = _recalled(image, jobs, cache) if cache else _read(image, jobs)
        blobs += of_blobs
        for content, row, length, offset in CONTENT.iter_unpack(of_chunks):
            chunks += CONTENT.pack(content, first + row, length, offset)
    return bytes(blobs), bytes(chunks)


def _read(image: Base, jobs: int) -> Offered:
    """Return an image's chunks by reading its blobs."""
    verity = dict(VERITY.iter_unpack(image.verity))
    sizes = {layer.digest: layer.size for layer in image.image.manifest.layers}
    blobs, chunks, rows, runs = bytearray(), bytearray(), bytearray(), bytearray()
    for number, ((digest, flags), blob) in enumerate(_blobs(image).items()):
        size = sizes.get(f"sha256:{digest.hex()}")
        size = image.image.store.size(digest) if size is None else size
        blobs += BLOB.pack(digest, verity[digest], size, blob.reach, flags, 0)
        rows += VERITY.pack(digest, verity[digest])
        runs += b"".join(CHUNK.pack(number, flags, *run) for run in blob.runs())
    digests = native.digest_runs(_directory(image), bytes(rows), bytes(runs), thread_count(jobs or None))
    for place, (row, _, offset, length) in enumerate(CHUNK.iter_unpack(runs)):
        chunks += CONTENT.pack(digests[32 * place : 32 * place + 32], row, length, offset)
    return bytes(blobs), bytes(chunks)


def _recalled(image: Base, jobs: int, directory: str | os.PathLike[str]) -> Offered:
    """Return an image's chunks as an earlier build found them; else read them and keep them for the next one."""
    store = image.image.store.directory
    cache = BuildCache(directory, store, os.path.join(store, image.image.descriptor.digest), "", CHUNKS)
    kept = _kept(image, cache)
    if kept:
        return kept
    blobs, chunks = _read(image, jobs)
    # A build is no worse for a cache that cannot be written.
    with suppress(OSError):
        cache.save(_HEAD.pack(len(blobs)) + blobs + chunks)
    return blobs, chunks


def _kept(image: Base, cache: BuildCache) -> Offered | None:
    """Return what the cache has, None where it has nothing or the store has not every blob."""
    content = cache.load()
    if not content:
        return None
    end = _HEAD.size + _HEAD.unpack_from(content)[0]
    blobs, chunks = content[_HEAD.size : end], content[end:]
    is_whole = image.image.store.holds((row[0], row[2]) for row in BLOB.iter_unpack(blobs))
    return (blobs, chunks) if is_whole else None


def bring(store: Store, unfinished: str, blobs: Sequence[BlobRecord], images: Sequence[Base], *, sync: bool) -> int:
    """Copy those of `blobs` that `store` has not from the stores of the images; return how many bytes that were."""
    brought = 0
    for blob in blobs:
        name = f"sha256:{blob.digest.hex()}"
        for image in images:
            if image.image.store.directory != store.directory and any(
                layer.digest == name for layer in image.image.manifest.layers
            ):
                content = image.image.store.get(Descriptor(FILEDATA, name, blob.size), blob.size)
                brought += len(content) if store.put(content, unfinished, sync) else 0
                break
    return brought


def _directory(image: Base) -> bytes:
    return image.image.store.blob_directory.encode(errors="surrogateescape")


def _blobs(image: Base) -> dict[tuple[bytes, int], _Blob]:
    """Return the blobs of all layers by digest and flags; those without an fs-verity digest are left out."""
    verity = {digest for digest, _ in VERITY.iter_unpack(image.verity)}
    blobs: dict[tuple[bytes, int], _Blob] = {}
    for vector in image.vectors:
        for pieces in _files(vector):
            for number, (row, flags, offset, length) in enumerate(pieces):
                digest = image.digests[32 * row : 32 * row + 32]
                if digest in verity:
                    blob = blobs.setdefault((digest, flags & COMPRESSED), _Blob())
                    blob.add(offset, length, first=number == 0, last=number == len(pieces) - 1)
    return blobs


def _files(vector: Vector) -> Iterator[list[tuple[int, int, int, int]]]:
    """Yield the pieces of each file of a layer."""
    chunks = list(CHUNK.iter_unpack(vector.chunks))
    for inode in map(InodeRecord._make, INODE.iter_unpack(vector.inodes)):
        if inode.kind == Kind.FILE:
            yield chunks[inode.first : inode.first + inode.amount]
