"""Scanning a directory tree."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from puzzlefs.errors import UsageError
from puzzlefs.records import Kind
from puzzlefs.scan import HOST_XATTRS, ScanOptions, matches_any, scan


def paths(tree: Path, **options: object) -> list[bytes]:
    """Return the paths of a scan in numbering order."""
    return [node.path for node in scan(os.fsencode(tree), ScanOptions(**options)).nodes()]  # type: ignore[arg-type]


def test_a_visit_lists_a_whole_directory_before_going_deeper(tmp_path: Path) -> None:
    """Siblings come first, by name as bytes, then each subdirectory's own."""
    for name in ("b/z/q", "b/a", "a/x", "C", "ä"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    assert paths(tmp_path) == [b"", b"C", b"a", b"b", "ä".encode(), b"a/x", b"b/a", b"b/z", b"b/z/q"]


def test_hard_links_are_one_node(tmp_path: Path) -> None:
    """Names of one inode share a node, which keeps the path met first."""
    (tmp_path / "b").write_bytes(b"x")
    os.link(tmp_path / "b", tmp_path / "a")
    tree = scan(os.fsencode(tmp_path), ScanOptions())

    assert [node.path for node in tree.nodes()] == [b"", b"a"]
    assert len({id(node) for _, node in tree.root.entries}) == 1


def test_every_kind_is_recognised(tmp_path: Path) -> None:
    """Fifos, sockets, links, directories and files have their kinds."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "dir").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
    kinds = {name: node.kind for name, node in scan(os.fsencode(tmp_path), ScanOptions()).root.entries}

    assert kinds == {b"fifo": Kind.FIFO, b"link": Kind.LNK, b"dir": Kind.DIR, b"sock": Kind.SOCK}


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        (b"*.pyc", [b"", b"keep", b"keep/x"]),
        (b"/keep/x", [b"", b"keep", b"keep/x.pyc"]),
        (b"keep", [b""]),
        (b"x", [b"", b"keep", b"keep/x.pyc"]),
    ],
)
def test_exclude_matches_names_or_paths(tmp_path: Path, pattern: bytes, left: list[bytes]) -> None:
    """A pattern without a slash matches any name, one with a slash a path from the root."""
    (tmp_path / "keep").mkdir()
    for name in ("x", "x.pyc"):
        (tmp_path / "keep" / name).write_bytes(b"")

    assert paths(tmp_path, exclude=[pattern]) == left


def test_tree_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    """A file whose path has more than 4,096 bytes is found."""
    name, depth = b"d" * 200, 25
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)

    assert paths(tmp_path)[-1] == (name + b"/") * depth + b"file"


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    """The root must be a directory."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(UsageError):
        scan(os.fsencode(tmp_path / "file"), ScanOptions())


@pytest.mark.parametrize(
    ("name", "host"),
    [
        (b"security.selinux", True),
        (b"trusted.overlay.opaque", True),
        (b"user.overlay.origin", True),
        (b"security.capability", False),
        (b"system.posix_acl_access", False),
        (b"user.comment", False),
    ],
)
def test_host_attributes_are_told_from_the_trees(name: bytes, host: bool) -> None:
    """Labels of the host's security modules are left out, capabilities and ACLs kept."""
    assert matches_any(name, HOST_XATTRS) is host
