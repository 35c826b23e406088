"""What an image looks like as a filesystem."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from puzzlefs._native import Backend
from puzzlefs.records import Kind
from puzzlefs.tables import Inode
from puzzlefs.vfs import ROOT, Filesystem, Step
from tests.conftest import GoldenImage
from tests.images import craft, directory, file_of

SYMLINK = Inode(4, Kind.LNK, 0o777, target=b"/etc/passwd")
DEVICE = Inode(5, Kind.CHR, 0o666, device=(1, 3))
TIMED = Inode(6, Kind.FIFO, 0o600, 7, 8, (-1, 999_999_999), xattrs=((b"user.k", b"v"), (b"user.l", b"")))


@pytest.fixture
def tree(tmp_path: Path, backend: Backend) -> Filesystem:
    """/d/{f,p}, /l -> /etc/passwd, /n: a device, /f: /d/f again."""
    inodes = [
        directory(1, (b"d", 2), (b"f", 3), (b"l", 4), (b"n", 5)),
        directory(2, (b"f", 3), (b"p", 6)),
        file_of(3, b"x" * 513),
        SYMLINK,
        DEVICE,
        TIMED,
    ]
    return craft(tmp_path / "oci", inodes, [b"x" * 513]).filesystem(backend)


def test_attributes_of_every_kind(tree: Filesystem) -> None:
    """Mode, links, size in bytes and half-kibibyte blocks, device and time are stat(2)'s."""
    assert tree.getattr(1) == (1, stat.S_IFDIR | 0o755, 3, 0, 0, 0, 0, 0, 0)
    assert tree.getattr(3) == (3, stat.S_IFREG | 0o644, 2, 0, 0, 0, 513, 2, 0)
    assert tree.getattr(4) == (4, stat.S_IFLNK | 0o777, 1, 0, 0, 0, len(b"/etc/passwd"), 1, 0)
    assert tree.getattr(5) == (5, stat.S_IFCHR | 0o666, 1, 0, 0, os.makedev(1, 3), 0, 0, 0)
    assert tree.getattr(6) == (6, stat.S_IFIFO | 0o600, 1, 7, 8, 0, 0, 0, -1)


def test_lookup_finds_names_and_dots(tree: Filesystem) -> None:
    assert tree.lookup(ROOT, b"d") == 2
    assert tree.lookup(2, b".") == 2
    assert tree.lookup(2, b"..") == ROOT
    assert tree.lookup(ROOT, b"..") == ROOT
    assert tree.lookup(ROOT, b"nothing") == 0


@pytest.mark.parametrize(
    ("number", "call"),
    [
        (errno.ENOTDIR, lambda tree: tree.lookup(3, b"x")),
        (errno.ENOTDIR, lambda tree: tree.lookup(3, b".")),
        (errno.ENOTDIR, lambda tree: tree.readdir(3, 0, 9)),
        (errno.ESTALE, lambda tree: tree.lookup(99, b"x")),
        (errno.ESTALE, lambda tree: tree.lookup(99, b"..")),
        (errno.ESTALE, lambda tree: tree.getattr(99)),
        (errno.ESTALE, lambda tree: tree.getattr(0)),
        (errno.ESTALE, lambda tree: tree.readdir(99, 0, 9)),
        (errno.ESTALE, lambda tree: tree.read(99, 0, 1)),
        (errno.ESTALE, lambda tree: tree.getxattr(99, b"user.k")),
        (errno.EINVAL, lambda tree: tree.readlink(1)),
        (errno.EINVAL, lambda tree: tree.read(4, 0, 1)),
        (errno.EISDIR, lambda tree: tree.read(1, 0, 1)),
        (errno.ENODATA, lambda tree: tree.getxattr(6, b"user.absent")),
    ],
)
def test_errors_are_the_kernels(tree: Filesystem, number: int, call: object) -> None:
    assert callable(call)
    with pytest.raises(OSError) as caught:
        call(tree)
    assert caught.value.errno == number


