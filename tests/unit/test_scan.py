"""What a scan takes of a directory tree, by each backend."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from puzzlefs.builder import build
from puzzlefs.errors import SourceError, UsageError
from puzzlefs.records import SOURCE, Kind, Times
from puzzlefs.scan import MtimeRule, Scan, ScanOptions, scan
from tests.support import requires_root
from tests.trees import Found, tree_of

pytestmark = pytest.mark.usefixtures("chosen")
KEEP = MtimeRule(Times.KEEP)


def scanned(tree: Path, mtime: MtimeRule = KEEP, *, all_root: bool = False, **options: Any) -> Scan:
    return scan(os.fsencode(tree), ScanOptions(**options), mtime, all_root=all_root)


def found(tree: Path, mtime: MtimeRule = KEEP, *, all_root: bool = False, **options: Any) -> dict[bytes, Found]:
    """Return what a scan says of every path."""
    return tree_of(scanned(tree, mtime, all_root=all_root, **options).tree.vector())


def numbered(tree: Path, **options: Any) -> list[bytes]:
    """Return the paths of a scan in numbering order."""
    paths = found(tree, **options)
    return sorted(paths, key=lambda path: paths[path].inode.ino)


def test_a_visit_lists_a_whole_directory_before_going_deeper(tmp_path: Path) -> None:
    """Siblings come first, by name as bytes, then each subdirectory's own."""
    for name in ("b/z/q", "b/a", "a/x", "C", "ä"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    assert numbered(tmp_path) == [b"", b"C", b"a", b"b", "ä".encode(), b"a/x", b"b/a", b"b/z", b"b/z/q"]


def test_hard_links_are_one_inode(tmp_path: Path) -> None:
    """Names of one inode share it, whose content is read by the path met first; each name takes a number."""
    (tmp_path / "b").write_bytes(b"x")
    os.link(tmp_path / "b", tmp_path / "a")
    (tmp_path / "c").write_bytes(b"y")
    tree = scanned(tmp_path)

    assert {path: at.inode.ino for path, at in tree_of(tree.tree.vector()).items()} == {
        b"": 1,
        b"a": 2,
        b"b": 2,
        b"c": 4,
    }
    assert (tree.tree.inode_count, tree.paths) == (3, b"a\0c\0")


def test_every_kind_is_recognised(tmp_path: Path) -> None:
    """Fifos, sockets, links, directories and files have their kinds, links their targets."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
    paths = found(tmp_path)

    kinds = {
        b"": Kind.DIR,
        b"fifo": Kind.FIFO,
        b"link": Kind.LNK,
        b"dir": Kind.DIR,
        b"sock": Kind.SOCK,
        b"file": Kind.FILE,
    }
    assert {path: at.inode.kind for path, at in paths.items()} == kinds
    assert paths[b"link"].target == b"nowhere"


def test_devices_have_their_numbers(tmp_path: Path) -> None:
    """Major and minor numbers of both kinds of device."""
    requires_root()
    os.mknod(tmp_path / "chr", 0o20644, os.makedev(12, 345678))
    os.mknod(tmp_path / "blk", 0o60644, os.makedev(4095, 1))
    paths = found(tmp_path)

    assert paths[b"chr"].inode[7:9] == (12, 345678)
    assert paths[b"blk"].inode[7:9] == (4095, 1)


def test_files_are_told_as_the_writer_takes_them(tmp_path: Path) -> None:
    """Paths in order of inodes, and a row of what each file was."""
    for name, content in {"b": b"12", "a/x": b"123", "c": b""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    tree = scanned(tmp_path)
    now = (tmp_path / "a/x").stat()

    assert tree.paths == b"b\0c\0a/x\0"
    rows = list(SOURCE.iter_unpack(tree.sources))
    assert rows[2] == (3, now.st_dev, now.st_ino, now.st_mtime_ns, now.st_ctime_ns)
    assert [row[0] for row in rows] == [2, 0, 3]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        (b"*.pyc", [b"", b"keep", b"keep/x"]),
        (b"/keep/x", [b"", b"keep", b"keep/x.pyc"]),
        (b"keep", [b""]),
        (b"x", [b"", b"keep", b"keep/x.pyc"]),
        (b"/x", [b"", b"keep", b"keep/x", b"keep/x.pyc"]),
        (b"keep/", [b""]),
    ],
)
def test_exclude_matches_names_or_paths(tmp_path: Path, pattern: bytes, left: list[bytes]) -> None:
    """A pattern without a slash matches any name, one with a slash a path from the root."""
    (tmp_path / "keep").mkdir()
    for name in ("x", "x.pyc"):
        (tmp_path / "keep" / name).write_bytes(b"")

    assert numbered(tmp_path, exclude=[pattern]) == left


def test_tree_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    """A file whose path has more than 4,096 bytes is found, with its attributes."""
    name, depth = b"d" * 200, 25
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    file = os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
    os.setxattr(file, "user.deep", b"1")
    os.close(file)
    os.close(descriptor)

    path, at = list(found(tmp_path).items())[-1]
    assert path == (name + b"/") * depth + b"file"
    assert at.xattrs == [(b"user.deep", b"1")]


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    """The root must be a directory."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(UsageError):
        scanned(tmp_path / "file")


@contextmanager
def nobody() -> Iterator[None]:
    requires_root()
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """The error has the path from the root and the system's number."""
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == 0 and not above.stat().st_mode & 1:
            above.chmod(0o711)
    tmp_path.chmod(0o755)
    (tmp_path / "a" / "locked").mkdir(parents=True)
    (tmp_path / "a" / "locked").chmod(0)
    with nobody(), pytest.raises(SourceError) as caught:
        scanned(tmp_path)

    assert (caught.value.path, caught.value.errno) == (b"a/locked", errno.EACCES)
    tmp_path.chmod(0)
    with nobody(), pytest.raises(SourceError) as caught:
        scanned(tmp_path)
    assert (caught.value.path, caught.value.errno) == (b".", errno.EACCES)


TIME = 1_700_000_000_000_000_001


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (KEEP, (1_700_000_000, 1)),
        (MtimeRule(Times.AT_MOST, 1_700_000_001), (1_700_000_000, 1)),
        (MtimeRule(Times.AT_MOST, 1_700_000_000), (1_700_000_000, 0)),
        (MtimeRule(Times.AT_MOST, 99_999_999_999), (1_700_000_000, 1)),
        (MtimeRule(Times.EXACTLY, -5), (-5, 0)),
    ],
)
def test_times_follow_the_rule(tmp_path: Path, rule: MtimeRule, expected: tuple[int, int]) -> None:
    """Times are kept, cut off or replaced; the row for the writer keeps the file's own."""
    (tmp_path / "file").write_bytes(b"")
    os.utime(tmp_path / "file", ns=(0, TIME))
    tree = scanned(tmp_path, rule)
    inode = tree_of(tree.tree.vector())[b"file"].inode

    assert (inode.mtime_sec, inode.mtime_nsec) == expected
    assert SOURCE.unpack(tree.sources)[3] == TIME


