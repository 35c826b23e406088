"""An overlay's upper directory over an image -> the tree that the overlay shows.

What the kernel keeps in an upper directory beside files (overlayfs in its documentation): a name that is
gone is a character device 0:0 or an empty file with the mark `whiteout`; a directory that hides the one
below has the mark `opaque`; one that was renamed names in `redirect` what it was; a file with the mark
`metacopy` has its contents below. Marks are attributes in `trusted.overlay.`, or in `user.overlay.` where
the overlay was mounted by somebody who may not write the former. fuse-overlayfs, which such a user may run,
has its own prefix, and empty files `.wh.NAME` and `.wh..wh..opq` for what its filesystem refuses.
"""

from __future__ import annotations

import errno
import os
import stat as _stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import NamedTuple

from puzzlefs import records
from puzzlefs._native import Index
from puzzlefs.errors import BuildError, SourceError, UsageError, shown
from puzzlefs.records import Kind, Times
from puzzlefs.scan import HOST_XATTRS, MtimeRule
from puzzlefs.tables import Inode, read_inode

TRUSTED, USER = (b"trusted.overlay.",), (b"user.overlay.", b"user.fuseoverlayfs.")
"""How the names of marks begin, in an overlay that root mounted and in one that another user did."""
_WHITEOUT, _OPAQUE = b".wh.", b".wh..wh..opq"
_KINDS = {
    _stat.S_IFIFO: Kind.FIFO,
    _stat.S_IFCHR: Kind.CHR,
    _stat.S_IFDIR: Kind.DIR,
    _stat.S_IFBLK: Kind.BLK,
    _stat.S_IFREG: Kind.FILE,
    _stat.S_IFLNK: Kind.LNK,
    _stat.S_IFSOCK: Kind.SOCK,
}
_PATH_MAX = 4095


class Merged(NamedTuple):
    """What an overlay shows, in the numbering of a fresh image.

    inodes  ascending, each file that lies below with its chunks
    files   (number, path in the upper directory, lstat) of each file whose contents lie there
    """

    inodes: list[Inode]
    files: list[tuple[int, bytes, os.stat_result]]


class _Node:
    """An inode of the merged tree.

    path    where in the upper directory it is, None where it is only below
    status  its lstat there
    lower   the number of the base's inode below it, or, without a path, of itself; 0 for none
    """

    __slots__ = ("entries", "ino", "lower", "marks", "path", "status", "target", "xattrs")

    def __init__(self, path: bytes | None, status: os.stat_result | None, lower: int) -> None:
        self.path = path
        self.status = status
        self.lower = lower
        self.ino = 0
        self.entries: list[tuple[bytes, _Node]] = []
        self.marks: dict[bytes, bytes] = {}
        self.xattrs: tuple[tuple[bytes, bytes], ...] = ()
        self.target = b""


def merge(upper: bytes, base: Index, marks: tuple[bytes, ...], mtime: MtimeRule) -> Merged:
    """Return the tree that an overlay of `upper` over an image shows.

    marks  `TRUSTED` or `USER`
    mtime  what becomes of times in the upper directory
    Raises `SourceError` for what cannot be read, `BuildError` where a mark leads nowhere.
    """
    return _Merger(os.path.realpath(upper), base, marks, mtime).run()


