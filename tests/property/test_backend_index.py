"""The merged tree of a random image is what its model says, in both backends."""

from __future__ import annotations

from hypothesis import given

from puzzlefs._native import Index
from puzzlefs.records import CHUNK, COMPRESSED, VERITY, Kind
from tests.conftest import Backends
from tests.parity.test_index import facts
from tests.strategies import Node, Tree, pack, trees


def expected_stat(tree: Tree, node: Node) -> tuple[int, ...]:
    """Return what `stat` must say of an inode."""
    if node.kind == Kind.DIR:
        links = 2 + sum(tree.nodes[ino].kind == Kind.DIR for _, ino in node.entries)
    else:
        links = sum(ino == node.ino for above in tree.nodes.values() for _, ino in above.entries)
    size = len(node.link) if node.kind == Kind.LNK else sum(row[3] for row in node.chunks)
    return (node.ino, node.kind, node.permissions, *node.owner, *node.mtime, size, links, *node.device)


def check_node(index: Index, tree: Tree, node: Node) -> None:
    """Compare everything that an index says of one inode with the model."""
    blobs = [digest for digest, _ in VERITY.iter_unpack(index.blobs())]
    rows = [(blobs[row], flags & COMPRESSED, *rest) for row, flags, *rest in CHUNK.iter_unpack(index.chunks(node.ino))]

    assert index.stat(node.ino) == expected_stat(tree, node)
    assert index.xattrs(node.ino) == node.xattrs
    assert index.symlink(node.ino) == node.link
    assert rows == node.chunks
    if node.kind == Kind.DIR:
        assert index.entries(node.ino, 0, 100) == node.entries
        assert index.entries(node.ino, 1, 2) == node.entries[1:3]
        assert index.parent(node.ino) == tree.parents[node.ino]
        assert [index.lookup(node.ino, name) for name, _ in node.entries] == [ino for _, ino in node.entries]
        assert index.lookup(node.ino, b"no such name") == 0


@given(tree=trees())
def test_a_tree_is_what_its_model_says(backends: Backends, tree: Tree) -> None:
    """Layers, whiteouts, hard links and unreachable inodes come out as one tree, alike in both."""
    blob = backends.python.encode_rootfs(*pack(tree.image))
    rust, python = [backend.Index(blob) for backend in backends]

    assert list(facts(rust)) == list(facts(python))
    assert python.inodes() == sorted(tree.nodes)
    assert python.highest_ino == max(node.ino for layer in tree.image.layers for node in layer)
    assert python.has_xattrs == any(node.xattrs for node in tree.nodes.values())
    for node in tree.nodes.values():
        check_node(python, tree, node)