def test_times_before_the_epoch_have_positive_nanoseconds(tmp_path: Path) -> None:
    """Half a second before the epoch is second -1 and 500,000,000 nanoseconds."""
    (tmp_path / "file").write_bytes(b"")
    os.utime(tmp_path / "file", ns=(0, -500_000_000))
    inode = found(tmp_path)[b"file"].inode

    assert (inode.mtime_sec, inode.mtime_nsec) == (-1, 500_000_000)


def test_everything_may_belong_to_root(tmp_path: Path) -> None:
    """Owners are the system's, or 0."""
    requires_root()
    (tmp_path / "file").write_bytes(b"")
    os.chown(tmp_path / "file", 12, 34)

    assert found(tmp_path)[b"file"].inode[3:5] == (12, 34)
    assert found(tmp_path, all_root=True)[b"file"].inode[3:5] == (0, 0)


def test_attributes_of_host_are_left_out_by_name(tmp_path: Path) -> None:
    """Overlay's attributes and trusted ones are the host's, capabilities and a user's own the tree's."""
    requires_root()
    (tmp_path / "file").write_bytes(b"")
    kept = {"user.comment": b"1", "security.capability": bytes.fromhex("0100000200000000000000000000000000000000")}
    for name, value in {**kept, "user.overlay.origin": b"", "trusted.overlay.opaque": b"y"}.items():
        os.setxattr(tmp_path / "file", name, value)

    assert found(tmp_path)[b"file"].xattrs == sorted((name.encode(), value) for name, value in kept.items())
    everything = found(tmp_path, drop_xattrs=(), sort_xattrs=False)[b"file"].xattrs
    assert [os.fsdecode(key) for key, _ in everything] == os.listxattr(tmp_path / "file")
    assert found(tmp_path, xattrs=())[b"file"].xattrs == []


def test_times_far_away_still_tell_a_change(tmp_path: Path) -> None:
    """A time that 64 bits of nanoseconds do not hold is kept; the row for the writer has it modulo 2^64."""
    seconds = 14_000_000_000
    (tmp_path / "file").write_bytes(b"")
    os.utime(tmp_path / "file", (0, seconds))
    if (tmp_path / "file").stat().st_mtime != seconds:
        pytest.skip("the filesystem keeps no such time")
    tree = scanned(tmp_path)

    assert tree_of(tree.tree.vector())[b"file"].inode.mtime_sec == seconds
    assert SOURCE.unpack(tree.sources)[3] % (1 << 64) == seconds * 10**9 % (1 << 64)
    build(tmp_path, f"{tmp_path.parent}/oci:t")
