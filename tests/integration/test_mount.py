"""Real mounts: what the system's own tools see, with each backend."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from puzzlefs import mountinfo
from puzzlefs.records import Kind
from puzzlefs.tables import Inode
from tests.conftest import GoldenImage
from tests.images import craft, directory, file_of
from tests.mounts import layout_of, mounted, requires_fuse
from tools.compare_trees import differences

# The original keeps no times.
NO_TIMES = {"mtime_ns"}


@pytest.fixture(autouse=True)
def _backend(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of every mount uses each backend in turn."""
    requires_fuse()
    monkeypatch.setenv("PUZZLEFS_BACKEND", backend_name)


@pytest.mark.parametrize("name", ["vi-empty", "vi-kinds", "vi-wide", "vic-kinds", "vic-text"])
def test_golden_image_is_its_tree(
    name: str, golden: dict[str, GoldenImage], golden_trees: Path, tmp_path: Path
) -> None:
    """Every inode and every byte, also of names that are no text."""
    with mounted(layout_of(golden[f"{name}:v"]), tmp_path / "m") as mountpoint:
        assert differences(golden_trees / name.partition("-")[2], mountpoint, NO_TIMES) == []


def test_golden_delta_is_its_tree(golden: dict[str, GoldenImage], golden_trees: Path, tmp_path: Path) -> None:
    """A directory with whiteouts can be listed, and shows what the changed tree has."""
    changed = tmp_path / "changed"
    subprocess.run(["cp", "-a", golden_trees / "kinds", changed], check=True)
    shutil.rmtree(changed / "a" / "b")
    (changed / "null").unlink()
    (changed / "hello2").write_bytes(b"changed\n")
    (changed / "owned").write_bytes(b"new content\n")
    with mounted(layout_of(golden["vi-delta:delta"]), tmp_path / "m") as mountpoint:
        assert differences(changed, mountpoint, NO_TIMES) == []
        assert not (mountpoint / "null").exists()


def test_archive_of_a_mount_is_that_of_its_tree(
    golden: dict[str, GoldenImage], golden_trees: Path, tmp_path: Path
) -> None:
    """Tar sees the same names, owners, links, devices and attributes."""
    command = [
        "tar",
        "--sort=name",
        "--mtime=@0",
        "--format=posix",
        "--pax-option=delete=?time",
        "--xattrs",
        "-cf",
        "-",
        "-C",
    ]
    with mounted(layout_of(golden["vi-kinds:v"]), tmp_path / "m") as mountpoint:
        archives = [
            subprocess.run([*command, tree, "."], capture_output=True, check=True).stdout
            for tree in (golden_trees / "kinds", mountpoint)
        ]
    assert hashlib.sha256(archives[0]).digest() == hashlib.sha256(archives[1]).digest()


def test_large_directory_is_listed_once(golden: dict[str, GoldenImage], tmp_path: Path) -> None:
    with mounted(layout_of(golden["vi-wide:v"]), tmp_path / "m") as mountpoint:
        assert os.listdir(mountpoint / "dir") == [f"entry-{number:05d}" for number in range(3000)]


