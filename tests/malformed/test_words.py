"""The helper itself: what it makes by default is sound, so that only what a test breaks is broken."""

from __future__ import annotations

from puzzlefs._native import Backend
from tests.malformed.words import DIGEST, Node, additional, chunk, directory, file, image, inode, message, rootfs


def test_sound_messages_are_read(backend: Backend) -> None:
    """A directory, a file, a link and a device, with attributes and a verity entry."""
    root = directory(1, (b"file", 2), (b"link", 3), (b"dev", 4))
    others = [file(2, chunk(), chunk(length=5)), inode(3, 6, None, additional([(b"user.k", b"v")], b"target"))]
    blob = image(root, *others, inode(4, 2, Node([8, 1], [])), verity=[Node([], [DIGEST, DIGEST])])
    index = backend.Index(blob)

    assert [index.stat(ino)[7:] for ino in index.inodes()] == [(0, 2, 0, 0), (6, 1, 0, 0), (6, 1, 0, 0), (0, 1, 8, 1)]
    assert (index.symlink(3), index.xattrs(3)) == (b"target", [(b"user.k", b"v")])
    assert index.blobs() == DIGEST * 2


def test_missing_fields_read_as_zero(backend: Backend) -> None:
    """Structs shorter than the schema, and null pointers, are zeros and empty lists."""
    assert backend.decode_rootfs(message(Node([3], []))) == (3, b"", b"", [])
    assert backend.decode_rootfs(message(rootfs([[]]))) == (3, b"", b"", [(b"",) * 5])
    tables = backend.decode_rootfs(image(Node([1, 3], [])))[3][0]
    assert tables == (tables[0], b"", b"", b"", b"")


def test_longer_structs_are_read(backend: Backend) -> None:
    """Fields that a later version appends are passed over, wherever they are."""
    short = directory(1, (b"file", 2)), file(2, chunk())
    longer = [Node([*node.data, 7, 7], [*node.pointers, b"later"]) for node in short]

    assert backend.decode_rootfs(image(*longer)) == backend.decode_rootfs(image(*short))
