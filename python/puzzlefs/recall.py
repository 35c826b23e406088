"""Building again what has not changed: the image is the one that the last build of the tree made.

All that goes into an image is compared first: what was said about the build, what it is built upon, and each inode as
the system tells it, by times of change that the system sets whatever is changed. Then the manifest is
looked up in the store, and each blob that it names. Where anything differs, or cannot be told, the
image is built; what did not change of the tree is not read again even so.
"""

from __future__ import annotations

import os

from puzzlefs import build_cache, constants, mountinfo
from puzzlefs._native import native
from puzzlefs.build_cache import IMAGES, BuildCache
from puzzlefs.errors import PuzzleFSError, SourceError
from puzzlefs.names import ImageName
from puzzlefs.oci import Descriptor, Platform, canonical, parse_object
from puzzlefs.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from puzzlefs._native import Look

# Filesystems whose directories change their own times when an entry comes or goes. An overlay's are those of one
# of its layers, and a server's come when it likes.
_TELLING = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "f2fs", "bcachefs", "zfs"))
# Where packages are told, which decides the order of files whether or not the image has it.
_DATABASES = (b"var/lib/dpkg/info", b"lib/apk/db", b"usr/lib/apk/db")
_HEAD = 4


class Request:
    """What is asked of a build, as far as it decides what the image is.

    said     all options, in any words that are the same whenever they are the same
    base     tag or digest of the image in the same store that is built upon
    reuse    names of the images whose chunks are referred to
    excludes whether anything of the tree may be left out
    """

    def __init__(self, said: str, base: str | None, reuse: Sequence[str], *, excludes: bool) -> None:
        self.said, self.base, self.reuse, self.excludes = said, base, reuse, excludes


class Memory:
    """What the last build of a tree, asked for the same, saw of it and made of it.

    horizon  time of change (ns) from which on this build trusts no inode
    mounts   paths below the tree on which something is mounted
    look     what became of the tree since then, where that can be told
    """

    def __init__(
        self, directory: str | os.PathLike[str], name: ImageName, tree: str | os.PathLike[str], request: Request
    ) -> None:
        self._cache = BuildCache(directory, name.directory, tree, request.said, IMAGES)
        self._name, self._request = name, request
        self.root = os.path.realpath(os.fsencode(tree))
        self.horizon = build_cache.horizon()
        self.mounts = mountinfo.below(self.root)
        self.look: Look | None = None
        self._outside: list[str] | None = None
        self._last: dict[str, Any] | None = None
        self._snapshot = b""
        if self._tells():
            self._last, self._snapshot = _split(self._cache.load())

    def recall(self, *, tagged: bool, sync: bool) -> dict[str, Any] | None:
        """Return the result of the last build (`BuildResult`), its image tagged again, None where it has to be built.

        sync  whether the image is to be on stable storage. Raises `StoreError`.
        """
        try:
            self._outside = self._surroundings()
            store = Store.open(self._name.directory)
            manifest = self._made_of_the_same(store)
        except (PuzzleFSError, AttributeError, KeyError, TypeError, ValueError):
            manifest = None
        if self._snapshot:
            try:
                self.look = native.Look(self.root, self._snapshot)
            except SourceError:
                return None
        self._snapshot = b""
        if manifest is None or self._last is None or self.look is None or not self.look.is_unchanged:
            return None
        if tagged:
            store.tag(self._name.reference, manifest, sync=sync and not self._last["synced"])
        result: dict[str, Any] = self._last["result"]
        return {**result, "new_bytes": 0, "notices": tuple(result["notices"])}

    def _made_of_the_same(self, store: Store) -> Descriptor | None:
        """Return the last build's manifest, if it was made of the same but perhaps for the tree, and is stored whole."""
        last = self._last
        if last is None or last["inputs"] != [*(self._outside or []), *self._bases()]:
            return None
        manifest = Descriptor(constants.MANIFEST, last["manifest"], last["size"], platform=last["platform"])
        whole = isinstance(last["synced"], bool) and _is_whole(store, manifest)
        return manifest if whole and isinstance(last["result"]["notices"], list) else None

    def keep(
        self, snapshot: bytes, bases: Sequence[str], manifest: Descriptor, result: dict[str, Any], *, synced: bool
    ) -> None:
        """Keep what this build saw of the tree, and made of it upon images of these digests. Raises `OSError`."""
        if not snapshot or self._outside is None or not self._tells():
            return
        document = {
            "inputs": [*self._outside, *bases],
            "manifest": manifest.digest,
            "size": manifest.size,
            "platform": manifest.platform,
            "synced": synced,
            "result": result,
        }
        head = canonical(document)
        self._cache.save(len(head).to_bytes(_HEAD, "little") + head + snapshot)

    def _tells(self) -> bool:
        """Tell whether changes of the tree show in its inodes' times."""
        try:
            mount = mountinfo.holding(self.root)
        except OSError:
            return False
        return mount is not None and mount.kind in _TELLING

    def _surroundings(self) -> list[str]:
        """Return what the image depends on besides the request and the tree. Raises `SourceError`."""
        platform = Platform.host()
        inputs = [os.environ.get("SOURCE_DATE_EPOCH", ""), platform.os, platform.architecture]
        inputs += [point.hex() for point in self.mounts]
        if self._request.excludes or any(map(_hides_packages, self.mounts)):
            from puzzlefs.packages import fingerprint

            inputs.append(fingerprint(self.root).hex())
        return inputs

    def _bases(self) -> list[str]:
        """Return the digests of the images that are built upon, and referred to. Raises `PuzzleFSError`."""
        request = self._request
        names = [ImageName(self._name.directory, request.base)] if request.base is not None else []
        names += map(ImageName.parse, request.reuse)
        return [Store.open(name.directory).resolve(name.reference).digest for name in names]


def _split(kept: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Return what was made, and the snapshot of what it was made of."""
    size = int.from_bytes(kept[:_HEAD], "little")
    try:
        return parse_object(kept[_HEAD : _HEAD + size], "image"), kept[_HEAD + size :]
    except PuzzleFSError:
        return None, b""


def _is_whole(store: Store, manifest: Descriptor) -> bool:
    """Tell whether the store has a manifest and, by their names and sizes, all blobs that it names."""
    document = parse_object(store.get(manifest, constants.JSON_SIZE_LIMIT), "manifest")
    blobs = (document["config"], *document["layers"])
    return store.holds((bytes.fromhex(blob["digest"].removeprefix("sha256:")), blob["size"]) for blob in blobs)


def _hides_packages(mount: bytes) -> bool:
    """Tell whether a package database may be, or be in part, on what is mounted there."""
    return any((place + b"/").startswith(mount + b"/") or mount.startswith(place + b"/") for place in _DATABASES)
