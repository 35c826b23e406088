"""An OCI image layout on disk: verified gets, atomic puts, an index replaced under a lock.

Nothing is ever written in place. Unfinished blobs live in a directory of their writer's beside the
blob directory, held by a lock while the writer lives, so that a later writer can tell what a killed
one left behind and delete it.
"""

from __future__ import annotations

import errno
import os
import stat

from puzzlefs import constants
from puzzlefs._native import native
from puzzlefs.errors import (
    BlobError,
    CorruptImageError,
    MissingBlobError,
    NotFoundError,
    StoreError,
    UnsupportedError,
)
from puzzlefs.names import is_digest
from puzzlefs.oci import Descriptor, Platform, canonical, parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Any

    from puzzlefs.unfinished import Unfinished

_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_EMPTY_INDEX = {"manifests": [], "schemaVersion": 2}
UNFINISHED = ".puzzlefs-"
"""How names of unfinished files and directories begin."""


class Store:
    """One image layout: `directory` is its path, `blob_directory` that of the blobs, links resolved."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.directory = os.fspath(path)
        self.blob_directory = os.path.realpath(os.path.join(self.directory, "blobs", "sha256"))

    @property
    def path(self) -> Path:
        """The layout's directory."""
        from pathlib import Path

        return Path(self.directory)

    @property
    def blobs(self) -> Path:
        """The directory of the blobs, links resolved."""
        from pathlib import Path

        return Path(self.blob_directory)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Open an existing layout. Raises `NotFoundError` where there is none."""
        try:
            marker = _read(os.path.join(path, "oci-layout"), constants.JSON_SIZE_LIMIT)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"{path}: not an OCI image layout (no file oci-layout)") from error
        except OSError as error:
            raise store_error(error, os.path.join(path, "oci-layout")) from error
        version = parse_object(marker, "oci-layout").get("imageLayoutVersion")
        if version != "1.0.0":
            raise UnsupportedError(f"{path}: image layout version {version!r} is not 1.0.0")
        return cls(path)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Store:
        """Open a layout, making what is missing of it; safe beside other writers."""
        directory = os.fspath(path)
        blobs = os.path.join(directory, "blobs", "sha256")
        documents = {"oci-layout": _LAYOUT, "index.json": _EMPTY_INDEX}
        try:
            # A link to a directory elsewhere, even one that is not there yet, is no directory to make.
            if not os.path.lexists(blobs):
                os.makedirs(blobs, exist_ok=True)
            if not all(os.path.exists(os.path.join(directory, name)) for name in documents):
                with Locked(directory):
                    for name, content in documents.items():
                        if not os.path.exists(os.path.join(directory, name)):
                            _publish(directory, name, canonical(content))
        except OSError as error:
            raise store_error(error) from error
        return cls.open(path)

    # Reading

    def index(self) -> dict[str, Any]:
        """Return index.json as a document, its manifests a list of objects."""
        try:
            content = _read(os.path.join(self.directory, "index.json"), constants.JSON_SIZE_LIMIT + 1)
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.directory}: no index.json") from error
        except OSError as error:
            raise store_error(error, os.path.join(self.directory, "index.json")) from error
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
        if is_digest(reference):
            return self._resolve_digest(reference)
        found = [entry for tag, entry in self.tags() if tag == reference]
        if not found:
            raise NotFoundError(f"{self.directory}: no tag {reference!r}")
        # An index may be for any platform, and need not say so itself.
        is_index = len(found) == 1 and found[0].media_type == constants.INDEX
        chosen = found[0] if is_index else _for_platform(found, platform)
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
            raise NotFoundError(f"{self.directory}: no manifest {digest}") from error
        return Descriptor(constants.MANIFEST, digest, size)

    def get(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return a blob whose size and SHA-256 are the descriptor's.

        Raises `MissingBlobError`, `BlobError`, or `CorruptImageError` where it exceeds `limit` bytes.
        """
        return self.get_measured(descriptor, limit)[0]

    def get_measured(self, descriptor: Descriptor, limit: int) -> tuple[bytes, bytes]:
        """Return what `get` does, and its fs-verity digest."""
        content = self.read(descriptor, limit)
        return content, self.measure(descriptor, content)

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return a blob's file, to be given to `measure` before it is trusted. Raises what `get` raises."""
        if descriptor.size > limit:
            raise CorruptImageError(f"{descriptor.digest}: {descriptor.size} bytes are too many, {limit} are allowed")
        digest = descriptor.raw_digest
        try:
            content = _read(self._blob(digest), descriptor.size + 1)
        except FileNotFoundError as error:
            raise MissingBlobError(digest) from error
        except OSError as error:
            raise BlobError(digest, f"cannot be read: {error.strerror}") from error
        return content

    def measure(self, descriptor: Descriptor, content: bytes) -> bytes:
        """Return the fs-verity digest of a blob's content. Raises `BlobError` where it is not the descriptor's."""
        found, verity = native.hash_bytes(content)
        if found != descriptor.raw_digest:
            raise BlobError(descriptor.raw_digest, "content does not match the digest")
        return verity

    def size(self, digest: bytes) -> int:
        """Return the size of a blob's file. Raises `MissingBlobError`."""
        try:
            return os.stat(self._blob(digest)).st_size
        except OSError as error:
            raise MissingBlobError(digest) from error

    def holds(self, blobs: Iterable[tuple[bytes, int]]) -> bool:
        """Tell whether blobs of these SHA-256 are there, all of them of these sizes; their bytes are not read."""
        try:
            return all(self.size(digest) == size for digest, size in blobs)
        except MissingBlobError:
            return False

    def _blob(self, digest: bytes) -> str:
        return os.path.join(self.blob_directory, digest.hex())

    # Writing

    def unfinished(self) -> Unfinished:
        """Return the context of a directory for unfinished blobs; it deletes what killed writers left."""
        from puzzlefs.unfinished import Unfinished

        return Unfinished(os.path.dirname(self.blob_directory))

    def put(self, content: bytes, unfinished: str, sync: bool = False) -> bool:
        """Store a blob; return whether it is new. An existing file of another size is replaced."""
        path = self._blob(native.hash_bytes(content)[0])
        begun = os.path.join(unfinished, os.path.basename(path))
        try:
            if os.stat(path).st_size == len(content):
                return False
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error(error) from error
        try:
            with open(begun, "xb") as file:
                file.write(content)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            os.rename(begun, path)
        except OSError as error:
            raise store_error(error, path) from error
        return True

    def put_file(self, path: str, digest: bytes) -> bool:
        """Move a finished file of a writer's directory into the store as the blob `digest`; return whether it is new."""
        blob = self._blob(digest)
        try:
            if os.path.exists(blob) and os.stat(blob).st_size == os.stat(path).st_size:
                return False
            os.rename(path, blob)
        except OSError as error:
            raise store_error(error, blob) from error
        return True

    def tag(self, tag: str, descriptor: Descriptor, *, sync: bool = False) -> None:
        """Make `tag` mean `descriptor`: its old entry is dropped, the new one appended.

        With `sync` the store is synced before, and the index after. Where that cannot be, blobs of the image
        that are not on the disk are deleted.
        """
        annotations = {**descriptor.annotations, constants.REF_NAME: tag}
        entry = {**descriptor.document(), "annotations": annotations}
        try:
            with Locked(self.directory):
                if sync:
                    self._sync(descriptor)
                document = self.index()
                before = document["manifests"]
                document["manifests"] = [*(known for known in before if _tag_of(known) != tag), entry]
                if document["manifests"] == before and not sync:
                    return
                _publish(self.directory, "index.json", canonical(document), sync=sync)
        except OSError as error:
            raise store_error(error, os.path.join(self.directory, "index.json")) from error

    def _sync(self, manifest: Descriptor) -> None:
        try:
            _sync_filesystem(self.blob_directory)
        except OSError:
            from puzzlefs.unsynced import discard_lost

            discard_lost(self, manifest)
            raise


def _read(path: str, limit: int) -> bytes:
    """Return up to `limit` bytes of a file, which must be a regular one: a pipe might never answer."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE), path)
        return file.read(limit)


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


class Locked:
    """Holds a directory's lock; the system lets go of it when a process dies. Raises `OSError`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        import fcntl

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except BaseException:
            os.close(self._lock)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._lock)


def _publish(directory: str, name: str, content: bytes, *, sync: bool = False) -> None:
    """Give the layout a file `name` in one step. The caller holds its lock.

    What a killed writer left of the unfinished file is overwritten here.
    """
    unfinished = os.path.join(directory, UNFINISHED + name)
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.rename(unfinished, os.path.join(directory, name))
    except OSError:
        if os.path.lexists(unfinished):
            os.unlink(unfinished)
        raise
    if sync:
        _sync_directory(directory)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_filesystem(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        native.sync_filesystem(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, directory) from error
    finally:
        os.close(descriptor)


def store_error(error: OSError, path: str | None = None) -> StoreError:
    """Return the error as ours; `path` is the file in question where the system call did not know it."""
    return StoreError(os.fsencode(error.filename or path or "store"), error.errno or errno.EIO)
