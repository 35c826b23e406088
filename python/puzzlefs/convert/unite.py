"""Layers -> one tree and the contents of its files, each layer read once, the uppermost first.

What a layer above hides is passed by. Names alone do not always tell: a hard link may keep what its
first name lost, a symbolic link below may lead elsewhere. So the tree is made from the entries in the
end, and a layer whose contents turn out to be wanted is read again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from puzzlefs.convert.contents import ContentWriter
from puzzlefs.convert.entries import OPAQUE, WHITEOUT, Entry, LayerReader
from puzzlefs.convert.layer import LayerStream
from puzzlefs.convert.tree import Tree
from puzzlefs.errors import CorruptImageError
from puzzlefs.records import Kind

ABSENT = -1
"""In place of a number: the content is not in the stream."""


class Layer(NamedTuple):
    """A layer as its image describes it.

    what     how errors call it
    open     opens it for one reading
    diff_id  digest of its uncompressed bytes (`sha256:HEX`), None where nothing promises one
    size     bytes stored, 0 where nobody knows
    """

    what: str
    open: Callable[[], AbstractContextManager[LayerStream]]
    diff_id: str | None
    size: int


class United(NamedTuple):
    """The tree of all layers.

    places  for each layer and each number of its entries, the number of the content's file in the stream, or `ABSENT`
    """

    tree: Tree
    places: list[array[int]]


def unite(layers: Sequence[Layer], writer: ContentWriter, report: Callable[[int], None]) -> United:
    """Read layers, given lowest first, and add the contents of the files that they show to `writer`.

    `report` is told, entry by entry, how many bytes of the layers were read as they are stored.
    """
    above = _Above()
    listed: list[list[Entry]] = [[] for _ in layers]
    places = [array("q") for _ in layers]
    for number in reversed(range(len(layers))):
        before = sum(layer.size for layer in layers[number + 1 :])
        for entry, reader in _entries(layers[number]):
            report(before + reader.stored_size)
            listed[number].append(entry)
            if entry.size:
                shown = not entry.is_whiteout and not above.hides(entry.path)
                places[number].append(writer.add(entry.size, reader.content()) if shown else ABSENT)
        if number:
            above.add(listed[number])
    tree = Tree()
    for number, layer in enumerate(layers):
        tree.apply(listed[number], number, layer.what)
        listed[number] = []
    _add_missing(layers, tree, places, writer)
    return United(tree, places)


def _entries(layer: Layer) -> Iterable[tuple[Entry, LayerReader]]:
    """Read a whole layer; in the end its digests must be those promised."""
    with layer.open() as stream:
        reader = LayerReader(stream)
        for entry in reader:
            yield entry, reader
        found = stream.finish()
        if layer.diff_id not in (None, found):
            raise CorruptImageError(f"{layer.what}: unpacked, its digest is {found}, not {layer.diff_id}")


def _add_missing(layers: Sequence[Layer], tree: Tree, places: list[array[int]], writer: ContentWriter) -> None:
    wanted: dict[int, set[int]] = {}
    for node in tree.files():
        if places[node.layer][node.entry.number] == ABSENT:
            wanted.setdefault(node.layer, set()).add(node.entry.number)
    for number in sorted(wanted, reverse=True):
        for entry, reader in _entries(layers[number]):
            if entry.number in wanted[number]:
                places[number][entry.number] = writer.add(entry.size, reader.content())


class _Above:
    """What the names of the layers above hide, as far as names tell."""

    def __init__(self) -> None:
        self._replaced: set[bytes] = set()
        self._closed: set[bytes] = set()
        self._linked: set[bytes] = set()

    def add(self, entries: Iterable[Entry]) -> None:
        """Note what a layer hides of those below it."""
        for entry in entries:
            above, _, name = entry.path.rpartition(b"/")
            if name == OPAQUE:
                self._closed.add(above)
                continue
            path = entry.path
            if entry.is_whiteout:
                path = (above + b"/" if above else b"") + name.removeprefix(WHITEOUT)
            elif entry.kind is None:
                self._linked.add(entry.target)
            self._replaced.add(path)
            if entry.kind != Kind.DIR:
                self._closed.add(path)

    def hides(self, path: bytes) -> bool:
        """Tell whether a file of this name below is not seen, nor linked to from above."""
        if path in self._linked:
            return False
        if path in self._replaced:
            return True
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._closed:
                return True
        return False