class _Merger:
    def __init__(self, root: bytes, base: Index, marks: tuple[bytes, ...], mtime: MtimeRule) -> None:
        self.root, self.base, self.marks, self.mtime = root, base, marks, mtime
        self.digests = [digest for digest, _ in records.VERITY.iter_unpack(base.blobs())]
        self.below: dict[int, _Node] = {}
        self.links: dict[tuple[int, int], _Node] = {}
        self.nodes: list[_Node] = []

    def run(self) -> Merged:
        try:
            status = os.stat(self.root)
        except OSError as error:
            raise SourceError(self.root, error.errno or errno.EIO) from error
        if not _stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{os.fsdecode(self.root)}: not a directory")
        root = _Node(b"", status, 1)
        self.read_attributes(root, self.root)
        self.number(root)
        pending = [root]
        while pending:
            directory = pending.pop()
            directory.entries = self.entries(directory)
            for _, node in directory.entries:
                self.number(node)
            pending += [node for _, node in reversed(directory.entries) if self.is_directory(node)]
        return self.merged()

    def number(self, node: _Node) -> None:
        if not node.ino:
            self.nodes.append(node)
            node.ino = len(self.nodes)

    def is_directory(self, node: _Node) -> bool:
        if node.status is not None:
            return _stat.S_ISDIR(node.status.st_mode)
        return self.is_lower_directory(node.lower)

    def is_lower_directory(self, ino: int) -> bool:
        return bool(ino) and self.base.stat(ino)[1] == Kind.DIR

    def entries(self, directory: _Node) -> list[tuple[bytes, _Node]]:
        if directory.path is None:
            return sorted(self.entries_below(directory).items())
        with self.opened(directory.path) as descriptor:
            names = {os.fsencode(name) for name in os.listdir(descriptor)}
            if self.marks is USER and _OPAQUE in names:
                directory.lower = 0
            found = self.entries_below(directory)
            below = {name: node.lower for name, node in found.items()}
            for name in sorted(names):
                node = self.node_above(directory, name, descriptor, below)
                if node is not None:
                    found[name] = node
                elif self.marks is USER and name.startswith(_WHITEOUT) and name[len(_WHITEOUT) :] not in names:
                    found.pop(name[len(_WHITEOUT) :], None)
                else:
                    found.pop(name, None)
        return sorted(found.items())

    def entries_below(self, directory: _Node) -> dict[bytes, _Node]:
        if not directory.lower:
            return {}
        return {name: self.node_below(ino) for name, ino in self.base.entries(directory.lower, 0, 1 << 32)}

    def node_below(self, ino: int) -> _Node:
        """Return the node of an inode of the base; of a directory, which has one place, always a new one."""
        if self.is_lower_directory(ino):
            return _Node(None, None, ino)
        return self.below.setdefault(ino, _Node(None, None, ino))

    def node_above(self, directory: _Node, name: bytes, descriptor: int, below: dict[bytes, int]) -> _Node | None:
        """Return the node of a name in the upper directory, None where it is a whiteout."""
        path = directory.path + b"/" + name if directory.path else name
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if _stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                return None
            linked = not _stat.S_ISDIR(status.st_mode) and status.st_nlink > 1
            key = (status.st_dev, status.st_ino)
            if linked and key in self.links:
                return self.links[key]
            node = _Node(path, status, 0)
            self.read_attributes(node, b"/proc/self/fd/%d/%s" % (descriptor, name))
            if _stat.S_ISLNK(status.st_mode):
                node.target = os.readlink(name, dir_fd=descriptor)
        except OSError as error:
            raise SourceError(path, error.errno or errno.EIO) from error
        named = self.marks is USER and name.startswith(_WHITEOUT)
        if (named or b"whiteout" in node.marks) and _stat.S_ISREG(status.st_mode) and status.st_size == 0:
            return None
        node.lower = self.lower_of(node, directory, below.get(name, 0))
        if linked:
            self.links[key] = node
        return node

    def lower_of(self, node: _Node, directory: _Node, there: int) -> int:
        """Return the base's inode that goes on below an upper one: a directory's, or that with a file's contents."""
        if self.is_directory(node):
            if node.marks.get(b"opaque") == b"y":
                return 0
            if b"redirect" in node.marks:
                there = self.redirected(node, directory)
            return there if self.is_lower_directory(there) else 0
        if b"metacopy" not in node.marks:
            return 0
        if b"redirect" in node.marks:
            there = self.redirected(node, directory)
        if not there or self.base.stat(there)[1] != Kind.FILE:
            raise BuildError(f"{shown(node.path or b'')}: the file below that has its contents (metacopy) is not there")
        return there

    def redirected(self, node: _Node, directory: _Node) -> int:
        """Return what a redirect leads to: from the root, or a name in the directory below the parent."""
        mark = node.marks[b"redirect"]
        ino = 1 if mark.startswith(b"/") else directory.lower
        for name in filter(None, mark.split(b"/")):
            ino = self.base.lookup(ino, name) if self.is_lower_directory(ino) else 0
        if not ino:
            raise BuildError(f"{shown(node.path or b'')}: {shown(mark)}, which it was renamed from, is not in the base")
        return ino

    def read_attributes(self, node: _Node, path: bytes) -> None:
        kept = []
        try:
            names = sorted(map(os.fsencode, os.listxattr(path, follow_symlinks=False)))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENODATA):
                raise
            return
        for name in names:
            prefix = next((prefix for prefix in self.marks if name.startswith(prefix)), None)
            if prefix is not None:
                node.marks[name[len(prefix) :]] = os.getxattr(path, name, follow_symlinks=False)
            elif not any(fnmatchcase(name, pattern) for pattern in HOST_XATTRS):
                kept.append((name, os.getxattr(path, name, follow_symlinks=False)))
        node.xattrs = tuple(kept)

    @contextmanager
    def opened(self, path: bytes) -> Iterator[int]:
        """Open a directory below the root, in pieces where its path is longer than the system takes."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        rest = path
        try:
            descriptor = os.open(self.root, flags)
            while rest:
                piece = rest if len(rest) < _PATH_MAX else rest[: rest.rindex(b"/", 0, _PATH_MAX)]
                rest = rest[len(piece) + 1 :]
                above = descriptor
                try:
                    descriptor = os.open(piece, flags, dir_fd=above)
                finally:
                    os.close(above)
        except OSError as error:
            raise SourceError(path or b".", error.errno or errno.EIO) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def merged(self) -> Merged:
        inodes = [self.described(node) for node in self.nodes]
        files = [
            (node.ino, node.path, node.status)
            for node, inode in zip(self.nodes, inodes, strict=True)
            if node.path is not None and node.status is not None and inode.kind == Kind.FILE and not node.lower
        ]
        return Merged(inodes, files)

    def described(self, node: _Node) -> Inode:
        entries: Sequence[tuple[bytes, int]] = [(name, child.ino) for name, child in node.entries]
        below = read_inode(self.base, node.lower, self.digests) if node.lower else None
        if node.status is None and below is not None:
            return below._replace(ino=node.ino, entries=tuple(entries))
        status = node.status
        assert status is not None, "a node is above, or below, or both"
        kind = _KINDS[_stat.S_IFMT(status.st_mode)]
        is_device = kind in (Kind.CHR, Kind.BLK)
        return Inode(
            node.ino,
            kind,
            status.st_mode & 0o7777,
            status.st_uid,
            status.st_gid,
            self.time(status.st_mtime_ns),
            (os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
            tuple(entries),
            below.chunks if below is not None and kind == Kind.FILE else (),
            node.xattrs,
            node.target,
        )

    def time(self, nanoseconds: int) -> tuple[int, int]:
        fixed = (self.mtime.seconds, 0)
        if self.mtime.kind == Times.EXACTLY:
            return fixed
        found = divmod(nanoseconds, 1_000_000_000)
        return min(found, fixed) if self.mtime.kind == Times.AT_MOST else found
