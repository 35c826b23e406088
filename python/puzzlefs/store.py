"""An OCI image layout on disk: verified gets, atomic puts, an index replaced under a lock.

Nothing is ever written in place. Unfinished blobs live in a directory of their writer's beside the
blob directory, held by a lock while the writer lives, so that a later writer can tell what a killed
one left behind and delete it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

from puzzlefs import constants
from puzzlefs.errors import (
    BlobError,
    CorruptImageError,
    MissingBlobError,
    NotFoundError,
    StoreError,
    UnsupportedError,
)
from puzzlefs.names import DIGEST
from puzzlefs.oci import Descriptor, Platform, canonical, parse_object

_LAYOUT = canonical({"imageLayoutVersion": "1.0.0"})
_EMPTY_INDEX = canonical({"manifests": [], "schemaVersion": 2})
UNFINISHED = ".puzzlefs-"


class Durability(StrEnum):
    """What is on stable storage when a build returns.

    NONE leaves it to the system, COMMIT syncs the store once before the index names the image,
    BLOB also syncs every blob before it gets its name.
    """

    NONE = "none"
    COMMIT = "commit"
    BLOB = "blob"


class Store:
    """One image layout. `path` is its directory, `blobs` the directory of the blobs, links resolved."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = Path(os.path.realpath(path / "blobs" / "sha256"))

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open an existing layout. Raises `NotFoundError` where there is none."""
        try:
            marker = (path / "oci-layout").read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"{path}: not an OCI image layout (no file oci-layout)") from error
        except OSError as error:
            raise _store_error(error, path / "oci-layout") from error
        version = parse_object(marker, "oci-layout").get("imageLayoutVersion")
        if version != "1.0.0":
            raise UnsupportedError(f"{path}: image layout version {version!r} is not 1.0.0")
        return cls(path)

    @classmethod
    def create(cls, path: Path) -> Store:
        """Open a layout, making what is missing of it; safe beside other writers."""
        try:
            (path / "blobs").mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                (path / "blobs" / "sha256").mkdir()
            if not ((path / "oci-layout").exists() and (path / "index.json").exists()):
                with _locked(path):
                    for name, content in (("oci-layout", _LAYOUT), ("index.json", _EMPTY_INDEX)):
                        if not (path / name).exists():
                            _publish(path, name, content)
        except OSError as error:
            raise _store_error(error) from error
        return cls.open(path)

    # Reading

    def index(self) -> dict[str, Any]:
        """Return index.json as a document, its manifests a list of objects."""
        try:
            with open(self.path / "index.json", "rb") as file:
                content = file.read(constants.JSON_SIZE_LIMIT + 1)
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.path}: no index.json") from error
        except OSError as error:
            raise _store_error(error, self.path / "index.json") from error
        return _parse_index(content)

    def tags(self) -> list[tuple[str, Descriptor]]:
        """Return every (tag, descriptor) of the index, in its order."""
        entries = [Descriptor.parse(entry) for entry in self.index()["manifests"]]
        return [
            (entry.annotations[constants.REF_NAME], entry)
            for entry in entries
            if constants.REF_NAME in entry.annotations
        ]

    def resolve(self, reference: str, platform: Platform | None = None) -> Descriptor:
        """Return the descriptor of the manifest that a tag or digest names.

        A tag of several platforms means the one asked for, else this machine's. Raises
        `NotFoundError`.
        """
        if DIGEST.match(reference):
            return self._resolve_digest(reference)
        found = [entry for tag, entry in self.tags() if tag == reference]
        if not found:
            raise NotFoundError(f"{self.path}: no tag {reference!r}")
        chosen = _for_platform(found, platform)
        if chosen.media_type != constants.INDEX:
            return chosen
        nested = _parse_index(self.get(chosen, constants.JSON_SIZE_LIMIT))
        return _for_platform([Descriptor.parse(entry) for entry in nested["manifests"]], platform)

    def _resolve_digest(self, digest: str) -> Descriptor:
        for entry in map(Descriptor.parse, self.index()["manifests"]):
            if entry.digest == digest:
                return entry
        try:
            size = self.size(bytes.fromhex(digest.removeprefix("sha256:")))
        except MissingBlobError as error:
            raise NotFoundError(f"{self.path}: no manifest {digest}") from error
        return Descriptor(constants.MANIFEST, digest, size)

    def get(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return a blob whose size and SHA-256 are the descriptor's.

        Raises `MissingBlobError`, `BlobError`, or `CorruptImageError` where it exceeds `limit` bytes.
        """
        if descriptor.size > limit:
            raise CorruptImageError(f"{descriptor.digest}: {descriptor.size} bytes are too many, {limit} are allowed")
        digest = descriptor.raw_digest
        try:
            with open(self.blobs / digest.hex(), "rb") as file:
                content = file.read(descriptor.size + 1)
        except FileNotFoundError as error:
            raise MissingBlobError(digest) from error
        except OSError as error:
            raise BlobError(digest, f"cannot be read: {error.strerror}") from error
        if sha256(content).digest() != digest:
            raise BlobError(digest, "content does not match the digest")
        return content

    def size(self, digest: bytes) -> int:
        """Return the size of a blob's file. Raises `MissingBlobError`."""
        try:
            return (self.blobs / digest.hex()).stat().st_size
        except OSError as error:
            raise MissingBlobError(digest) from error

    # Writing

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """Give a directory for unfinished blobs, gone at the end; delete what killed writers left."""
        parent = self.blobs.parent
        try:
            # Under the lock nobody sees a directory that is made and not yet held.
            with _locked(parent):
                _delete_abandoned(parent)
                directory = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
                held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:
            raise _store_error(error) from error
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(held)

    def put(self, content: bytes, unfinished: Path, sync: bool = False) -> bool:
        """Store a blob; return whether it is new. An existing file of another size is replaced."""
        name = sha256(content).hexdigest()
        try:
            if os.stat(self.blobs / name).st_size == len(content):
                return False
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _store_error(error) from error
        try:
            with open(unfinished / name, "xb") as file:
                file.write(content)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            os.rename(unfinished / name, self.blobs / name)
        except OSError as error:
            raise _store_error(error, self.blobs / name) from error
        return True

    def tag(self, tag: str, descriptor: Descriptor, durability: Durability = Durability.NONE) -> None:
        """Make `tag` mean `descriptor`: its old entry is dropped, the new one appended."""
        annotations = {**descriptor.annotations, constants.REF_NAME: tag}
        entry = {**descriptor.document(), "annotations": annotations}
        try:
            with _locked(self.path):
                if durability is not Durability.NONE:
                    _sync_filesystem(self.blobs)
                document = self.index()
                kept = [known for known in document["manifests"] if _tag_of(known) != tag]
                document["manifests"] = [*kept, entry]
                _publish(self.path, "index.json", canonical(document), sync=durability is not Durability.NONE)
        except OSError as error:
            raise _store_error(error, self.path / "index.json") from error


