"""The one tree of exceptions; each class has an `errno` for FUSE and an `exit_code` for the shell.

Exit codes: 1 failure, 2 usage, 3 integrity, 4 not found, 5 registry, 6 mount, 7 unsupported.
Classes are built from facts (a path, a digest, an error number) and word the message themselves,
so that both backends say the same.
"""

from __future__ import annotations

import errno as _errno
import os


def shown(path: bytes | str) -> str:
    """Return a path as text fit for a message: undecodable and control bytes escaped."""
    raw = os.fsencode(path)
    return raw.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii")


class PuzzleFSError(Exception):
    """Base of every error this package raises on purpose."""

    errno: int = _errno.EIO
    exit_code: int = 1


class UsageError(PuzzleFSError):
    """The request makes no sense: a malformed image name, an option out of range."""

    errno = _errno.EINVAL
    exit_code = 2


class IntegrityError(PuzzleFSError):
    """Bytes are not what a digest promised, or an image breaks the format."""

    exit_code = 3


class CorruptImageError(IntegrityError):
    """Metadata breaks a rule of docs/format.md; the message is the rule's text."""


class BlobError(IntegrityError):
    """A blob is damaged. `digest` is its 32-byte SHA-256, `reason` what is wrong with it."""

    def __init__(self, digest: bytes, reason: str) -> None:
        super().__init__(f"blob sha256:{digest.hex()}: {reason}")
        self.digest = digest
        self.reason = reason


class MissingBlobError(BlobError):
    """A blob that the image names is not in the store."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(digest, "not in the store")


class NotFoundError(PuzzleFSError):
    """No such layout, tag or path."""

    errno = _errno.ENOENT
    exit_code = 4


class TransportError(PuzzleFSError):
    """An image cannot be fetched from where it is, a registry for one."""

    exit_code = 5


class MountError(PuzzleFSError):
    """Mounting or unmounting failed."""

    exit_code = 6


class UnsupportedError(PuzzleFSError):
    """The image, the system or this installation lacks what was asked for."""

    errno = _errno.EOPNOTSUPP
    exit_code = 7


class BuildError(PuzzleFSError):
    """A build cannot go on."""


class SourceError(BuildError):
    """A file of the root filesystem cannot be read. `path` is relative to the root."""

    def __init__(self, path: bytes, errno: int) -> None:
        super().__init__(f"{shown(path)}: {os.strerror(errno)}")
        self.path = path
        self.errno = errno


class SourceChangedError(BuildError):
    """A file changed while the build read it."""

    def __init__(self, path: bytes) -> None:
        super().__init__(f"{shown(path)}: changed while it was read")
        self.path = path


class CancelledError(BuildError):
    """The build was told to stop."""

    def __init__(self) -> None:
        super().__init__("cancelled")


class StoreError(PuzzleFSError):
    """The store cannot be read or written. `path` names the file or directory."""

    def __init__(self, path: bytes, errno: int) -> None:
        super().__init__(f"{shown(path)}: {os.strerror(errno)}")
        self.path = path
        self.errno = errno
