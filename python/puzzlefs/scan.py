"""A directory tree -> nodes in visit order: what a build will describe.

Directories are visited depth first, parents before children, siblings by name (bytes); a visit lists
all entries of its directory. Hard links are one node, recognised by (st_dev, st_ino).
"""

from __future__ import annotations

import errno
import fnmatch
import os
import stat as _stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from puzzlefs.errors import SourceError, UsageError
from puzzlefs.records import Kind

_KINDS = {
    _stat.S_IFIFO: Kind.FIFO,
    _stat.S_IFCHR: Kind.CHR,
    _stat.S_IFDIR: Kind.DIR,
    _stat.S_IFBLK: Kind.BLK,
    _stat.S_IFREG: Kind.FILE,
    _stat.S_IFLNK: Kind.LNK,
    _stat.S_IFSOCK: Kind.SOCK,
}
# Attributes that belong to the host or to whoever may see them, not to the tree.
HOST_XATTRS = (
    b"security.selinux",
    b"security.SMACK64*",
    b"security.apparmor",
    b"security.ima",
    b"security.evm",
    b"trusted.*",
    b"user.overlay.*",
    b"btrfs.*",
    b"system.nfs4_acl",
)
_PATH_MAX = 4095


@dataclass(slots=True, eq=False)
class Node:
    """One inode of the tree.

    path     where it was met first, relative to the root; b"" is the root
    status   its lstat
    entries  a directory's (name, node), by name
    ino      its number in the image, 0 until numbered
    """

    path: bytes
    kind: Kind
    status: os.stat_result
    xattrs: Sequence[tuple[bytes, bytes]] = ()
    target: bytes = b""
    entries: list[tuple[bytes, Node]] = field(default_factory=list)
    ino: int = 0


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What of a tree is taken.

    exclude      glob patterns; with a "/" they match a path from the root, without one any name
    xattrs       which attributes are kept, by name
    sort_xattrs  whether they are sorted by name, or kept in the system's order
    """

    exclude: Sequence[bytes] = ()
    xattrs: Callable[[bytes], bool] = lambda name: not matches_any(name, HOST_XATTRS)
    sort_xattrs: bool = True


@dataclass(slots=True)
class Scan:
    """A scanned tree: its directories in visit order, the root first, and what was left out."""

    root: Node
    directories: list[Node]
    notices: list[str]

    def nodes(self) -> Iterator[Node]:
        """Yield every node once, in the order in which a fresh image numbers them."""
        seen = {id(self.root)}
        yield self.root
        for directory in self.directories:
            for _, node in directory.entries:
                if id(node) not in seen:
                    seen.add(id(node))
                    yield node


def matches_any(name: bytes, patterns: Sequence[bytes]) -> bool:
    """Whether `name` matches one of the glob patterns, case and all."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def scan(root: bytes, options: ScanOptions) -> Scan:
    """Read the tree below directory `root` (not its files' contents).

    Raises `UsageError` where `root` is no directory, `SourceError` for what cannot be read.
    """
    return _Scanner(os.path.realpath(root), options).run()


class _Scanner:
    def __init__(self, root: bytes, options: ScanOptions) -> None:
        self.root = root
        self.options = options
        self.mounts = _mount_points_below(root)
        self.links: dict[tuple[int, int], Node] = {}
        self.notices: list[str] = []

    def run(self) -> Scan:
        try:
            status = os.stat(self.root)
        except OSError as error:
            raise SourceError(self.root, error.errno or errno.EIO) from error
        if not _stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{os.fsdecode(self.root)}: not a directory")
        root = Node(b"", Kind.DIR, status, self.read_xattrs(b""))
        directories, pending = [], [root]
        while pending:
            directory = pending.pop()
            directories.append(directory)
            if directory.path not in self.mounts:
                self.visit(directory)
            pending += [node for _, node in reversed(directory.entries) if node.kind == Kind.DIR]
        return Scan(root, directories, self.notices)

    def visit(self, directory: Node) -> None:
        try:
            descriptor = self.open_directory(directory.path)
        except OSError as error:
            raise SourceError(directory.path or b".", error.errno or errno.EIO) from error
        try:
            above = directory.path + b"/" if directory.path else b""
            for name in sorted(map(os.fsencode, os.listdir(descriptor))):
                path = above + name
                if not (self.options.exclude and self.excluded(name, path)):
                    self.add(directory, name, path, descriptor)
        except OSError as error:
            raise SourceError(directory.path or b".", error.errno or errno.EIO) from error
        finally:
            os.close(descriptor)

    def add(self, directory: Node, name: bytes, path: bytes, descriptor: int) -> None:
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            kind = _KINDS[_stat.S_IFMT(status.st_mode)]
            if path in self.mounts:
                self.notices.append(f"{os.fsdecode(path)}: a mount point, not crossed")
                if kind != Kind.DIR:
                    return
            linked = kind != Kind.DIR and status.st_nlink > 1
            node = self.links.get((status.st_dev, status.st_ino)) if linked else None
            if node is None:
                target = os.readlink(name, dir_fd=descriptor) if kind == Kind.LNK else b""
                node = Node(path, kind, status, self.read_xattrs(path), target)
                if linked:
                    self.links[status.st_dev, status.st_ino] = node
        except OSError as error:
            raise SourceError(path, error.errno or errno.EIO) from error
        directory.entries.append((name, node))

    def excluded(self, name: bytes, path: bytes) -> bool:
        return any(
            fnmatch.fnmatchcase(path if b"/" in pattern else name, pattern.strip(b"/"))
            for pattern in self.options.exclude
        )

    def open_directory(self, path: bytes) -> int:
        """Open a directory below the root, in pieces where its path is longer than the system takes."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.root, flags)
        while path:
            piece = path if len(path) < _PATH_MAX else path[: path.rindex(b"/", 0, _PATH_MAX)]
            path = path[len(piece) + 1 :]
            try:
                below = os.open(piece, flags, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def read_xattrs(self, path: bytes) -> Sequence[tuple[bytes, bytes]]:
        full = self.root + b"/" + path if path else self.root
        if len(full) <= _PATH_MAX:
            return self.list_xattrs(full)
        parent, _, name = path.rpartition(b"/")
        descriptor = self.open_directory(parent)
        try:
            return self.list_xattrs(b"/proc/self/fd/%d/%s" % (descriptor, name))
        finally:
            os.close(descriptor)

    def list_xattrs(self, path: bytes) -> Sequence[tuple[bytes, bytes]]:
        try:
            listed = os.listxattr(path, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.ENODATA):
                return ()
            raise
        if not listed:
            return ()
        kept = [name for name in map(os.fsencode, listed) if self.options.xattrs(name)]
        if self.options.sort_xattrs:
            kept.sort()
        return [(name, os.getxattr(path, name, follow_symlinks=False)) for name in kept]


def _mount_points_below(root: bytes) -> set[bytes]:
    """Return the paths, relative to `root`, on which something is mounted."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return set()
    prefix = root.rstrip(b"/") + b"/"
    points = (unescape_mount_path(line.split()[4]) for line in lines)
    return {point[len(prefix) :] for point in points if point.startswith(prefix) and point != prefix}


def unescape_mount_path(path: bytes) -> bytes:
    """Return a path of /proc/self/mountinfo with its octal escapes undone."""
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        path = path.replace(code, character)
    return path