def _parse_index(content: bytes) -> dict[str, Any]:
    if len(content) > constants.JSON_SIZE_LIMIT:
        raise CorruptImageError("index: too large")
    document = parse_object(content, "index")
    manifests = document.get("manifests")
    if not isinstance(manifests, list) or not all(isinstance(entry, dict) for entry in manifests):
        raise CorruptImageError("index: manifests are not a list of objects")
    return document


def _tag_of(entry: dict[str, Any]) -> object:
    annotations = entry.get("annotations")
    return annotations.get(constants.REF_NAME) if isinstance(annotations, dict) else None


def _for_platform(candidates: Sequence[Descriptor], platform: Platform | None) -> Descriptor:
    wanted = (platform or Platform.host()).document()
    for candidate in candidates:
        if candidate.platform and all(candidate.platform.get(key) == value for key, value in wanted.items()):
            return candidate
    if platform is None and len(candidates) == 1:
        return candidates[0]
    raise NotFoundError(f"no image for {wanted['os']}/{wanted['architecture']}")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the layout's lock; the system lets go of it when a process dies."""
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _publish(directory: Path, name: str, content: bytes, *, sync: bool = False) -> None:
    """Give the layout a file `name` in one step. The caller holds its lock.

    What a killed writer left of the unfinished file is overwritten here.
    """
    unfinished = directory / f"{UNFINISHED}{name}"
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.rename(unfinished, directory / name)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    if sync:
        _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_filesystem(directory: Path) -> None:
    """syncfs(2), which the standard library lacks."""
    import ctypes

    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(descriptor)


def _delete_abandoned(parent: Path) -> None:
    """Delete the directories of writers that no longer hold their lock."""
    for entry in os.scandir(parent):
        if not entry.name.startswith(UNFINISHED) or not entry.is_dir(follow_symlinks=False):
            continue
        try:
            lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def _store_error(error: OSError, path: Path | None = None) -> StoreError:
    """Return the error as ours; `path` is the file in question where the system call did not know it."""
    return StoreError(os.fsencode(error.filename or path or b"store"), error.errno or errno.EIO)
