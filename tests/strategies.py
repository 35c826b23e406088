"""What property tests draw: byte streams, images as tables, and images that form a tree.

An image is drawn as a model (layers of `Node`) and turned into tables by `pack`, which numbers rows
and heap offsets in the order in which a reader comes upon them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import shake_256
from typing import Any

from hypothesis import strategies as st

from puzzlefs.records import CHUNK, COMPRESSED, ENTRY, HAS_ADDITIONAL, INODE, VERITY, XATTR, Kind
from puzzlefs.rows import Vector

U64 = (1 << 64) - 1


# Byte streams. Contents come from a seed: what matters is their size and how compressible they are.


def noise(seed: int, size: int) -> bytes:
    """Return `size` incompressible bytes."""
    return shake_256(seed.to_bytes(8, "little")).digest(size)


def repeated(seed: int, size: int) -> bytes:
    """Return `size` bytes of a short pattern."""
    pattern = noise(seed, 1 + seed % 97)
    return (pattern * (size // len(pattern) + 1))[:size]


def holes(seed: int, size: int) -> bytes:
    """Return `size` bytes, zeros but for some noise in the middle."""
    content = bytearray(size)
    middle = noise(seed, min(size, 5000))
    content[size // 2 : size // 2 + len(middle)] = middle
    return bytes(content[:size])


def streams(max_size: int = 600_000) -> st.SearchStrategy[bytes]:
    """Draw byte streams of all kinds; shrinking makes them shorter."""
    maker = st.sampled_from([repeated, holes, noise])
    seeds, sizes = st.integers(0, 1 << 32), st.integers(0, max_size)
    generated = st.builds(lambda make, seed, size: make(seed, size), maker, seeds, sizes)
    return st.one_of(st.binary(max_size=200), generated)


# Images.


@dataclass(frozen=True)
class Node:
    """An inode of one layer."""

    ino: int
    kind: int
    permissions: int = 0o755
    owner: tuple[int, int] = (0, 0)
    mtime: tuple[int, int] = (0, 0)
    device: tuple[int, int] = (0, 0)
    entries: list[tuple[bytes, int]] = field(default_factory=list)
    chunks: list[tuple[bytes, int, int, int]] = field(default_factory=list)
    """(digest, flags, offset, length)"""
    xattrs: list[tuple[bytes, bytes]] = field(default_factory=list)
    link: bytes = b""
    additional: bool = False


@dataclass(frozen=True)
class Image:
    """Layers, uppermost first, and (digest, fs-verity digest) rows."""

    layers: list[list[Node]]
    verity: list[tuple[bytes, bytes]] = field(default_factory=list)


Tables = tuple[bytes, bytes, list[Vector]]


def pack(image: Image) -> Tables:
    """Return (digest table, verity table, vectors)."""
    digests: dict[bytes, int] = {}
    vectors = [_Packer(digests).vector(layer) for layer in image.layers]
    return b"".join(digests), b"".join(VERITY.pack(*row) for row in image.verity), vectors


class _Packer:
    def __init__(self, digests: dict[bytes, int]) -> None:
        self.digests = digests
        self.tables = [bytearray() for _ in range(4)]
        self.heap = bytearray()

    def vector(self, layer: list[Node]) -> Vector:
        for node in layer:
            self.tables[0] += self.inode(node)
        inodes, entries, chunks, xattrs = map(bytes, self.tables)
        return Vector(inodes, entries, chunks, xattrs, bytes(self.heap))

    def keep(self, text: bytes) -> int:
        self.heap += text
        return len(self.heap) - len(text)

    def inode(self, node: Node) -> bytes:
        first, count = self.mode(node)
        xattr_first = len(self.tables[3]) // XATTR.size
        for key, value in node.xattrs:
            self.tables[3] += XATTR.pack(self.keep(key), self.keep(value), len(key), len(value))
        flags = HAS_ADDITIONAL if node.additional or node.xattrs or node.link else 0
        extended = xattr_first, len(node.xattrs), flags, self.keep(node.link), len(node.link)
        seconds, nanoseconds = node.mtime
        return INODE.pack(
            node.ino, node.kind, node.permissions, *node.owner, nanoseconds, seconds, first, count, *extended, 0
        )

    def mode(self, node: Node) -> tuple[int, int]:
        if node.kind in (Kind.CHR, Kind.BLK):
            return node.device
        if node.kind == Kind.DIR:
            first = len(self.tables[1]) // ENTRY.size
            for name, ino in node.entries:
                self.tables[1] += ENTRY.pack(ino, self.keep(name), len(name), 0)
            return first, len(node.entries)
        if node.kind == Kind.FILE:
            first = len(self.tables[2]) // CHUNK.size
            for digest, flags, offset, length in node.chunks:
                row = self.digests.setdefault(digest, len(self.digests))
                self.tables[2] += CHUNK.pack(row, flags, offset, length)
            return first, len(node.chunks)
        return 0, 0


names = st.binary(min_size=1, max_size=255).filter(lambda name: name not in (b".", b"..") and not {0, 47} & set(name))
short_names = names.map(lambda name: name[:6]).filter(lambda name: name not in (b".", b".."))
digests = st.integers(0, 5).map(lambda seed: noise(seed, 32))
sizes = st.one_of(st.integers(0, 300_000), st.integers(0, (1 << 63) - 1))
keys = st.binary(min_size=1, max_size=255).filter(lambda key: 0 not in key)
values = st.one_of(st.binary(max_size=300), st.integers(0, 65536).map(lambda size: repeated(size, size)))
targets = st.binary(min_size=1, max_size=300).filter(lambda target: 0 not in target)
chunks = st.tuples(digests, st.sampled_from([0, COMPRESSED]), sizes, sizes).filter(
    lambda row: row[2] + row[3] < 1 << 63
)
verity_rows = st.lists(st.tuples(digests, st.binary(min_size=32, max_size=32)), max_size=4)
times = st.one_of(st.just((0, 0)), st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 999_999_999)))


def _files(rows: list[tuple[bytes, int, int, int]]) -> bool:
    return sum(row[3] for row in rows) < 1 << 63


def nodes(ino: int, kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[Node]:
    """Draw an inode of a number, without entries."""
    return kinds.flatmap(lambda kind: _node(ino, kind))


def _node(ino: int, kind: Kind) -> st.SearchStrategy[Node]:
    extra: dict[str, st.SearchStrategy[Any]] = {}
    if kind in (Kind.CHR, Kind.BLK):
        extra["device"] = st.tuples(st.integers(0, U64), st.integers(0, U64))
    if kind == Kind.FILE:
        extra["chunks"] = st.lists(chunks, max_size=5).filter(_files)
    if kind == Kind.LNK:
        extra["link"] = targets
    return st.builds(
        Node,
        ino=st.just(ino),
        kind=st.just(int(kind)),
        permissions=st.integers(0, 0o7777),
        owner=st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)),
        mtime=times,
        xattrs=st.lists(st.tuples(keys, values), max_size=2),
        additional=st.booleans(),
        **extra,
    )


any_kind = st.sampled_from([kind for kind in Kind if kind != Kind.UNKNOWN])


@st.composite
def layers(draw: st.DrawFn) -> list[Node]:
    """Draw a layer whose directories name anything."""
    numbers = sorted(draw(st.sets(st.integers(1, 12), max_size=8)))
    layer = []
    for ino in numbers:
        node = draw(nodes(ino, any_kind))
        if node.kind == Kind.DIR:
            node = replace(node, entries=draw(st.lists(st.tuples(names, st.integers(0, 14)), max_size=6)))
        layer.append(node)
    return layer


def images() -> st.SearchStrategy[Image]:
    """Draw images that obey the rules for values; few of them form a tree."""
    return st.builds(Image, st.lists(layers(), max_size=3), verity_rows)


@dataclass(frozen=True)
class Tree:
    """An image that forms a tree, and what it looks like merged."""

    image: Image
    nodes: dict[int, Node]
    """What the root reaches; entries are the visible ones, by name."""
    parents: dict[int, int]


def _spread(draw: st.DrawFn, found: dict[int, Node], hidden: set[int]) -> list[list[Node]]:
    """Put each node into one of three layers, and something else of its number into some below it."""
    layers: list[dict[int, Node]] = [{}, {}, {}]
    for ino in sorted(found.keys() | hidden):
        top = draw(st.integers(0, 2))
        layers[top][ino] = found.get(ino, Node(ino, Kind.WHT))
        for below in range(top + 1, 3):
            if draw(st.booleans()):
                layers[below][ino] = draw(nodes(ino, any_kind))
    return [[layer[ino] for ino in sorted(layer)] for layer in layers]


def _place(draw: st.DrawFn, entries: dict[int, dict[bytes, int]], ino: int) -> int:
    """Give an inode a name in some directory; return the directory."""
    parent = draw(st.sampled_from(sorted(entries)))
    name = draw(short_names.filter(lambda name: name not in entries[parent]))
    entries[parent][name] = ino
    return parent


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Draw an image with hard links, whiteouts, unreachable inodes and layers that hide each other."""
    entries: dict[int, dict[bytes, int]] = {1: {}}
    parents = {1: 1}
    found = {1: draw(nodes(1, st.just(Kind.DIR)))}
    visible = any_kind.filter(lambda kind: kind != Kind.WHT)
    for ino in range(2, draw(st.integers(2, 10))):
        found[ino] = draw(nodes(ino, visible))
        parent = _place(draw, entries, ino)
        if found[ino].kind == Kind.DIR:
            entries[ino], parents[ino] = {}, parent
        elif draw(st.booleans()):
            _place(draw, entries, ino)
    merged = {ino: replace(node, entries=sorted(entries.get(ino, {}).items())) for ino, node in found.items()}
    hidden = draw(st.sets(st.integers(20, 22)))
    for ino in hidden:
        _place(draw, entries, ino)
    found[30] = draw(nodes(30, any_kind))
    stored = {
        ino: replace(node, entries=draw(st.permutations(list(entries.get(ino, {}).items()))))
        for ino, node in found.items()
    }
    return Tree(Image(_spread(draw, stored, hidden), draw(verity_rows)), merged, parents)


