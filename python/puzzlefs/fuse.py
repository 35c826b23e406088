"""A pyfuse3 adapter over `vfs`: requests in, attributes and bytes out, errors as error numbers.

File and directory handles are inode numbers, so that the server keeps no table of what is open. The
image never changes: the kernel may keep names, absent names, attributes and pages for ever, and how
often it has looked a number up means nothing here.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import pyfuse3

from puzzlefs.errors import BlobError, PuzzleFSError
from puzzlefs.vfs import Attributes, Filesystem

_FOREVER: Final = 365 * 24 * 3600
# About what fits the kernel's reply buffer; the rest of a directory is another request.
_PAGE: Final = 64

log = logging.getLogger("puzzlefs")

P = ParamSpec("P")
T = TypeVar("T")


def _answers(
    handler: Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]]:
    """Turn whatever a handler raises into an error number: any other exception would end the server."""

    @functools.wraps(handler)
    async def answer(self: Operations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from error
        except PuzzleFSError as error:
            self.report(error)
            raise pyfuse3.FUSEError(error.errno) from error
        except Exception as error:
            log.exception("%s failed", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from error

    return answer


async def _read_only(*_: Any) -> Any:
    raise pyfuse3.FUSEError(errno.EROFS)


# Untyped, for it stands for handlers of many shapes.
_refuse: Any = _read_only


class Operations(pyfuse3.Operations):
    """The requests of one mount. `ready` is called once, when the kernel has begun to talk."""

    supports_dot_lookup = True

    def __init__(self, filesystem: Filesystem, ready: Callable[[], None]) -> None:
        super().__init__()
        self.filesystem = filesystem
        # Access lists are attributes: without any attribute the kernel need not ask for them.
        self.enable_acl = filesystem.has_xattrs
        self._ready = ready
        self._reported: set[bytes] = set()

    def init(self) -> None:
        """Say that the kernel has begun to talk."""
        self._ready()

    def report(self, error: PuzzleFSError) -> None:
        """Log an error; of each damaged blob the first only."""
        if isinstance(error, BlobError):
            if error.digest in self._reported:
                return
            self._reported.add(error.digest)
        log.error("%s", error)

    # Names and attributes

    @_answers
    async def lookup(self, parent: int, name: bytes, _ctx: Any) -> pyfuse3.EntryAttributes:
        ino = self.filesystem.lookup(parent, name)
        if not ino:
            return _absent()
        return _entry(self.filesystem.getattr(ino))

    @_answers
    async def getattr(self, ino: int, _ctx: Any) -> pyfuse3.EntryAttributes:
        return _entry(self.filesystem.getattr(ino))

    @_answers
    async def readlink(self, ino: int, _ctx: Any) -> bytes:
        return self.filesystem.readlink(ino)

    async def forget(self, _inodes: Sequence[tuple[int, int]]) -> None:
        """Nothing is counted, so nothing is forgotten."""

    @_answers
    async def statfs(self, _ctx: Any) -> pyfuse3.StatvfsData:
        statistics = self.filesystem.statfs()
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = statistics.block_size
        answer.f_blocks = statistics.blocks
        answer.f_bfree = answer.f_bavail = 0
        answer.f_files = statistics.files
        answer.f_ffree = answer.f_favail = 0
        answer.f_namemax = statistics.name_limit
        return answer

    @_answers
    async def getxattr(self, ino: int, name: bytes, _ctx: Any) -> bytes:
        if not self.filesystem.has_xattrs:
            # The kernel takes this for all inodes and never asks again.
            raise pyfuse3.FUSEError(errno.ENOSYS)
        return self.filesystem.getxattr(ino, name)

    @_answers
    async def listxattr(self, ino: int, _ctx: Any) -> Sequence[bytes]:
        return self.filesystem.listxattr(ino)

    # Directories

    @_answers
    async def opendir(self, ino: int, _ctx: Any) -> int:
        return ino

    @_answers
    async def readdir(self, ino: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        while page := self.filesystem.readdir(ino, start, _PAGE):
            for name, child in page:
                start += 1
                entry = self._listed(child)
                if entry and not pyfuse3.readdir_reply(token, name, entry, start):
                    return

    def _listed(self, ino: int) -> pyfuse3.EntryAttributes | None:
        """Return an entry's attributes; None where it has none, which only a lookup may complain of."""
        try:
            return _entry(self.filesystem.getattr(ino))
        except OSError:
            return None

    async def releasedir(self, _ino: int) -> None:
        """There is no handle to give back."""

    # Contents

    @_answers
    async def open(self, ino: int, flags: int, _ctx: Any) -> pyfuse3.FileInfo:
        if flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        return pyfuse3.FileInfo(fh=ino, keep_cache=True)

    @_answers
    async def read(self, ino: int, offset: int, size: int) -> bytes:
        # In the loop itself: another thread costs more than most reads take, also with many readers.
        return self.filesystem.read(ino, offset, size)

    async def release(self, _ino: int) -> None:
        """There is no handle to give back."""

    # Whatever would change something

    setattr = mknod = mkdir = unlink = rmdir = symlink = rename = link = _refuse
    create = write = setxattr = removexattr = _refuse


def _absent() -> pyfuse3.EntryAttributes:
    """Return the answer that lets the kernel remember that a name does not exist."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = entry.attr_timeout = _FOREVER
    return entry


def _entry(attributes: Attributes) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    (
        entry.st_ino,
        entry.st_mode,
        entry.st_nlink,
        entry.st_uid,
        entry.st_gid,
        entry.st_rdev,
        entry.st_size,
        entry.st_blocks,
        mtime_ns,
    ) = attributes
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = mtime_ns
    entry.entry_timeout = entry.attr_timeout = _FOREVER
    return entry
