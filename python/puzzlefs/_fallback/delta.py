"""Numbers of a tree upon a base, and what of it the base does not show already (docs/format.md, deltas)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from puzzlefs.errors import UnsupportedError
from puzzlefs.records import CHUNK, ENTRY, INODE, XATTR, Kind
from puzzlefs.rows import InodeRecord, Vector

from .index import ROOT, Index
from .tables import inode_records, require, rows, text

_LAST = (1 << 64) - 1
_WHITEOUT_PERMISSIONS = 0o644


@dataclass(slots=True)
class Numbering:
    """The numbers of a tree upon a base.

    numbers  for each number in the tree its number upon the base
    used     the same upon the base
    hidden   for each directory of the tree, the base's names that it has not: (name, number), in order
    """

    numbers: dict[int, int] = field(default_factory=lambda: {ROOT: ROOT})
    used: set[int] = field(default_factory=lambda: {ROOT})
    hidden: dict[int, list[tuple[bytes, int]]] = field(default_factory=dict)

    def applied(self, tree: Vector) -> Vector:
        """Return the tables with these numbers, their rows in the same order."""
        inodes = [inode._replace(ino=self.numbers[inode.ino]) for inode in inode_records(tree)]
        entries = bytearray()
        for ino, *name in ENTRY.iter_unpack(tree.entries):
            require(ino in self.numbers, "an entry names no inode of the tree")
            entries += ENTRY.pack(self.numbers[ino], *name)
        return tree._replace(inodes=packed(inodes), entries=bytes(entries))


class _Numberer:
    def __init__(self, tree: Vector, base: Index) -> None:
        self.tree, self.base = tree, base
        self.inodes = {inode.ino: inode for inode in inode_records(tree)}
        self.last = base.highest_ino
        self.numbering = Numbering()
        # Directories to visit: number in the tree, number in the base or 0.
        self.pending = [(ROOT, ROOT)]

    def run(self) -> Numbering:
        require(ROOT in self.inodes, "an entry names no inode of the tree")
        while self.pending:
            self.visit(*self.pending.pop())
        require(len(self.numbering.numbers) == len(self.inodes), "an inode of the tree is not reached")
        return self.numbering

    def visit(self, directory: int, below: int) -> None:
        known = dict(self.base.entries(below, 0, _LAST)) if below else {}
        found = []
        for name, ino in entries_of(self.tree, self.inodes[directory]):
            require(ino in self.inodes, "an entry names no inode of the tree")
            there = known.pop(name, 0)
            is_new = self.number(ino, there)
            if self.inodes[ino].kind == Kind.DIR:
                require(is_new, "a directory of the tree has two parents")
                is_directory = there and self.base.stat(there)[1] == Kind.DIR
                found.append((ino, there if is_directory else 0))
        self.pending += reversed(found)
        if known:
            self.numbering.hidden[directory] = sorted(known.items())

    def number(self, ino: int, there: int) -> bool:
        """Number the inode of an entry that the base, if it has the path, calls `there`; tell whether it had none.

        Every entry that the base has not takes a number, also one more name of a known inode, whose
        number then stays unused: existing images count so.
        """
        is_new = ino not in self.numbering.numbers
        number = self.take() if not there or (is_new and there in self.numbering.used) else there
        if is_new:
            self.numbering.numbers[ino] = number
            self.numbering.used.add(number)
        return is_new

    def take(self) -> int:
        if self.last == _LAST:
            raise UnsupportedError("the base leaves no inode numbers for new files")
        self.last += 1
        return self.last


def number(tree: Vector, base: Index) -> Numbering:
    """Number a tree in the order in which its directories are visited: depth first."""
    return _Numberer(tree, base).run()


def changed_inodes(tree: Vector, base: Index, numbering: Numbering) -> Vector:
    """Return the tables of a numbered tree with those inodes only that the base does not show just so,
    and a whiteout for each number that the base shows and the tree does not use."""
    changed = [inode for inode in inode_records(tree) if not _is_shown(tree, inode, base)]
    changed += [_whiteout(ino) for ino in base.inodes() if ino not in numbering.used]
    return tree._replace(inodes=packed(sorted(changed)))


def whole_tree(tree: Vector, numbering: Numbering) -> Vector:
    """Return the tables of a numbered tree with a whiteout for each hidden name, listed before its
    directory's other entries: the original's way to write a delta.

    A name whose number lives on under another name needs no whiteout: it is not listed.
    """
    inodes = {inode.ino: inode for inode in inode_records(tree)}
    entries, heap = bytearray(tree.entries), bytearray(tree.heap)
    gone: set[int] = set()
    for directory, names in numbering.hidden.items():
        inode = inodes[numbering.numbers[directory]]
        own = tree.entries[inode.first * ENTRY.size : (inode.first + inode.amount) * ENTRY.size]
        first = len(entries) // ENTRY.size
        for name, ino in names:
            if ino not in numbering.used:
                gone.add(ino)
                entries += ENTRY.pack(ino, len(heap), len(name), 0)
                heap += name
        added = len(entries) // ENTRY.size - first
        if added:
            entries += own
            inodes[inode.ino] = inode._replace(first=first, amount=inode.amount + added)
    ordered = sorted([*inodes.values(), *map(_whiteout, gone)])
    return tree._replace(inodes=packed(ordered), entries=bytes(entries), heap=bytes(heap))


def entries_of(tree: Vector, inode: InodeRecord) -> list[tuple[bytes, int]]:
    """Return the (name, number) of a directory's entries."""
    require((inode.first + inode.amount) * ENTRY.size <= len(tree.entries), "an inode selects rows outside its table")
    found = rows(tree.entries, ENTRY, inode.first, inode.amount)
    return [(text(tree, offset, length), ino) for ino, offset, length, _ in found]


def packed(inodes: Iterable[InodeRecord]) -> bytes:
    """Return rows as a table."""
    return b"".join(INODE.pack(*inode) for inode in inodes)


def _whiteout(ino: int) -> InodeRecord:
    return InodeRecord(ino, Kind.WHT, _WHITEOUT_PERMISSIONS, *[0] * 12)


def _is_shown(tree: Vector, inode: InodeRecord, base: Index) -> bool:
    """Tell whether the base shows an inode with all that the tree says of it."""
    try:
        _, kind, permissions, uid, gid, seconds, nanoseconds, _, _, *device = base.stat(inode.ino)
    except KeyError:
        return False
    shown = kind, permissions, uid, gid, nanoseconds, seconds
    if shown != inode[1:7]:
        return False
    found = rows(tree.xattrs, XATTR, inode.xattr_first, inode.xattr_count)
    if base.xattrs(inode.ino) != [(text(tree, row[0], row[2]), text(tree, row[1], row[3])) for row in found]:
        return False
    if kind in (Kind.CHR, Kind.BLK):
        return device == [inode.first, inode.amount]
    if kind == Kind.LNK:
        return base.symlink(inode.ino) == text(tree, inode.link_offset, inode.link_length)
    if kind == Kind.FILE:
        own = tree.chunks[inode.first * CHUNK.size : (inode.first + inode.amount) * CHUNK.size]
        return base.chunks(inode.ino) == own
    return kind != Kind.DIR or base.entries(inode.ino, 0, _LAST) == entries_of(tree, inode)
