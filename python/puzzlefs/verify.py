"""Recomputing every digest of an image and checking that every chunk can be read.

All problems are collected; only a manifest that cannot be read ends the work, and that happens when
the image is opened. A *warning* is about an image whose content is whole: something that another
tool may stumble over.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from puzzlefs import constants
from puzzlefs._native import Index, native
from puzzlefs.errors import PuzzleFSError
from puzzlefs.names import parse_verity
from puzzlefs.oci import Descriptor
from puzzlefs.records import CHUNK, COMPRESSED, VERITY, Kind
from puzzlefs.workers import thread_count

if TYPE_CHECKING:
    from puzzlefs.image import Image

_NO_VERITY: Final = bytes(32)
WRONG_CONTENT: Final = "content does not match the digest"


class Finding(NamedTuple):
    """One problem or warning: `subject` is `manifest`, `rootfs`, `config` or `sha256:HEX` of a blob."""

    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


class VerifyReport:
    """What was checked and what was found. `blobs` and `bytes` count each stored blob once."""

    __slots__ = ("blobs", "bytes", "chunks", "problems", "warnings")

    def __init__(self) -> None:
        self.blobs = 0
        self.bytes = 0
        self.chunks = 0
        self.problems: list[Finding] = []
        self.warnings: list[Finding] = []

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


class Hashes:
    """What hashing blobs gave, so that images which share a blob hash it once.

    known  (size, SHA-256, fs-verity digest) of each blob that was hashed, by `sha256:HEX`
    used   each `sha256:HEX` that an image named, in the store or not
    """

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, bytes, bytes]] = {}
        self.used: set[str] = set()

    def take(self, digest: str, descriptor: int) -> tuple[int, bytes, bytes]:
        """Return the hashes of the blob open as `descriptor`. Raises `OSError` of the read."""
        if digest not in self.known:
            self.known[digest] = native.hash_file(descriptor)
        return self.known[digest]


class _Use(NamedTuple):
    """What the tree takes from one blob: up to which byte, and whether it calls it compressed."""

    end: int
    compressed: bool


def verify(
    image: Image, digest: str | None = None, jobs: int | None = None, hashes: Hashes | None = None
) -> VerifyReport:
    """Check a whole image: manifest, config, rootfs blob, every other blob, every chunk.

    digest is the fs-verity digest that the manifest must have, in hex. Blobs are hashed by `jobs`
    threads, one for each processor by default; what `hashes` knows is not hashed again. Raises
    `UsageError` for a malformed digest or a negative number of jobs.
    """
    report = VerifyReport()
    check = _Verification(image, report, hashes or Hashes())
    check.manifest(digest)
    check.config()
    check.rootfs()
    check.blobs(check.index(), thread_count(jobs))
    report.problems.sort()
    report.warnings.sort()
    return report


class _Verification:
    def __init__(self, image: Image, report: VerifyReport, hashes: Hashes) -> None:
        self._image = image
        self._report = report
        self._hashes = hashes
        self._lock = threading.Lock()

    def manifest(self, digest: str | None) -> None:
        descriptor = self._image.descriptor
        verity = self._hash("manifest", descriptor.digest, descriptor.size)
        if digest is not None and verity not in (None, parse_verity(digest)):
            self._problem("manifest", f"its fs-verity digest is not {digest.lower()}")

    def config(self) -> None:
        descriptor = self._image.manifest.config
        self._hash("config", descriptor.digest, descriptor.size)

    def rootfs(self) -> None:
        descriptor = self._image.manifest.rootfs
        verity = self._hash("rootfs", descriptor.digest, descriptor.size)
        stated = descriptor.annotations.get(constants.ROOTFS_VERITY)
        if stated is None:
            self._warning("rootfs", "the manifest names no fs-verity digest of it")
        elif verity is not None and verity.hex() != stated:
            self._problem("rootfs", f"its fs-verity digest is not {stated}")

    def index(self) -> Index | None:
        """Return the tree, or None where it cannot be read, which is then a problem told."""
        try:
            return native.Index(self._image.store.get(self._image.manifest.rootfs, constants.ROOTFS_SIZE_LIMIT))
        except PuzzleFSError as error:
            self._problem("rootfs", str(error).removeprefix("rootfs: "))
            return None

    def blobs(self, index: Index | None, jobs: int) -> None:
        layers = {layer.raw_digest: layer for layer in self._image.manifest.layers[1:]}
        verity = dict(VERITY.iter_unpack(index.blobs())) if index else {}
        uses = self._uses(index) if index else {}
        # Layers of the manifest first, in its order, then what only the tree names.
        digests = list(dict.fromkeys([*layers, *verity]))
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda d: self._blob(d, layers.get(d), verity.get(d), uses.get(d, ())), digests))

    def _uses(self, index: Index) -> dict[bytes, list[_Use]]:
        """Return what the files of the tree take from each blob, by digest."""
        digests = [digest for digest, _ in VERITY.iter_unpack(index.blobs())]
        ends: dict[tuple[int, bool], int] = defaultdict(int)
        for ino in index.inodes():
            if index.stat(ino)[1] != Kind.FILE:
                continue
            for blob, flags, offset, length in CHUNK.iter_unpack(index.chunks(ino)):
                use = blob, bool(flags & COMPRESSED)
                ends[use] = max(ends[use], offset + length)
                self._report.chunks += 1
        uses: dict[bytes, list[_Use]] = defaultdict(list)
        for (blob, compressed), end in ends.items():
            uses[digests[blob]].append(_Use(end, compressed))
        return uses

    def _blob(self, digest: bytes, layer: Descriptor | None, verity: bytes | None, uses: Sequence[_Use]) -> None:
        """Check one blob: its digests, and that what the tree takes from it is there."""
        name = f"sha256:{digest.hex()}"
        if layer is None:
            self._warning(name, "not a layer of the manifest: a copy of the image would lack it")
        with self._opened(name, digest) as descriptor:
            if descriptor is None:
                return
            found = self._digests(name, name, descriptor, layer.size if layer else None)
            if found is None:
                return
            if verity is not None:
                self._verity(name, layer, verity, found, uses)
            for use in uses:
                self._range(name, descriptor, use)

    def _verity(self, name: str, layer: Descriptor | None, stated: bytes, found: bytes, uses: Sequence[_Use]) -> None:
        if stated == found:
            return
        if stated == _NO_VERITY:
            self._warning(name, "no fs-verity entry")
            return
        # The original hashes what compression gave even where it keeps the chunk as it was.
        kept_raw = layer is not None and layer.media_type == constants.FILEDATA_ZSTD
        kept_raw = kept_raw and not any(use.compressed for use in uses)
        (self._warning if kept_raw else self._problem)(name, "verity entry is not of the stored bytes")

    def _range(self, name: str, descriptor: int, use: _Use) -> None:
        """Check that a blob reaches as far as the tree takes bytes from it."""
        size = os.fstat(descriptor).st_size
        if use.compressed:
            try:
                size = native.check_frames(descriptor, use.end)
            except PuzzleFSError as error:
                self._problem(name, str(error))
                return
            except OSError as error:
                self._problem(name, f"cannot be read: {error.strerror}")
                return
        if use.end > size:
            self._problem(name, "shorter than its chunk")

    def _hash(self, subject: str, digest: str, size: int) -> bytes | None:
        """Check a blob's size and SHA-256 and return its fs-verity digest, None where there is none."""
        with self._opened(subject, bytes.fromhex(digest.removeprefix("sha256:"))) as descriptor:
            return None if descriptor is None else self._digests(subject, digest, descriptor, size)

    def _digests(self, subject: str, digest: str, descriptor: int, size: int | None) -> bytes | None:
        try:
            found_size, sha256, verity = self._hashes.take(digest, descriptor)
        except OSError as error:
            self._problem(subject, f"cannot be read: {error.strerror}")
            return None
        with self._lock:
            self._report.blobs += 1
            self._report.bytes += found_size
        if size is not None and found_size != size:
            self._problem(subject, f"{found_size} bytes, not {size}")
        if f"sha256:{sha256.hex()}" != digest:
            self._problem(subject, WRONG_CONTENT)
            return None
        return verity

    @contextmanager
    def _opened(self, subject: str, digest: bytes) -> Iterator[int | None]:
        """Open a blob; None where it cannot be, which is then a problem told."""
        self._hashes.used.add(f"sha256:{digest.hex()}")
        descriptor = open_blob(self._image.blobs / digest.hex())
        if isinstance(descriptor, str):
            self._problem(subject, descriptor)
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _problem(self, subject: str, text: str) -> None:
        self._report.problems.append(Finding(subject, text))

    def _warning(self, subject: str, text: str) -> None:
        self._report.warnings.append(Finding(subject, text))


def open_blob(path: Path) -> int | str:
    """Open a blob's file; return its descriptor, or what is wrong with it."""
    try:
        # Without waiting, should it be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "not in the store"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return "not a regular file"
