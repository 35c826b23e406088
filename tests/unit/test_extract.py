"""Unpacking crafted images: hostile, odd, without privilege."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from puzzlefs._fallback.place import Place
from puzzlefs._native import Backend
from puzzlefs.errors import BlobError, MissingBlobError, StoreError, UnsupportedError
from puzzlefs.extract import ExtractResult, extract
from puzzlefs.records import Kind
from puzzlefs.tables import Inode
from puzzlefs.vfs import Filesystem
from tests.conftest import Backends
from tests.images import craft, directory, file_of
from tests.support import requires_root

NOBODY = 65534


def image_of(filesystem: Filesystem) -> Any:
    """Return what `extract` needs of an image."""
    return SimpleNamespace(reader=lambda **_: filesystem.reader)


def unpack(
    tmp_path: Path, backend: Backend, inodes: Sequence[Inode], blobs: Sequence[bytes] = (), **options: Any
) -> tuple[Path, ExtractResult]:
    """Unpack a crafted image with one backend; return the directory and the result."""
    image = image_of(craft(tmp_path / "oci", inodes, blobs).filesystem(backend))
    return tmp_path / "out", extract(image, tmp_path / "out", **options)


def test_contents_links_and_counts(tmp_path: Path, backend: Backend) -> None:
    """Each inode counts once; the names of one are one file."""
    inodes = [
        directory(1, (b"a", 2), (b"d", 3), (b"e", 5), (b"l", 6)),
        file_of(2, b"content"),
        directory(3, (b"again", 2), (b"more", 4)),
        file_of(4, b"more"),
        file_of(5, b""),
        Inode(6, Kind.LNK, 0o777, target=b"../outside"),
    ]
    out, result = unpack(tmp_path, backend, inodes, [b"content", b"more"])

    assert (result.files, result.inodes, result.bytes, result.skipped) == (3, 5, 11, [])
    assert (out / "a").read_bytes() == b"content"
    assert (out / "a").stat().st_ino == (out / "d" / "again").stat().st_ino
    assert (out / "d" / "more").read_bytes() == b"more"
    assert (out / "e").read_bytes() == b""
    assert os.readlink(out / "l") == "../outside"


def test_zeros_become_holes(tmp_path: Path, backend: Backend) -> None:
    blob = b"a" * 4096 + bytes(200 * 1024) + b"z"
    out, _ = unpack(tmp_path, backend, [directory(1, (b"f", 2)), file_of(2, blob)], [blob])
    assert (out / "f").read_bytes() == blob
    assert (out / "f").stat().st_blocks * 512 <= 16 * 1024


def test_times_stay_when_directories_fill(tmp_path: Path, backend: Backend) -> None:
    """A directory's time is set after all that it holds was made, to the nanosecond."""
    inodes = [
        Inode(1, Kind.DIR, 0o755, mtime=(1, 1), entries=((b"d", 2),)),
        Inode(2, Kind.DIR, 0o755, mtime=(2, 2), entries=((b"f", 3), (b"l", 4))),
        Inode(3, Kind.FILE, 0o644, mtime=(-5, 123_456_789)),
        Inode(4, Kind.LNK, 0o777, mtime=(4, 4), target=b"f"),
    ]
    out, _ = unpack(tmp_path, backend, inodes)
    times = [os.lstat(out / name).st_mtime_ns for name in (".", "d", "d/f", "d/l")]
    assert times == [1_000_000_001, 2_000_000_002, -5_000_000_000 + 123_456_789, 4_000_000_004]


def test_properties_in_the_order_that_keeps_them(tmp_path: Path, backend: Backend) -> None:
    """Owner, set-user bit, capability and access list are all there in the end."""
    requires_root()
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    access = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000600ffffffff20000000ffffffff")
    xattrs = ((b"security.capability", capability), (b"system.posix_acl_access", access), (b"user.k", b"v"))
    inodes = [
        directory(1, (b"f", 2), (b"p", 3)),
        Inode(2, Kind.FILE, 0o6460, 1000, 1001, xattrs=xattrs),
        Inode(3, Kind.FIFO, 0o4640, 1000, 1001),
    ]
    out, result = unpack(tmp_path, backend, inodes)

    assert result.skipped == []
    status = (out / "f").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1000, 1001, 0o6660)
    assert {name.encode(): os.getxattr(out / "f", name) for name in os.listxattr(out / "f")} == dict(xattrs)
    pipe = (out / "p").stat()
    assert (pipe.st_uid, stat.S_IMODE(pipe.st_mode)) == (1000, 0o4640)


