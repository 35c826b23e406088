"""What a build keeps for the next one of the same tree, outside the store: its stream's trace, and its image.

The cache is only ever a saving of time: each file can be deleted, whatever is damaged or of another
version counts as missing, and no blob is taken for stored that the store has not. But who writes it
decides which digests a build believes, so the directory must belong to the user alone.
"""

from __future__ import annotations

import os
import stat
import time

from puzzlefs import __version__
from puzzlefs._native import native

TRACES, IMAGES, CHUNKS = ".trace", ".image", ".chunks"
_UNFINISHED = ".tmp"
_FILE_LIMIT = 32
_BYTE_LIMIT = 1 << 30
_UNFINISHED_SECONDS = 3600
# A file changed this shortly before a build may change again without its times showing it.
_TICK_NANOSECONDS = 2_000_000_000


def default_directory() -> str | None:
    """Return $XDG_CACHE_HOME/puzzlefs/builds, or the same below ~/.cache, None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "puzzlefs", "builds") if base.startswith("/") else None


def horizon() -> int:
    """Return the time (ns since the epoch) of change from which on a file is too fresh to be told."""
    return time.time_ns() - _TICK_NANOSECONDS


class BuildCache:
    """What builds into one store in one form left, for each tree one file of a kind.

    directory  where they are kept; made, for this user alone, when something is saved
    form       all that decides whether one build's file is of use to another
    kind       TRACES, IMAGES, or CHUNKS: of the trees that are images of the store, what they offer other builds
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        store: str | os.PathLike[str],
        tree: str | os.PathLike[str],
        form: str,
        kind: str = TRACES,
    ) -> None:
        self._directory = directory
        self._kind = kind
        self._prefix = _name(os.path.realpath(store), form, __version__)
        self._file = f"{self._prefix}-{_name(os.path.realpath(tree))}{kind}"

    def load(self) -> bytes:
        """Return what the last build of this tree left; of traces, else that of any tree into this store; else b""."""
        try:
            at = self._open()
        except OSError:
            return b""
        try:
            return _read(at, self._file) or (self._newest(at) if self._kind == TRACES else b"")
        finally:
            os.close(at)

    def _newest(self, at: int) -> bytes:
        names = (name for _, _, name in _listed(at, self._kind) if name.startswith(self._prefix))
        name = next(names, None)
        return b"" if name is None else _read(at, name)

    def save(self, content: bytes) -> None:
        """Keep something, in one step, and delete what is too much. Raises `OSError`."""
        os.makedirs(self._directory, exist_ok=True, mode=0o700)
        at = self._open()
        try:
            unfinished = f"{os.urandom(8).hex()}{_UNFINISHED}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                with open(os.open(unfinished, flags, 0o600, dir_fd=at), "wb") as file:
                    file.write(native.hash_bytes(content)[0] + content)
                os.rename(unfinished, self._file, src_dir_fd=at, dst_dir_fd=at)
            except OSError:
                _unlink(at, unfinished)
                raise
            _prune(at, self._kind)
        finally:
            os.close(at)

    def _open(self) -> int:
        """Open the directory. Raises `PermissionError` where others may write to it."""
        at = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if _is_private(os.fstat(at)):
            return at
        os.close(at)
        raise PermissionError(f"{self._directory}: not this user's alone")


def _unlink(at: int, name: str) -> None:
    """Delete a file that may be gone, or not to be deleted."""
    try:
        os.unlink(name, dir_fd=at)
    except OSError:
        return


def _name(*parts: str) -> str:
    return native.hash_bytes(b"\0".join(map(os.fsencode, parts)))[0].hex()[:32]


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(at: int, name: str) -> bytes:
    """Return what a file keeps, b"" where it is none of ours or damaged."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(name, flags, dir_fd=at)
    except OSError:
        return b""
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not _is_private(status) or status.st_size > _BYTE_LIMIT:
            return b""
        digest, content = file.read(32), file.read(status.st_size)
    return content if native.hash_bytes(content)[0] == digest else b""


def _listed(at: int, suffix: str) -> list[tuple[float, int, str]]:
    """Return (time, size, name) of the files of a kind, newest first."""
    found = []
    with os.scandir(at) as entries:
        for entry in entries:
            if entry.name.endswith(suffix):
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                found.append((status.st_mtime, status.st_size, entry.name))
    return sorted(found, reverse=True)


def _prune(at: int, kind: str) -> None:
    """Delete the oldest files of a kind beyond the limits, and what killed builds left."""
    old = [name for modified, _, name in _listed(at, _UNFINISHED) if modified < time.time() - _UNFINISHED_SECONDS]
    total = 0
    for number, (_, size, name) in enumerate(_listed(at, kind)):
        total += size
        if number >= _FILE_LIMIT or total > _BYTE_LIMIT:
            old.append(name)
    for name in old:
        _unlink(at, name)
