"""An overlay's upper directory over an image -> a delta image upon it, without reading the image's files."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from puzzlefs import records
from puzzlefs._native import native
from puzzlefs.builder import Build, BuildOptions, BuildResult, Files, Profile
from puzzlefs.digests import DigestTable
from puzzlefs.errors import UsageError
from puzzlefs.image import Image
from puzzlefs.names import ImageName, check_tag
from puzzlefs.rootfs import Base, verity_rows
from puzzlefs.stream import Progress, Stream
from puzzlefs.tables import Chunk, write_vector
from puzzlefs.upper import TRUSTED, USER, merge


def commit(
    upper: str | Path,
    base: Image,
    name: ImageName,
    options: BuildOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
    *,
    user_marks: bool = False,
) -> BuildResult:
    """Build what an overlay of `upper` over an image shows into an image of the same store, upon that one.

    It is what `build` would make of the overlay's mountpoint upon the same base, but only what is in the
    upper directory is read. With `user_marks` the overlay was mounted with `userxattr`. `base`, `scan`,
    `all_root` and `cache` of the options are not used.

    Raises `UsageError` where the base is in another store, else what `build` raises.
    """
    check_tag(name.reference)
    if os.path.realpath(name.directory) != os.path.realpath(base.store.directory):
        raise UsageError(f"{name}: the base {base.name} is in another store")
    chosen = (options or BuildOptions())._replace(base=base.descriptor.digest, profile=Profile.OCI, cache=None)
    return _Commit(os.fspath(upper), base, name, chosen, progress, USER if user_marks else TRUSTED).run()


class _Commit(Build):
    """A build whose tree is that of an overlay."""

    def __init__(
        self,
        upper: str,
        base: Image,
        name: ImageName,
        options: BuildOptions,
        progress: Callable[[Progress], None] | None,
        marks: tuple[bytes, ...],
    ) -> None:
        super().__init__(upper, name, options, progress)
        self.base, self.marks = base, marks

    def read(self) -> Files:
        self.merged = merge(os.fsencode(self.rootfs), self.base.index, self.marks, self.mtime)
        self.inodes = len(self.merged.inodes)
        rows = [(s.st_size, s.st_dev, s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for _, _, s in self.merged.files]
        paths = b"".join(path + b"\0" for _, path, _ in self.merged.files)
        return Files(paths, b"".join(records.SOURCE.pack(*row) for row in rows))

    def encode(self, stream: Stream, base: Base | None) -> bytes:
        assert base is not None, "a commit has a base"
        inodes = self.merged.inodes
        for (ino, _, _), chunks in zip(self.merged.files, _chunks(stream), strict=True):
            inodes[ino - 1] = inodes[ino - 1]._replace(chunks=chunks)
        digests = DigestTable(base.digests)
        tree = native.Tree(write_vector(inodes, digests))
        tree.rebase(base.image.index, whole=False)
        return tree.encode(digests.packed(), verity_rows(stream, base.verity), base.vectors)


def _chunks(stream: Stream) -> Iterator[tuple[Chunk, ...]]:
    """Yield the chunks of each file that was stored, in order."""
    rows = records.CHUNK.iter_unpack(stream.chunks)
    for count in array("I", stream.counts):
        found = (next(rows) for _ in range(count))
        yield tuple((stream.blobs[row].digest, flags, offset, length) for row, flags, offset, length in found)
