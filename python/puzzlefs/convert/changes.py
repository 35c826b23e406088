"""What a layer says: the entries that turn one tree into another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from puzzlefs import records
from puzzlefs._native import Index
from puzzlefs.convert.entries import WHITEOUT, Entry
from puzzlefs.errors import UnsupportedError, shown
from puzzlefs.records import Kind
from puzzlefs.tables import Inode, read_inode

_NANO = 1_000_000_000


class Change(NamedTuple):
    """An entry of a layer, and the inode of the upper tree that has its content (0: none)."""

    entry: Entry
    ino: int


class TreeView:
    """An image's tree, by path and with its hard links."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._digests = [digest for digest, _ in records.VERITY.iter_unpack(index.blobs())]
        self.links: dict[int, list[bytes]] = {}
        pending = [(b"", 1)]
        while pending:
            above, directory = pending.pop()
            for name, ino in self.entries(directory):
                path = above + b"/" + name if above else name
                _, kind, *_, nlink, _, _ = index.stat(ino)
                if kind == Kind.DIR:
                    pending.append((path, ino))
                elif nlink > 1:
                    self.links.setdefault(ino, []).append(path)

    def describe(self, ino: int) -> Inode:
        """Return what is said of an inode, but for its number and a directory's entries."""
        return read_inode(self.index, ino, self._digests)._replace(ino=0, entries=())

    def entries(self, ino: int) -> list[tuple[bytes, int]]:
        """Return a directory's entries by name, none for 0."""
        return self.index.entries(ino, 0, 1 << 32) if ino else []

    def is_directory(self, ino: int) -> bool:
        """Tell whether a number, perhaps 0, is that of a directory."""
        return bool(ino) and self.index.stat(ino)[1] == Kind.DIR

    def find(self, path: bytes) -> int:
        """Return the inode number of a path, 0 where there is nothing."""
        ino = 1
        for name in path.split(b"/"):
            ino = self.index.lookup(ino, name) if self.is_directory(ino) else 0
        return ino


class _Frame:
    """A directory that is being compared."""

    def __init__(self, path: bytes, upper: int, entries: list[tuple[bytes, int]], lower: dict[bytes, int]) -> None:
        self.path = path
        self.upper = upper
        self.entries = iter(entries)
        self.lower = lower
        self.told = False


class _Comparison:
    def __init__(self, lower: TreeView | None, upper: TreeView) -> None:
        self.lower, self.upper = lower, upper
        self.frames: list[_Frame] = []
        self.first: dict[int, bytes] = {}
        self.verdicts: dict[int, bool] = {}

    def run(self) -> Iterator[Change]:
        yield from self.enter(b"", 1, 1 if self.lower else 0)
        while self.frames:
            frame = self.frames[-1]
            name, ino = next(frame.entries, (b"", 0))
            if not ino:
                self.frames.pop()
                continue
            path = frame.path + b"/" + name if frame.path else name
            if name.startswith(WHITEOUT):
                raise UnsupportedError(f"{shown(path)}: a layer cannot hold a file of such a name")
            there = frame.lower.get(name, 0)
            if self.upper.is_directory(ino):
                yield from self.enter(path, ino, there)
            elif self.changed(path, ino, there):
                yield from self.tell_parents()
                yield self.file(path, ino)

    def enter(self, path: bytes, ino: int, there: int) -> Iterator[Change]:
        """Begin a directory: itself where it is new or other than below, and what of below is hidden."""
        known = self.lower is not None and self.lower.is_directory(there)
        below = dict(self.lower.entries(there)) if self.lower and known else {}
        entries = self.upper.entries(ino)
        self.frames.append(_Frame(path, ino, entries, below))
        names = {name for name, _ in entries}
        gone = [name for name in below if name not in names]
        if gone or not known or not self.lower or self.lower.describe(there) != self.upper.describe(ino):
            yield from self.tell_parents()
        for name in gone:
            hidden = (path + b"/" if path else b"") + WHITEOUT + name
            yield Change(Entry(hidden, Kind.FILE, 0o644), 0)

    def tell_parents(self) -> Iterator[Change]:
        """Tell of the directories that lead here: some readers take a layer for itself."""
        for frame in self.frames:
            if not frame.told:
                frame.told = True
                yield Change(_entry(frame.path, self.upper.describe(frame.upper), 0), frame.upper)

    def file(self, path: bytes, ino: int) -> Change:
        first = self.first.setdefault(ino, path)
        if first != path:
            return Change(Entry(path, None, target=first), ino)
        return Change(_entry(path, self.upper.describe(ino), self.upper.index.stat(ino)[7]), ino)

    def changed(self, path: bytes, ino: int, there: int) -> bool:
        """Tell whether a path has another inode than below, by what it says and by its other names."""
        names = self.upper.links.get(ino)
        if names is None:
            return self.differs([path], ino, there)
        if ino not in self.verdicts:
            self.verdicts[ino] = self.differs(names, ino, there)
        return self.verdicts[ino]

    def differs(self, names: list[bytes], ino: int, there: int) -> bool:
        if not self.lower or not there or self.lower.is_directory(there):
            return True
        below = self.lower.links.get(there)
        if below is not None or len(names) > 1:
            if any(self.lower.find(name) != there for name in names):
                return True
            # One of its names that is another inode now: they must not stay linked.
            others = set(below or ()).difference(names)
            if any(self.upper.find(name) and not self.upper.is_directory(self.upper.find(name)) for name in others):
                return True
        return self.lower.describe(there) != self.upper.describe(ino)


def changes(lower: TreeView | None, upper: TreeView) -> Iterator[Change]:
    """Yield the entries of the layer that turns `lower` (None: nothing) into `upper`.

    Depth first by name, parents before children, whiteouts first, hard links after the first of their
    names. Raises `UnsupportedError` for a name that a layer cannot hold.
    """
    return _Comparison(lower, upper).run()


def _entry(path: bytes, inode: Inode, size: int) -> Entry:
    seconds, nanoseconds = inode.mtime
    return Entry(
        path,
        inode.kind,
        inode.permissions,
        inode.uid,
        inode.gid,
        seconds * _NANO + nanoseconds,
        inode.device,
        inode.xattrs,
        inode.target,
        size if inode.kind == Kind.FILE else 0,
    )
