"""Maps of owners: both backends show the same users, groups, access control lists and capabilities."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from puzzlefs._native import Range
from puzzlefs.errors import UsageError
from puzzlefs.owners import Owners, parse_range
from puzzlefs.records import Kind
from puzzlefs.tables import Inode
from tests.conftest import Backends
from tests.images import craft, directory

ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, 7, number) for tag, number in ((1, 0xFFFFFFFF), (2, 5), (8, 5), (32, 0xFFFFFFFF))
)
CAPABILITY_2 = struct.pack("<I", 0x02000001) + bytes(range(16))
CAPABILITY_3 = struct.pack("<I", 0x03000001) + bytes(range(16)) + struct.pack("<I", 5)
ATTRIBUTES = (
    (b"security.capability", CAPABILITY_2),
    (b"system.posix_acl_access", ACL),
    (b"system.posix_acl_default", ACL[:-1]),
    (b"user.acl", ACL),
)
MAPS: list[tuple[list[Range], list[Range]]] = [
    ([], []),
    ([(0, 100000, 65536)], [(0, 200000, 65536)]),
    ([(5, 7, 1), (0, 3, 2)], []),
    ([(0, 4294967290, 5)], [(1000, 0, 1)]),
]


def rootfs(home: Path) -> bytes:
    """A directory of files of several owners, some with attributes that name further ones."""
    files = [
        Inode(2, Kind.FILE, 0o644, 0, 0, xattrs=ATTRIBUTES),
        Inode(3, Kind.FILE, 0o644, 5, 1000, xattrs=((b"security.capability", CAPABILITY_3),)),
        Inode(4, Kind.FILE, 0o644, 65535, 65536, xattrs=((b"security.capability", b"short"),)),
        Inode(5, Kind.FIFO, 0o644, 4294967294, 1, xattrs=ATTRIBUTES),
    ]
    entries = [(str(file.ino).encode(), file.ino) for file in files]
    return craft(home / "oci", [directory(1, *entries), *files]).rootfs


@pytest.mark.parametrize(("users", "groups"), MAPS)
def test_both_backends_show_the_same(
    backends: Backends, tmp_path: Path, users: list[Range], groups: list[Range]
) -> None:
    blob = rootfs(tmp_path)
    indexes = [backend.Index(blob, users, groups) for backend in backends]
    shown = [[(index.stat(ino), index.xattrs(ino)) for ino in index.inodes()] for index in indexes]
    assert shown[0] == shown[1]
    assert (shown[0] == [(i.stat(ino), i.xattrs(ino)) for i in [backends.rust.Index(blob)] for ino in i.inodes()]) is (
        not users and not groups
    )


def test_what_is_shown(backends: Backends, tmp_path: Path) -> None:
    """Each number in its map, others as nobody; the rest of an attribute as it was."""
    for backend in backends:
        index = backend.Index(rootfs(tmp_path), [(0, 100000, 65536)], [(0, 200000, 65536)])
        assert [index.stat(ino)[3:5] for ino in (2, 3, 4, 5)] == [
            (100000, 200000),
            (100005, 201000),
            (165535, 65534),
            (65534, 200001),
        ]
        attributes = dict(index.xattrs(2))
        assert attributes[b"security.capability"] == (
            struct.pack("<I", 0x03000001) + bytes(range(16)) + struct.pack("<I", 100000)
        )
        numbers = [row[2] for row in struct.iter_unpack("<HHI", attributes[b"system.posix_acl_access"][4:])]
        assert numbers == [0xFFFFFFFF, 100005, 200005, 0xFFFFFFFF]
        assert attributes[b"system.posix_acl_default"] == ACL[:-1]
        assert attributes[b"user.acl"] == ACL
        assert dict(index.xattrs(3))[b"security.capability"][-4:] == struct.pack("<I", 100005)
        assert index.xattrs(4) == [(b"security.capability", b"short")]


@pytest.mark.parametrize("text", ["", "0:0", "0:0:0:0", "a:0:1", "-1:0:1", "0:0:0", "0:4294967295:1", "4294967295:0:1"])
def test_maps_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="map of owners"):
        Owners([parse_range(text)])


def test_number_that_is_mapped_twice() -> None:
    with pytest.raises(UsageError, match="number 5 is mapped twice"):
        Owners([(0, 0, 6), (5, 100, 1)])
    assert Owners([(6, 0, 6), (5, 100, 1)]).users == ((5, 100, 1), (6, 0, 6))
