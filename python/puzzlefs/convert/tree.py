"""The tree that layers give, one applied upon the other, and its numbering.

Entries are applied as the image specification says: whiteouts hide what is below, not what their own
layer brings; parents that are symbolic links are followed, inside the tree; an entry of another kind
replaces what was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from puzzlefs.convert.entries import OPAQUE, WHITEOUT, Entry
from puzzlefs.errors import CorruptImageError, shown
from puzzlefs.records import Kind

_LINK_LIMIT = 40
_IMPLIED = Entry(b"", Kind.DIR, 0o755)
"""A directory that no entry describes, only those below it."""
_NO_CHILDREN: dict[bytes, Node] = {}
"""Shared by all that are no directories, and never changed."""


class Node:
    """One inode of the tree.

    entry     what describes it
    layer     the number of the layer that has its content
    children  a directory's nodes by name, empty for other kinds
    ino       its number in the image, 0 until numbered
    """

    __slots__ = ("children", "entry", "ino", "layer")

    def __init__(self, entry: Entry, layer: int) -> None:
        self.entry = entry
        self.layer = layer
        self.children = {} if self.is_directory else _NO_CHILDREN
        self.ino = 0

    @property
    def is_directory(self) -> bool:
        return self.entry.kind == Kind.DIR


class Tree:
    """The result of the layers applied so far, the lowest first."""

    def __init__(self) -> None:
        self.root = Node(_IMPLIED, 0)
        self._layer = 0
        # Paths of the present layer and their parents: what its own whiteouts do not hide.
        self._upper: set[bytes] = set()

    def apply(self, entries: Iterable[Entry], layer: int, what: str) -> None:
        """Apply a layer's entries in their order. Raises `CorruptImageError`, naming `what` and the entry."""
        self._layer = layer
        self._upper = set()
        for entry in entries:
            try:
                self._apply(entry)
            except _EntryError as error:
                raise CorruptImageError(f"{what}: {shown(entry.path or b'.')}: {error}") from None

    def _apply(self, entry: Entry) -> None:
        if not entry.path:
            if entry.kind != Kind.DIR:
                raise _EntryError("the root can only be a directory")
            self.root.entry = entry
            return
        above, _, name = entry.path.rpartition(b"/")
        trail = self._resolve(above)
        if entry.is_whiteout:
            self._whiteout(trail, name)
            return
        directory = self._directory(trail)
        old = directory.get(name)
        if old and old.is_directory and entry.kind == Kind.DIR:
            old.entry, old.layer = entry, self._layer
        else:
            # A hard link to what it replaces is none.
            directory.pop(name, None)
            directory[name] = self._linked(entry) if entry.kind is None else Node(entry, self._layer)
        self._touch(b"/".join([*trail, name]))

    def _touch(self, path: bytes) -> None:
        while path and path not in self._upper:
            self._upper.add(path)
            path = path.rpartition(b"/")[0]

    def _linked(self, entry: Entry) -> Node:
        above, _, name = entry.target.rpartition(b"/")
        directory = self._find(self._resolve(above))
        node = directory.children.get(name) if directory else None
        if node is None:
            raise _EntryError(f"a hard link to {shown(entry.target or b'.')}, which is not there")
        if node.is_directory:
            raise _EntryError(f"a hard link to {shown(entry.target)}, a directory")
        return node

    def _resolve(self, path: bytes) -> list[bytes]:
        """Return the names that lead to a directory, no symbolic link among them, none leading out."""
        trail: list[bytes] = []
        nodes: list[Node | None] = [self.root]
        pending = path.split(b"/")[::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del trail[-1:], nodes[max(1, len(nodes) - 1) :]
                continue
            above = nodes[-1]
            node = above.children.get(name) if above else None
            if node is None or node.entry.kind != Kind.LNK:
                trail.append(name)
                nodes.append(node)
                continue
            links += 1
            if links > _LINK_LIMIT:
                raise _EntryError("too many symbolic links lead to its directory")
            if node.entry.target.startswith(b"/"):
                del trail[:], nodes[1:]
            pending += node.entry.target.split(b"/")[::-1]
        return trail

    def _find(self, trail: list[bytes]) -> Node | None:
        node: Node | None = self.root
        for name in trail:
            node = node.children.get(name) if node else None
        return node

    def _directory(self, trail: list[bytes]) -> dict[bytes, Node]:
        """Return the children of a directory, made where it is missing or something else."""
        children = self.root.children
        for name in trail:
            node = children.get(name)
            if node is None or not node.is_directory:
                node = children[name] = Node(_IMPLIED, self._layer)
            children = node.children
        return children

    def _whiteout(self, trail: list[bytes], name: bytes) -> None:
        directory = self._find(trail)
        if name == OPAQUE:
            hidden = list(directory.children) if directory else []
        else:
            hidden = [name.removeprefix(WHITEOUT)]
            if hidden[0] in (b"", b".", b".."):
                raise _EntryError("a whiteout of no name")
        pending = [(directory, b"/".join([*trail, name]), name) for name in hidden if directory]
        while pending:
            directory, path, name = pending.pop()
            node = directory.children.get(name)
            if path in self._upper and node:
                pending += [(node, path + b"/" + below, below) for below in node.children]
            else:
                directory.children.pop(name, None)

    def number(self) -> list[Node]:
        """Number the inodes as a build does, and return them ascending: directories depth first, parents
        before children; each directory's entries at once, by name."""
        self.root.ino = 1
        nodes, pending = [self.root], [self.root]
        while pending:
            directory = pending.pop()
            below = []
            for _, node in sorted(directory.children.items()):
                if not node.ino:
                    nodes.append(node)
                    node.ino = len(nodes)
                    if node.is_directory:
                        below.append(node)
            pending += reversed(below)
        return nodes

    def files(self) -> Iterator[Node]:
        """Yield every file with content, once for each of its names."""
        pending = [self.root]
        while pending:
            for node in pending.pop().children.values():
                if node.is_directory:
                    pending.append(node)
                elif node.entry.size:
                    yield node


class _EntryError(Exception):
    """An entry that cannot be applied."""