def test_owner_is_left_where_it_is_not_wanted(tmp_path: Path, backend: Backend) -> None:
    inodes = [directory(1, (b"f", 2)), Inode(2, Kind.FILE, 0o755, 1000, 1000)]
    out, _ = unpack(tmp_path, backend, inodes, same_owner=False)
    assert (out / "f").stat().st_uid == os.geteuid()


def test_special_files(tmp_path: Path, backend: Backend) -> None:
    requires_root()
    inodes = [
        directory(1, (b"b", 2), (b"c", 3), (b"s", 4)),
        Inode(2, Kind.BLK, 0o660, device=(7, 300)),
        Inode(3, Kind.CHR, 0o666, device=(4095, 1048575)),
        Inode(4, Kind.SOCK, 0o700),
    ]
    out, _ = unpack(tmp_path, backend, inodes)
    assert (out / "b").is_block_device()
    assert (out / "b").stat().st_rdev == os.makedev(7, 300)
    assert (out / "c").stat().st_rdev == os.makedev(4095, 1048575)
    assert (out / "s").is_socket()


def test_device_that_cannot_exist_is_skipped(tmp_path: Path, backend: Backend) -> None:
    inodes = [directory(1, (b"c", 2), (b"f", 3)), Inode(2, Kind.CHR, device=(1 << 40, 1)), file_of(3, b"")]
    out, result = unpack(tmp_path, backend, inodes)
    assert result.skipped == [(b"c", os.strerror(errno.EOVERFLOW))]
    assert os.listdir(out) == ["f"]


def test_attribute_that_the_filesystem_refuses_is_listed(tmp_path: Path, backend: Backend) -> None:
    """A symbolic link takes no user attribute: everything else of it is there."""
    inodes = [
        directory(1, (b"l", 2)),
        Inode(2, Kind.LNK, 0o777, mtime=(9, 0), target=b"x", xattrs=((b"user.k", b"v"),)),
    ]
    out, result = unpack(tmp_path, backend, inodes)
    assert [path for path, _ in result.skipped] == [b"l"]
    assert result.skipped[0][1].startswith("user.k: ")
    assert os.lstat(out / "l").st_mtime == 9


def test_owner_that_cannot_be_is_listed(tmp_path: Path, backend: Backend) -> None:
    """The highest number is nobody's: to the system it means "as it is"."""
    requires_root()
    inodes = [directory(1, (b"f", 2)), Inode(2, Kind.FILE, 0o640, (1 << 32) - 1, 7)]
    out, result = unpack(tmp_path, backend, inodes)
    assert result.skipped == [(b"f", f"owner: {os.strerror(errno.EINVAL)}")]
    assert stat.S_IMODE((out / "f").stat().st_mode) == 0o640


def test_target_must_be_empty_or_absent(tmp_path: Path, backend: Backend) -> None:
    (tmp_path / "out").mkdir()
    unpack(tmp_path, backend, [directory(1, (b"f", 2)), file_of(2, b"")])
    with pytest.raises(StoreError) as caught:
        unpack(tmp_path, backend, [directory(1)])
    assert caught.value.errno == errno.ENOTEMPTY


def test_target_must_be_a_directory(tmp_path: Path, backend: Backend) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        unpack(tmp_path, backend, [directory(1)])
    assert caught.value.errno == errno.ENOTDIR


