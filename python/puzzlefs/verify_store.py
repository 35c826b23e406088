"""Checking a whole store: every image that its index names, and every blob file against its name.

A blob that no image uses is no problem while its content is what its name says: a killed build
leaves such ones, and the next takes them as they are. What a writer has not finished is harmless,
and told as a warning.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from puzzlefs import constants
from puzzlefs.errors import CorruptImageError, IntegrityError, PuzzleFSError
from puzzlefs.image import Image
from puzzlefs.names import ImageName
from puzzlefs.oci import Descriptor, parse_object
from puzzlefs.store import UNFINISHED, Store
from puzzlefs.verify import WRONG_CONTENT, Finding, Hashes, VerifyReport, open_blob, verify
from puzzlefs.workers import thread_count

_BLOB_NAME: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(slots=True)
class StoreReport:
    """What was checked and what was found.

    images   (name, report) of each image that could be opened; the name is its tag, or
             `sha256:HEX` of a manifest without one
    blobs    files in the store's blob directory that could be read; they have `bytes` bytes
    """

    blobs: int = 0
    bytes: int = 0
    images: list[tuple[str, VerifyReport]] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def verify_store(path: str | os.PathLike[str], jobs: int | None = None) -> StoreReport:
    """Check the store in the directory `path`, with `jobs` threads, one for each processor by default.

    Raises `NotFoundError` where no store is, `CorruptImageError` where its index cannot be read,
    `UsageError` for a negative number of jobs.
    """
    threads = thread_count(jobs)
    store = Store.open(Path(path))
    check = _StoreCheck(store, threads)
    entries = [Descriptor.parse(entry) for entry in store.index()["manifests"]]
    check.hash_files()
    check.entries(entries)
    check.unused_blobs()
    check.unfinished()
    return check.finished()


class _StoreCheck:
    def __init__(self, store: Store, threads: int) -> None:
        self._store = store
        self._threads = threads
        self._hashes = Hashes()
        self._unreadable: dict[str, str] = {}
        self._report = StoreReport()
        # Findings about blobs, which images may share, and the names of those that do.
        self._problems: dict[Finding, list[str]] = defaultdict(list)
        self._warnings: dict[Finding, list[str]] = defaultdict(list)

    def hash_files(self) -> None:
        """Hash every blob file once; the images' own checks take the results."""
        try:
            names = sorted(os.listdir(self._store.blobs))
        except OSError as error:
            self._problem("blobs/sha256", f"cannot be read: {error.strerror}")
            return
        for name in names:
            if not _BLOB_NAME.match(name):
                self._report.warnings.append(Finding(f"blobs/sha256/{ascii(name)[1:-1]}", "not named by a digest"))
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(self._hash_file, filter(_BLOB_NAME.match, names)))
        self._report.blobs = len(self._hashes.known)
        self._report.bytes = sum(size for size, _, _ in self._hashes.known.values())

    def _hash_file(self, name: str) -> None:
        descriptor = open_blob(self._store.blobs / name)
        if isinstance(descriptor, str):
            self._unreadable[f"sha256:{name}"] = descriptor
            return
        try:
            self._hashes.take(f"sha256:{name}", descriptor)
        except OSError as error:
            self._unreadable[f"sha256:{name}"] = f"cannot be read: {error.strerror}"
        finally:
            os.close(descriptor)

    def entries(self, entries: list[Descriptor]) -> None:
        """Check every manifest that the index, or an index that it names, lists."""
        pending = [(_name_of(entry), entry) for entry in reversed(entries)]
        seen = set()
        while pending:
            name, entry = pending.pop()
            if (name, entry.digest) in seen:
                continue
            seen.add((name, entry.digest))
            try:
                content = self._content(entry)
                if entry.media_type == constants.INDEX:
                    pending += [(name, child) for child in _manifests(content)]
                else:
                    self._image(name, entry, content)
            except PuzzleFSError as error:
                self._problem(name, str(error))

    def _content(self, entry: Descriptor) -> bytes:
        self._hashes.used.add(entry.digest)
        content = self._store.get(entry, constants.JSON_SIZE_LIMIT)
        if len(content) != entry.size:
            raise IntegrityError(f"{entry.digest}: {len(content)} bytes, not {entry.size}")
        return content

    def _image(self, name: str, entry: Descriptor, content: bytes) -> None:
        try:
            image = Image(ImageName(self._store.path, name), self._store, entry, content)
        except CorruptImageError as error:
            if not _is_foreign(content):
                raise
            self._report.warnings.append(Finding(name, str(error)))
            return
        report = verify(image, jobs=self._threads, hashes=self._hashes)
        self._report.images.append((name, report))
        for findings, told in ((report.problems, self._problems), (report.warnings, self._warnings)):
            for finding in findings:
                if finding.subject.startswith("sha256:"):
                    told[finding].append(name)
                else:
                    told[Finding(f"{name}: {finding.subject}", finding.text)] = []

    def unused_blobs(self) -> None:
        """Tell of blobs that no image uses and that are not what their name says."""
        for digest, reason in self._unreadable.items():
            if digest not in self._hashes.used:
                self._problem(digest, reason)
        for digest, (_, sha256, _) in self._hashes.known.items():
            if digest not in self._hashes.used and digest != f"sha256:{sha256.hex()}":
                self._problem(digest, f"{WRONG_CONTENT}, and no image uses it")

    def unfinished(self) -> None:
        for directory in (self._store.path, self._store.blobs.parent):
            for name in sorted(os.listdir(directory)):
                if name.startswith(UNFINISHED):
                    path = os.path.relpath(directory / name, self._store.path)
                    text = "unfinished: a build is at work, or was killed and the next one deletes it"
                    self._report.warnings.append(Finding(path, text))

    def finished(self) -> StoreReport:
        self._report.problems += _with_names(self._problems)
        self._report.warnings += _with_names(self._warnings)
        self._report.problems.sort()
        self._report.warnings.sort()
        return self._report

    def _problem(self, subject: str, text: str) -> None:
        self._report.problems.append(Finding(subject, text))


def _with_names(told: dict[Finding, list[str]]) -> Iterator[Finding]:
    for finding, names in told.items():
        where = f" (in {', '.join(names)})" if names else ""
        yield Finding(finding.subject, finding.text + where)


def _name_of(entry: Descriptor) -> str:
    return entry.annotations.get(constants.REF_NAME, entry.digest)


def _manifests(content: bytes) -> list[Descriptor]:
    manifests = parse_object(content, "index").get("manifests")
    if not isinstance(manifests, list):
        raise CorruptImageError("index: manifests are not a list of objects")
    return [Descriptor.parse(entry) for entry in manifests]


def _is_foreign(content: bytes) -> bool:
    """Whether a manifest is that of another kind of image, which may share a store with ours."""
    layers = parse_object(content, "manifest").get("layers")
    first = layers[0] if isinstance(layers, list) and layers else None
    media_type = first.get("mediaType") if isinstance(first, dict) else None
    return isinstance(media_type, str) and media_type != constants.ROOTFS
