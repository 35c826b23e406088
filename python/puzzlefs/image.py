"""An image opened for reading: the chain from its name to its files' bytes."""

from __future__ import annotations

import io
import os

from puzzlefs import constants
from puzzlefs._native import native
from puzzlefs.background import Background
from puzzlefs.errors import IntegrityError, NotFoundError
from puzzlefs.names import ImageName, parse_verity
from puzzlefs.oci import Descriptor, Manifest, Platform, parse_object
from puzzlefs.store import Store
from puzzlefs.value import kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any, overload

    from puzzlefs._native import Index, Reader
    from puzzlefs.extract import ExtractResult
    from puzzlefs.owners import Owners
    from puzzlefs.verify import VerifyReport
    from puzzlefs.vfs import Filesystem

VERIFY_NEVER, VERIFY_ONCE, VERIFY_ALWAYS = 0, 1, 2
CACHE_SIZE = 128 * constants.MIB
# Of a mount: a part of the machine's memory, up to what makes random reads of large files decode no frame twice.
MOUNT_CACHE_SIZE = min(256 * constants.MIB, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 32)
_LINK_LIMIT = 40


class _Open:
    """`Image.open(name)` opens an image; `image.open(path)` opens a file of it."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type[Image]) -> Callable[..., Image]: ...
        @overload
        def __get__(self, instance: Image, owner: type[Image]) -> Callable[[Path | str | bytes], io.BufferedReader]: ...

    def __get__(self, instance: Image | None, owner: type[Image]) -> Callable[..., Any]:
        return owner._open_image if instance is None else instance._open_file


class Image:
    """A PuzzleFS image. `Image.open(name)` makes one, `image.open(path)` opens a file of it.

    name        what it was opened as
    descriptor  the manifest's descriptor, as the index has it
    manifest    the manifest, its bytes checked against the descriptor's digest
    pinned      whether the caller gave the manifest's fs-verity digest
    owners      whom files belong to, where that is not as the image says
    """

    def __init__(
        self, name: ImageName, store: Store, descriptor: Descriptor, content: bytes, *, pinned: bool = False
    ) -> None:
        self.name = name
        self.store = store
        self.descriptor = descriptor
        self.content = content
        self.manifest = Manifest.parse(content)
        self.pinned = pinned
        self.owners: Owners | None = None
        self._loading: Background | None = None

    open = _Open()

    @classmethod
    def _open_image(cls, name: str | ImageName, digest: str | None = None, platform: Platform | None = None) -> Image:
        """Open the image called `[oci:]DIR:TAG` or `[oci:]DIR@sha256:HEX`.

        digest is the fs-verity digest of its manifest in hex, as `build` prints it; then the index,
        which anybody may change, is trusted for nothing. Raises `NotFoundError`, `IntegrityError`.
        """
        parsed = ImageName.parse(name) if isinstance(name, str) else name
        store = Store.open(parsed.directory)
        descriptor = store.resolve(parsed.reference, platform)
        content, verity = store.get_measured(descriptor, constants.JSON_SIZE_LIMIT)
        if digest is not None and verity != parse_verity(digest):
            raise IntegrityError(f"{parsed}: the manifest's fs-verity digest is not {digest.lower()}")
        return cls(parsed, store, descriptor, content, pinned=digest is not None)

    def with_owners(self, owners: Owners) -> Image:
        """Return the same image whose files belong to whom `owners` says."""
        image = type(self)(self.name, self.store, self.descriptor, self.content, pinned=self.pinned)
        image.owners = owners or None
        return image

    @property
    def blobs(self) -> Path:
        """The directory of the blobs."""
        return self.store.blobs

    @property
    def verity(self) -> str:
        """The manifest's fs-verity digest in hex: what to pin an image by."""
        return native.verity_digest(self.content).hex()

    @property
    def rootfs(self) -> bytes:
        """The rootfs blob, checked against its descriptor and its fs-verity annotation. It may be long: it is not kept."""
        blob = self._read_rootfs()
        self._check_rootfs(blob)
        return blob

    def _read_rootfs(self) -> bytes:
        return self.store.read(self.manifest.rootfs, constants.ROOTFS_SIZE_LIMIT)

    def _check_rootfs(self, blob: bytes) -> None:
        descriptor = self.manifest.rootfs
        verity = self.store.measure(descriptor, blob)
        stated = descriptor.annotations.get(constants.ROOTFS_VERITY)
        if stated is None:
            if self.pinned:
                raise IntegrityError(f"{self.name}: the manifest names no fs-verity digest of the rootfs blob")
        elif verity.hex() != stated:
            raise IntegrityError(f"{self.name}: the rootfs blob's fs-verity digest is not {stated}")

    @kept
    def index(self) -> Index:
        """The merged tree of the image's layers."""
        return self._load_index() if self._loading is None else self._loading.result()

    def load(self) -> None:
        """Begin to load the index beside whatever the caller does next; `index` waits for it, and raises its errors."""
        self._loading = Background(self._load_index)

    def _load_index(self) -> Index:
        blob = self._read_rootfs()
        # Decoding takes any bytes; what comes of it is used only if they are the right ones.
        check = Background(lambda: self._check_rootfs(blob))
        try:
            if self.owners is None:
                return native.Index(blob)
            return native.Index(blob, self.owners.users, self.owners.groups)
        finally:
            # An error of the check is told before one of what was decoded.
            check.result()

    def reader(self, verify: int | None = None, cache_size: int = CACHE_SIZE) -> Reader:
        """Return a reader of file contents.

        verify is VERIFY_NEVER, VERIFY_ONCE or VERIFY_ALWAYS; by default a pinned image has every byte
        checked each time it is taken from disk, another one each blob on first use.
        """
        level = (VERIFY_ALWAYS if self.pinned else VERIFY_ONCE) if verify is None else verify
        return native.Reader(self.index, os.fsencode(self.store.blob_directory), level, cache_size)

    @kept
    def config(self) -> dict[str, Any] | None:
        """The OCI image config, or None where the image has no runtime config."""
        descriptor = self.manifest.config
        if descriptor.media_type != constants.IMAGE_CONFIG:
            return None
        return parse_object(self.store.get(descriptor, constants.JSON_SIZE_LIMIT), "image config")

    @kept
    def filesystem(self) -> Filesystem:
        """The image as a filesystem, with a reader of its own."""
        from puzzlefs.vfs import Filesystem

        return Filesystem(self.index, self._reader)

    @kept
    def _reader(self) -> Reader:
        return self.reader()

    def walk(self) -> Iterator[tuple[bytes, int]]:
        """Yield (path relative to the root, inode number) of everything, parents first, by name."""
        return self.filesystem.walk()

    def resolve(self, path: str | bytes | Path, *, follow: bool = True) -> int:
        """Return the inode number of a path in the image.

        Symbolic links are followed inside the image, the last component's only with `follow`.
        Raises `NotFoundError`.
        """
        from puzzlefs.records import Kind

        pending = _components(os.fsencode(path))
        trail, links = [1], 0
        while pending:
            name = pending.pop()
            if name == b"..":
                del trail[max(1, len(trail) - 1) :]
                continue
            ino = self._child(trail[-1], name, path)
            if self.index.stat(ino)[1] != Kind.LNK or (not pending and not follow):
                trail.append(ino)
                continue
            links += 1
            if links > _LINK_LIMIT:
                raise NotFoundError(f"{os.fsdecode(path)}: too many symbolic links")
            target = self.index.symlink(ino)
            if target.startswith(b"/"):
                del trail[1:]
            pending += _components(target)
        return trail[-1]

    def _child(self, parent: int, name: bytes, path: str | bytes | Path) -> int:
        try:
            ino = self.index.lookup(parent, name)
        except NotADirectoryError:
            ino = 0
        if not ino:
            raise NotFoundError(f"{os.fsdecode(path)}: no such file in the image")
        return ino

    def _open_file(self, path: str | bytes | Path) -> io.BufferedReader:
        """Open a regular file of the image for reading in binary."""
        from puzzlefs.records import Kind

        ino = self.resolve(path)
        stat = self.index.stat(ino)
        if stat[1] != Kind.FILE:
            raise NotFoundError(f"{os.fsdecode(path)}: not a regular file")
        return io.BufferedReader(_File(self._reader, ino, stat[7]), constants.MIB)

    def verify(self, digest: str | None = None) -> VerifyReport:
        """Recompute every digest of the image and the whole fs-verity chain (`verify.verify`)."""
        from puzzlefs.verify import verify

        return verify(self, digest)

    def extract(self, directory: str | Path, *, same_owner: bool = True) -> ExtractResult:
        """Unpack the image into an absent or empty directory."""
        from puzzlefs.extract import extract

        return extract(self, directory, same_owner=same_owner)


def _components(path: bytes) -> list[bytes]:
    """Return a path's components, last first."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]


class _File(io.RawIOBase):
    """One file of an image as a raw stream."""

    def __init__(self, reader: Reader, ino: int, size: int) -> None:
        self._reader, self._ino, self._size, self._position = reader, ino, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        content = self._reader.read(self._ino, self._position, len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