# Damage.


@st.composite
def damaged(draw: st.DrawFn, blob: bytes) -> bytes:
    """Draw what is left of a blob after a few changes: bits, whole words, swapped words, a cut."""
    changed = bytearray(blob)
    for _ in range(draw(st.integers(1, 3))):
        if not changed:
            break
        change = draw(st.sampled_from([_flip, _set_word, _swap_words, _cut]))
        change(draw, changed)
    return bytes(changed)


def _word(draw: st.DrawFn, blob: bytearray) -> slice:
    start = 8 * draw(st.integers(0, max(0, len(blob) // 8 - 1)))
    return slice(start, start + 8)


def _flip(draw: st.DrawFn, blob: bytearray) -> None:
    blob[draw(st.integers(0, len(blob) - 1))] ^= 1 << draw(st.integers(0, 7))


def _set_word(draw: st.DrawFn, blob: bytearray) -> None:
    where = _word(draw, blob)
    number = draw(st.one_of(st.integers(0, U64), st.integers(0, 1000), st.just(U64)))
    blob[where] = number.to_bytes(8, "little")[: len(blob[where])]


def _swap_words(draw: st.DrawFn, blob: bytearray) -> None:
    one, other = _word(draw, blob), _word(draw, blob)
    if len(blob[one]) == len(blob[other]):
        blob[one], blob[other] = blob[other], blob[one]


def _cut(draw: st.DrawFn, blob: bytearray) -> None:
    del blob[draw(st.integers(0, len(blob))) :]