def test_reads_anywhere_from_many_threads(golden: dict[str, GoldenImage], golden_trees: Path, tmp_path: Path) -> None:
    """Past the page cache's habits: direct, in any order, of any size."""
    book = (golden_trees / "text" / "book").read_bytes()
    chance = random.Random(1)
    places = [(chance.randrange(len(book)), chance.randrange(1, 300_000)) for _ in range(300)]
    with mounted(layout_of(golden["vic-text:v"]), tmp_path / "m") as mountpoint:
        descriptor = os.open(mountpoint / "book", os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            with ThreadPoolExecutor(8) as pool:
                read = list(pool.map(lambda place: os.pread(descriptor, place[1], place[0]), places))
        finally:
            os.close(descriptor)
    assert read == [book[start : start + size] for start, size in places]


def test_table_of_mounts_and_statfs(golden: dict[str, GoldenImage], tmp_path: Path) -> None:
    name = layout_of(golden["vi-kinds:v"])
    with mounted(name, tmp_path / "m") as mountpoint:
        seen = mountinfo.topmost(mountpoint)
        assert seen is not None
        assert (seen.kind, seen.source) == ("fuse.puzzlefs", name.encode())
        assert b"default_permissions" in seen.options.split(b",")
        statistics = os.statvfs(mountpoint)
        assert statistics.f_flag & os.ST_RDONLY
        assert (statistics.f_bsize, statistics.f_frsize, statistics.f_blocks, statistics.f_bfree) == (4096, 4096, 1, 0)
        assert (statistics.f_files, statistics.f_namemax) == (22, 255)
        if os.geteuid() == 0 and Path(f"/sys/class/bdi/{seen.device}").exists():
            assert Path(f"/sys/class/bdi/{seen.device}/read_ahead_kb").read_text() == "1024\n"


def test_times_are_the_images_to_the_nanosecond(tmp_path: Path) -> None:
    """All three are: an image that never changes has nothing else to say. Also before 1970."""
    inodes = [
        directory(1, (b"f", 2), (b"l", 3)),
        Inode(2, Kind.FILE, mtime=(1_700_000_000, 123_456_789)),
        Inode(3, Kind.LNK, mtime=(-2, 999_999_999), target=b"f"),
    ]
    with mounted(craft(tmp_path / "oci", inodes).name, tmp_path / "m") as mountpoint:
        found = {name: os.lstat(mountpoint / name) for name in ("f", "l")}
    times = {name: {entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns} for name, entry in found.items()}
    assert times == {"f": {1_700_000_000_123_456_789}, "l": {-1_000_000_001}}


def test_name_with_comma_backslash_and_foreign_letters(tmp_path: Path) -> None:
    crafted = craft(tmp_path / "oci,a\\b,ü", [directory(1, (b"f", 2)), file_of(2, b"x")], [b"x"])
    with mounted(crafted.name, tmp_path / "m") as mountpoint:
        assert (mountpoint / "f").read_bytes() == b"x"


def test_nothing_can_be_changed(golden: dict[str, GoldenImage], tmp_path: Path) -> None:
    with mounted(layout_of(golden["vi-kinds:v"]), tmp_path / "m") as mountpoint:
        hello, new = mountpoint / "hello", mountpoint / "new"
        attempts: list[Callable[[], object]] = [
            lambda: os.open(hello, os.O_WRONLY),
            lambda: os.open(hello, os.O_RDWR),
            lambda: os.open(new, os.O_CREAT | os.O_WRONLY),
            lambda: os.truncate(hello, 0),
            hello.unlink,
            (mountpoint / "dir-attr").rmdir,
            new.mkdir,
            lambda: new.symlink_to("x"),
            lambda: os.mkfifo(new),
            lambda: os.link(hello, new),
            lambda: hello.rename(new),
            lambda: hello.chmod(0o600),
            lambda: os.chown(hello, 1, 1),
            lambda: os.utime(hello),
            lambda: os.setxattr(hello, "user.k", b"v"),
            lambda: os.removexattr(mountpoint / "attr", "user.one"),
        ]
        for attempt in attempts:
            with pytest.raises(OSError) as caught:
                attempt()
            assert caught.value.errno == errno.EROFS


def test_damaged_blob_is_an_error_and_one_line_in_the_log(tmp_path: Path) -> None:
    """The rest of the image can be read; the line names the blob."""
    inodes = [directory(1, (b"bad", 2), (b"gone", 3), (b"good", 4))]
    inodes += [file_of(2, b"bad" * 10), file_of(3, b"gone"), file_of(4, b"good")]
    crafted = craft(tmp_path / "oci", inodes, [b"bad" * 10, b"gone", b"good"])
    digests = [hashlib.sha256(content).hexdigest() for content in (b"bad" * 10, b"gone")]
    (crafted.blobs / digests[0]).write_bytes(b"BAD" * 10)
    (crafted.blobs / digests[1]).unlink()
    log = tmp_path / "log"
    with mounted(crafted.name, tmp_path / "m", log=log) as mountpoint:
        for name in ("bad", "gone", "bad", "gone"):
            with pytest.raises(OSError) as caught:
                (mountpoint / name).read_bytes()
            assert caught.value.errno == errno.EIO
        assert (mountpoint / "good").read_bytes() == b"good"
    lines = log.read_text().splitlines()
    assert [line.partition("ERROR ")[2] for line in lines] == [
        f"blob sha256:{digests[0]}: content does not match the digest",
        f"blob sha256:{digests[1]}: not in the store",
    ]


def test_unverified_mount_reads_what_is_there(tmp_path: Path) -> None:
    crafted = craft(tmp_path / "oci", [directory(1, (b"bad", 2)), file_of(2, b"bad")], [b"bad"])
    (crafted.blobs / hashlib.sha256(b"bad").hexdigest()).write_bytes(b"BAD")
    with mounted(crafted.name, tmp_path / "m", verify=0) as mountpoint:
        assert (mountpoint / "bad").read_bytes() == b"BAD"


def test_hostile_values_leave_the_server_alive(tmp_path: Path) -> None:
    """A device that cannot exist is an error, and in no listing; times beyond any clock are just times."""
    inodes = [
        directory(1, (b"device", 2), (b"early", 3), (b"late", 4), (b"ok", 5)),
        Inode(2, Kind.CHR, device=(1 << 63, 1 << 63)),
        Inode(3, Kind.FILE, mtime=(-(1 << 63), 999_999_999)),
        Inode(4, Kind.FILE, mtime=((1 << 63) - 1, 999_999_999)),
        Inode(5, Kind.LNK, target=b"/", xattrs=((b"no-namespace", b"\xff"),)),
    ]
    with mounted(craft(tmp_path / "oci", inodes).name, tmp_path / "m") as mountpoint:
        subprocess.run(["ls", "-laR", mountpoint], capture_output=True, check=False)
        with pytest.raises(OSError) as caught:
            os.lstat(mountpoint / "device")
        assert caught.value.errno == errno.EOVERFLOW
        assert os.readlink(mountpoint / "ok") == "/"
        assert sorted(os.listdir(mountpoint)) == ["early", "late", "ok"]


def test_access_lists_are_obeyed(tmp_path: Path) -> None:
    """User 1000 may read by the list alone, user 1001 may not."""
    # Version 2; owner rw-, user 1000 r--, group ---, mask r--, others ---.
    access = bytes.fromhex("0200000001000600ffffffff02000400e803000004000000ffffffff10000400ffffffff20000000ffffffff")
    secret = Inode(
        2, Kind.FILE, 0o640, chunks=file_of(2, b"secret").chunks, xattrs=((b"system.posix_acl_access", access),)
    )
    crafted = craft(tmp_path / "oci", [directory(1, (b"f", 2)), secret], [b"secret"])
    for ancestor in [tmp_path, *tmp_path.parents[:2]]:
        ancestor.chmod(0o755)
    with mounted(crafted.name, tmp_path / "m", allow_other=True) as mountpoint:
        read = [
            subprocess.run(
                ["cat", mountpoint / "f"], user=user, group=user, extra_groups=[], capture_output=True, check=False
            )
            for user in (1000, 1001)
        ]
    assert [finished.stdout for finished in read] == [b"secret", b""]