def test_every_page_of_a_directory_is_a_slice_of_it(tree: Filesystem) -> None:
    """Wherever a listing goes on and however much it takes, nothing is missed or repeated."""
    whole = tree.readdir(ROOT, 0, 100)
    assert whole == [(b".", 1), (b"..", 1), (b"d", 2), (b"f", 3), (b"l", 4), (b"n", 5)]
    for start in range(len(whole) + 2):
        for count in range(1, len(whole) + 2):
            assert tree.readdir(ROOT, start, count) == whole[start : start + count]


def test_dots_of_a_subdirectory(tree: Filesystem) -> None:
    assert tree.readdir(2, 0, 2) == [(b".", 2), (b"..", 1)]


def test_read_is_short_only_at_the_end(tree: Filesystem) -> None:
    assert tree.read(3, 0, 1000) == b"x" * 513
    assert tree.read(3, 512, 1000) == b"x"
    assert tree.read(3, 513, 1000) == b""
    assert tree.read(3, 1 << 62, 1000) == b""


def test_links_and_attributes(tree: Filesystem) -> None:
    assert tree.readlink(4) == b"/etc/passwd"
    assert tree.listxattr(6) == [b"user.k", b"user.l"]
    assert tree.getxattr(6, b"user.k") == b"v"
    assert tree.getxattr(6, b"user.l") == b""
    assert tree.listxattr(3) == []


def test_statfs_counts_each_inode_once(tree: Filesystem) -> None:
    assert tree.statfs() == (4096, 1, 6, 255)


def test_walk_goes_depth_first_by_name(tree: Filesystem) -> None:
    assert list(tree.walk()) == [(b"d", 2), (b"d/f", 3), (b"d/p", 6), (b"f", 3), (b"l", 4), (b"n", 5)]


def test_visit_leaves_what_it_enters(tree: Filesystem) -> None:
    assert list(tree.visit()) == [
        (Step.ENTER, 1, b"d", 2),
        (Step.ENTRY, 2, b"f", 3),
        (Step.ENTRY, 2, b"p", 6),
        (Step.LEAVE, 1, b"d", 2),
        (Step.ENTRY, 1, b"f", 3),
        (Step.ENTRY, 1, b"l", 4),
        (Step.ENTRY, 1, b"n", 5),
    ]


def test_walk_of_a_deep_tree_needs_no_deep_stack(tmp_path: Path, backend: Backend) -> None:
    depth = 3000
    inodes = [directory(ino, (b"d", ino + 1)) for ino in range(1, depth)] + [directory(depth)]
    paths = list(craft(tmp_path / "oci", inodes).filesystem(backend).walk())
    assert len(paths) == depth - 1
    assert paths[-1] == (b"/".join([b"d"] * (depth - 1)), depth)


@pytest.mark.parametrize("device", [(4096, 0), (1, 1 << 20), (1 << 32, 1), ((1 << 64) - 1, (1 << 64) - 1)])
def test_device_that_no_kernel_has_is_an_error(tmp_path: Path, backend: Backend, device: tuple[int, int]) -> None:
    """Cut to the kernel's 32 bits it would be another device."""
    inodes = [directory(1, (b"n", 2)), Inode(2, Kind.BLK, device=device)]
    with pytest.raises(OSError) as caught:
        craft(tmp_path / "oci", inodes).filesystem(backend).getattr(2)
    assert caught.value.errno == errno.EOVERFLOW


@pytest.mark.parametrize("seconds", [-(1 << 63), (1 << 63) - 1])
def test_extreme_times_are_kept(tmp_path: Path, backend: Backend, seconds: int) -> None:
    inodes = [Inode(1, Kind.DIR, mtime=(seconds, 5))]
    assert craft(tmp_path / "oci", inodes).filesystem(backend).getattr(1).mtime_ns == seconds * 10**9 + 5


def test_directory_with_whiteouts_shows_what_is_left(golden: dict[str, GoldenImage], backend: Backend) -> None:
    """The delta of the golden images: two names gone, one added."""
    base, delta = (backend.Index(golden[f"vi-delta:{tag}"].rootfs) for tag in ("base", "delta"))
    names = [{path for path, _ in Filesystem(index, None).walk()} for index in (base, delta)]  # type: ignore[arg-type]
    assert names[0] - names[1] == {b"a/b", b"a/b/c", b"a/b/c/deep.txt", b"null"}
    assert names[1] - names[0] == {b"hello2"}
