"""docs/format.md, section 9, The tree: each rule with an image that breaks it and no other."""

from __future__ import annotations

import pytest

from puzzlefs._native import Backend
from puzzlefs.errors import CorruptImageError
from tests.malformed.words import U64, Node, directory, image, inode, message, rootfs

FIFO, SOCK, WHT = 1, 7, 8


def layered(*layers: list[Node]) -> bytes:
    return message(rootfs(list(layers)))


BROKEN = {
    "no root directory": [
        message(rootfs()),
        image(),
        image(directory(2)),
        image(inode(1, SOCK)),
        image(inode(1, WHT)),
        layered([inode(1, WHT)], [directory(1)]),
        layered([inode(1, FIFO)], [directory(1)]),
    ],
    "entry of a missing inode": [
        image(directory(1, (b"a", 2))),
        image(directory(1, (b"a", 0))),
        image(directory(1, (b"a", U64))),
        image(directory(1, (b"a", 2)), directory(2, (b"b", 3))),
        image(directory(1, (b"same", 2), (b"same", 2), (b"c", 9)), inode(2, SOCK)),
    ],
    "directory with two parents": [
        image(directory(1, (b"a", 1))),
        image(directory(1, (b"a", 2), (b"b", 2)), directory(2)),
        image(directory(1, (b"a", 2), (b"a", 2)), directory(2)),
        image(directory(1, (b"a", 2)), directory(2, (b"up", 1))),
        image(directory(1, (b"a", 2)), directory(2, (b"self", 2))),
        image(directory(1, (b"a", 2), (b"b", 3)), directory(2, (b"c", 3)), directory(3, (b"d", 2))),
        image(directory(1, (b"a", 2)), directory(2, (b"up", 1), (b"missing", 9))),
    ],
    "duplicate name": [
        image(directory(1, (b"a", 2), (b"a", 2)), inode(2, SOCK)),
        image(directory(1, (b"a", 2), (b"b", 3), (b"a", 4)), inode(2, SOCK), inode(3, SOCK), directory(4)),
        image(directory(1, (b"d", 2)), directory(2, (b"a", 3), (b"a", 3)), inode(3, SOCK)),
    ],
}
CASES = [(text, blob) for text, blobs in BROKEN.items() for blob in blobs]


@pytest.mark.parametrize(("text", "blob"), CASES, ids=[text for text, _ in CASES])
def test_what_is_no_tree_is_refused(backend: Backend, text: str, blob: bytes) -> None:
    """By the index alone: as tables the layers are sound."""
    with pytest.raises(CorruptImageError) as caught:
        backend.Index(blob)
    assert str(caught.value) == f"rootfs: {text}"
    assert backend.decode_rootfs(blob)[0] == 3


def names(backend: Backend, blob: bytes, ino: int = 1) -> list[bytes]:
    """Return the names in a directory."""
    return [name for name, _ in backend.Index(blob).entries(ino, 0, 100)]


def test_a_hidden_name_may_stand_twice(backend: Backend) -> None:
    """Entries of hidden numbers are left out, whatever their names."""
    blob = layered([directory(1, (b"a", 2), (b"a", 3), (b"a", 3)), inode(3, WHT)], [inode(2, SOCK), inode(3, SOCK)])

    assert names(backend, blob) == [b"a"]


def test_a_hidden_directory_has_no_parents(backend: Backend) -> None:
    """A directory under a whiteout may stand anywhere, and nothing in it is looked at."""
    below = [directory(2, (b"missing", 77))]
    blob = layered([directory(1, (b"a", 2), (b"b", 2), (b"c", 3)), inode(2, WHT), directory(3, (b"d", 2))], below)

    assert (names(backend, blob), names(backend, blob, 3)) == ([b"c"], [])


def test_what_is_not_reached_is_not_looked_at(backend: Backend) -> None:
    """A directory that no entry leads to may break the tree's rules."""
    blob = image(directory(1), directory(2, (b"up", 1), (b"missing", 9), (b"self", 2)))

    assert backend.Index(blob).inodes() == [1]


def test_a_file_may_have_many_names(backend: Backend) -> None:
    """Hard links are no second parent."""
    blob = image(directory(1, (b"a", 2), (b"b", 2), (b"d", 3)), inode(2, SOCK), directory(3, (b"a", 2)))

    assert backend.Index(blob).stat(2)[8] == 3


def test_deep_trees_need_no_deep_stack(backend: Backend) -> None:
    """Twenty thousand directories in one another."""
    depth = 20_000
    chain = [directory(ino, (b"d", ino + 1)) for ino in range(1, depth)]

    assert backend.Index(image(*chain, directory(depth))).inode_count == depth