def test_link_of_the_image_leads_nowhere(tmp_path: Path, backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a directory turn into a link while the work is in it, the work stops rather than follow.

    Of the pure backend; the compiled one has a test of its own, in `extract_place.rs`.
    """
    (tmp_path / "victim").mkdir()
    real = os.mkdir

    def replaced(name: bytes, mode: int, *, dir_fd: int | None = None) -> None:
        real(name, mode, dir_fd=dir_fd)
        if dir_fd is None:
            return
        os.rmdir(name, dir_fd=dir_fd)
        os.symlink(tmp_path / "victim", name, dir_fd=dir_fd)

    crafted = craft(tmp_path / "oci", [directory(1, (b"d", 2)), directory(2, (b"f", 3)), file_of(3, b"")])
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "mkdir", replaced)
    with pytest.raises(StoreError, match="out/d: "):
        extract(image_of(crafted.filesystem(backends.python)), tmp_path / "out")
    assert list((tmp_path / "victim").iterdir()) == []


def test_way_back_is_checked(tmp_path: Path) -> None:
    """A directory moved elsewhere while the work is in it is noticed on the way up."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    root = os.open(tmp_path, os.O_RDONLY)
    with Place(root) as place:
        place.down(b"a")
        place.down(b"b")
        (tmp_path / "a" / "b").rename(tmp_path / "elsewhere" / "b")
        with pytest.raises(OSError) as caught:
            place.up()
    os.close(root)
    assert caught.value.errno == errno.ESTALE


def test_error_of_a_file_ends_the_work(tmp_path: Path, backend: Backend) -> None:
    """What was made before stays: a plain partial directory."""
    inodes = [directory(1, (b"a", 2), (b"b", 3)), file_of(2, b"whole"), file_of(3, b"damaged")]
    crafted = craft(tmp_path / "oci", inodes, [b"whole", b"damaged"])
    blob = next(path for path in crafted.blobs.iterdir() if path.read_bytes() == b"damaged")
    blob.write_bytes(b"DAMAGED")
    with pytest.raises(BlobError, match=f"{blob.name}: content does not match the digest"):
        extract(image_of(crafted.filesystem(backend)), tmp_path / "out", jobs=1)
    assert (tmp_path / "out" / "a").read_bytes() == b"whole"

    blob.unlink()
    with pytest.raises(MissingBlobError):
        extract(image_of(crafted.filesystem(backend)), tmp_path / "out2")


def test_many_errors_leave_no_descriptor(tmp_path: Path, backend: Backend) -> None:
    """Files that no worker comes to are closed too."""
    names = [(b"%03d" % number, number + 2) for number in range(200)]
    inodes = [directory(1, *names), *(file_of(ino, b"gone") for _, ino in names)]
    crafted = craft(tmp_path / "oci", inodes, [b"gone"])
    for path in crafted.blobs.iterdir():
        if path.read_bytes() == b"gone":
            path.unlink()
    image = image_of(crafted.filesystem(backend))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MissingBlobError):
        extract(image, tmp_path / "out", jobs=3)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_deep_tree_needs_few_descriptors(tmp_path: Path, backend: Backend) -> None:
    """Deeper than there are descriptors, and deeper than a path may be long."""
    depth = 2000
    inodes = [directory(ino, (b"dd", ino + 1)) for ino in range(1, depth)]
    inodes += [directory(depth, (b"f", depth + 1)), file_of(depth + 1, b"deep")]
    _, result = unpack(tmp_path, backend, inodes, [b"deep"])
    assert (result.inodes, result.files) == (depth, 1)
    subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)


def test_too_deep_tree_is_refused(tmp_path: Path, backend: Backend) -> None:
    inodes = [directory(ino, (b"d", ino + 1)) for ino in range(1, 2100)] + [directory(2100)]
    with pytest.raises(UnsupportedError, match="nested more than 2048 deep"):
        unpack(tmp_path, backend, inodes)
    subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)


ROOTLESS = f"""
import os, sys
# While the interpreter's own files can be read: they may be root's.
import concurrent.futures.thread, puzzlefs.extract, puzzlefs._fallback.extract
from puzzlefs.image import Image
image = Image.open(sys.argv[1])
image.index
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
result = image.extract(sys.argv[2])
print(sorted(path.decode() for path, _ in result.skipped))
"""


def test_without_privilege(tmp_path: Path, backend_name: str) -> None:
    """Closed directories, hard links into them, read-only files with attributes; devices are listed."""
    requires_root()
    inodes = [
        directory(1, (b"closed", 2), (b"dev", 4), (b"link", 3), (b"ro", 5), (b"ro-dir", 6)),
        directory(2, (b"f", 3), permissions=0),
        file_of(3, b"content", 0o444),
        Inode(4, Kind.CHR, 0o666, device=(1, 3)),
        Inode(5, Kind.FILE, 0o444, 123, 456, xattrs=((b"user.k", b"v"),)),
        directory(6, (b"sub", 7), permissions=0o555),
        directory(7, permissions=0o500),
    ]
    crafted = craft(tmp_path / "oci", inodes, [b"content"])
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    for ancestor in [tmp_path, *tmp_path.parents[:2]]:
        ancestor.chmod(0o755)
    finished = subprocess.run(
        [sys.executable, "-c", ROOTLESS, crafted.name, home / "out"],
        env={**os.environ, "PUZZLEFS_BACKEND": backend_name, "PYTHONPATH": "python"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (finished.returncode, finished.stdout) == (0, "['dev']\n"), finished.stderr
    out = home / "out"
    assert (out / "closed" / "f").stat().st_ino == (out / "link").stat().st_ino
    assert [stat.S_IMODE((out / name).stat().st_mode) for name in ("closed", "ro", "ro-dir", "ro-dir/sub")] == [
        0,
        0o444,
        0o555,
        0o500,
    ]
    assert os.getxattr(out / "ro", "user.k") == b"v"
    assert (out / "ro").stat().st_uid == NOBODY
