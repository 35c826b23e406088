"""Giving a new inode what its image says of it: owner, attributes, mode, times, in the order that works."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from puzzlefs.vfs import Attributes, Filesystem

# Who could not be made the owner: without privilege, or without a number for it in this namespace.
_REFUSED: Final = (errno.EPERM, errno.EINVAL)
_NO_OWNER: Final = (1 << 32) - 1
_ACCESS_LISTS: Final = (b"system.posix_acl_access", b"system.posix_acl_default")

Skipped = Callable[[bytes, int], None]
"""Called with what could not be given to an inode (an attribute's key, or `owner`, `mode`, `times`) and the
system's error number."""


class Restorer:
    """Restores inodes of `filesystem`; owners only with `same_owner`."""

    def __init__(self, filesystem: Filesystem, same_owner: bool) -> None:
        self._filesystem = filesystem
        self._same_owner = same_owner

    def opened(self, descriptor: int, attributes: Attributes, skipped: Skipped) -> None:
        """Restore a regular file or directory that is open. Raises `OSError`."""
        self._restore(descriptor, attributes, skipped)

    def named(self, directory: int, name: bytes, attributes: Attributes, skipped: Skipped) -> None:
        """Restore a link, device, pipe or socket just made in `directory`. Raises `OSError`.

        It is never opened for reading or writing, nor followed: /proc leads to this very inode.
        """
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            if stat.S_IFMT(os.fstat(descriptor).st_mode) != stat.S_IFMT(attributes.mode):
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            self._restore(f"/proc/self/fd/{descriptor}", attributes, skipped)
        finally:
            os.close(descriptor)

    def _restore(self, target: int | str, attributes: Attributes, skipped: Skipped) -> None:
        """Owner first, for a new one costs setuid bits and capabilities; attributes while the owner may
        write; lists after the mode, which would change them; times last."""
        if self._same_owner:
            _attempt(skipped, b"owner", lambda: _set_owner(target, attributes.uid, attributes.gid))
        xattrs = self._filesystem.index.xattrs(attributes.ino) if self._filesystem.has_xattrs else []
        _set(target, [pair for pair in xattrs if pair[0] not in _ACCESS_LISTS], skipped)
        if not stat.S_ISLNK(attributes.mode):
            _attempt(skipped, b"mode", lambda: os.chmod(target, stat.S_IMODE(attributes.mode)))
        _set(target, [pair for pair in xattrs if pair[0] in _ACCESS_LISTS], skipped)
        times = (attributes.mtime_ns, attributes.mtime_ns)
        _attempt(skipped, b"times", lambda: os.utime(target, ns=times))


def _set_owner(target: int | str, uid: int, gid: int) -> None:
    # The highest number means "as it is" to the system.
    if _NO_OWNER in (uid, gid):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    os.chown(target, uid, gid)


def _attempt(skipped: Skipped, what: bytes, step: Callable[[], None]) -> None:
    try:
        step()
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        skipped(what, error.errno)


def _set(target: int | str, xattrs: list[tuple[bytes, bytes]], skipped: Skipped) -> None:
    """Set attributes; which a filesystem takes, and how many, is its own affair."""
    for key, value in xattrs:
        try:
            os.setxattr(target, key, value)
        except OSError as error:
            skipped(key, error.errno or errno.EIO)
