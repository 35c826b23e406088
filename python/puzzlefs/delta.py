"""Numbering a tree, alone or against a base, and the vector that turns the base into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from puzzlefs import records
from puzzlefs._native import Index
from puzzlefs.records import Kind
from puzzlefs.scan import Node, Scan
from puzzlefs.tables import Inode, read_inode


@dataclass(slots=True)
class Numbering:
    """What numbering a tree against a base found.

    hidden   for each directory number, the base's names that the tree has not: (name, number)
    unused   numbers that the base shows and the tree does not use, ascending
    """

    hidden: dict[int, list[tuple[bytes, int]]] = field(default_factory=dict)
    unused: list[int] = field(default_factory=list)


class _Numberer:
    def __init__(self, base: Index | None) -> None:
        self.base = base
        self.next = base.highest_ino + 1 if base else 2
        self.used = {1}
        self.numbering = Numbering()

    def run(self, scan: Scan) -> Numbering:
        scan.root.ino = 1
        # The base's directory at each of the tree's directories, 0 where it has none there.
        counterparts = {1: 1 if self.base else 0}
        for directory in scan.directories:
            below = counterparts.pop(directory.ino)
            known = dict(self.base.entries(below, 0, 1 << 32)) if self.base and below else {}
            for name, node in directory.entries:
                there = known.pop(name, 0)
                self.number(node, there)
                if node.kind == Kind.DIR:
                    counterparts[node.ino] = there if self.is_directory(there) else 0
            if known:
                self.numbering.hidden[directory.ino] = sorted(known.items())
        if self.base:
            self.numbering.unused = [ino for ino in self.base.inodes() if ino not in self.used]
        return self.numbering

    def number(self, node: Node, there: int) -> None:
        """Number the entry of a node that the base, if it has the path, calls `there`.

        Every entry that the base has not takes a number, also one more name of a known inode, whose
        number then stays unused: existing images count so.
        """
        number = self.take() if not there or (there in self.used and not node.ino) else there
        if not node.ino:
            node.ino = number
            self.used.add(number)

    def take(self) -> int:
        self.next += 1
        return self.next - 1

    def is_directory(self, ino: int) -> bool:
        return bool(self.base and ino and self.base.stat(ino)[1] == Kind.DIR)


def number(scan: Scan, base: Index | None) -> Numbering:
    """Set every node's `ino`.

    A path that the base has keeps its number, unless that went to another inode of the tree (a hard
    link that was split); anything else gets the next number after the base's highest, from 2 without a base.
    """
    return _Numberer(base).run(scan)


def whiteout(ino: int) -> Inode:
    """Return the inode that hides a number, with the mode that existing images give it."""
    return Inode(ino, Kind.WHT, 0o644)


def changed_inodes(inodes: Iterable[Inode], base: Index, unused: Sequence[int]) -> list[Inode]:
    """Return, ascending, the inodes that the base does not show so already, and a whiteout for each unused one."""
    digests = [digest for digest, _ in records.VERITY.iter_unpack(base.blobs())]
    shown = set(base.inodes())
    changed = [inode for inode in inodes if inode.ino not in shown or read_inode(base, inode.ino, digests) != inode]
    changed += map(whiteout, unused)
    return sorted(changed, key=lambda inode: inode.ino)


def whole_tree(inodes: Sequence[Inode], hidden: dict[int, list[tuple[bytes, int]]]) -> list[Inode]:
    """Return, ascending, every inode and a whiteout for each hidden name, listed before the directory's
    other entries: the original's way to write a delta (docs/format.md, deltas).

    A hidden name whose number lives on under another name needs no whiteout: it is not listed.
    """
    used = {inode.ino for inode in inodes}
    gone = {parent: [(name, ino) for name, ino in names if ino not in used] for parent, names in hidden.items()}
    written = [
        inode._replace(entries=(*gone[inode.ino], *inode.entries)) if inode.ino in gone else inode for inode in inodes
    ]
    written += [whiteout(ino) for ino in {ino for names in gone.values() for _, ino in names}]
    return sorted(written, key=lambda inode: inode.ino)
