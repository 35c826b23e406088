"""A build of what has not changed is recalled; whatever changes, the image is what a build from nothing makes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from puzzlefs import build_cache, builder, mountinfo
from puzzlefs.builder import Build, BuildOptions, BuildResult, build
from puzzlefs.durability import Durability
from puzzlefs.order import Order
from puzzlefs.recall import Memory
from puzzlefs.scan import ScanOptions
from puzzlefs.store import Store

TICK = 0.02
EXCLUDED = ScanOptions(exclude=[b"var/lib/dpkg"])
BIG = 300_000
TELLS = Memory._tells


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe what was made just now, on whatever filesystem the tests are."""
    monkeypatch.setattr(build_cache, "horizon", lambda: 1 << 62)
    monkeypatch.setattr(Memory, "_tells", lambda _: True)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each build that is not recalled."""
    runs: list[str] = []
    run = Build.run

    def counted(self: Build) -> BuildResult:
        runs.append(self.rootfs)
        return run(self)

    monkeypatch.setattr(builder.Build, "run", counted)
    return runs


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "d" / "empty").mkdir(parents=True)
    (tree / "a").write_bytes(b"a" * 100_000)
    (tree / "d" / "b").write_bytes(b"b")
    (tree / "link").symlink_to("a")
    os.link(tree / "a", tree / "d" / "hard")
    os.setxattr(tree / "d", "user.x", b"1")
    info = tree / "var" / "lib" / "dpkg" / "info"
    info.mkdir(parents=True)
    (info / "one.list").write_bytes(b"/a\n")
    (info / "two.list").write_bytes(b"/big\n")
    (tree / "big").write_bytes(os.urandom(BIG))
    time.sleep(TICK)
    return tree


def made(tmp_path: Path, *, tag: str = "t", cached: bool = True, **options: Any) -> BuildResult:
    chosen = BuildOptions(cache=tmp_path / "cache" if cached else None, compression=True, **options)
    return build(tmp_path / "tree", f"{tmp_path}/store:{tag}", chosen)


def test_what_has_not_changed_is_not_built(tmp_path: Path, tree: Path, built: list[str]) -> None:
    """The result is the same, but that nothing was stored."""
    first = made(tmp_path)
    again = made(tmp_path)
    assert again == first._replace(new_bytes=0)
    assert len(built) == 1


def rename(tree: Path) -> None:
    (tree / "d" / "b").rename(tree / "d" / "c")


def same_size_and_time(tree: Path) -> None:
    status = (tree / "d" / "b").stat()
    (tree / "d" / "b").write_bytes(b"c")
    os.utime(tree / "d" / "b", ns=(status.st_atime_ns, status.st_mtime_ns))


def another_link(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("b")


def swap(tree: Path) -> None:
    (tree / "d").rename(tree / "e")
    (tree / "d").mkdir()
    (tree / "d" / "b").write_bytes(b"b")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda tree: (tree / "a").write_bytes(b"z" * 100_000),
    "content, size and time kept": same_size_and_time,
    "mode": lambda tree: (tree / "d" / "empty").chmod(0o700),
    "owner": lambda tree: os.chown(tree / "link", 12, 13, follow_symlinks=False),
    "time": lambda tree: os.utime(tree / "d" / "b", (1, 1)),
    "attribute of a file": lambda tree: os.setxattr(tree / "a", "user.y", b"2"),
    "attribute of a directory": lambda tree: os.setxattr(tree / "d", "user.x", b"2"),
    "attribute of the root": lambda tree: os.setxattr(tree, "user.x", b"2"),
    "entry in an empty directory": lambda tree: (tree / "d" / "empty" / "new").mkdir(),
    "entry gone": lambda tree: (tree / "d" / "b").unlink(),
    "entry renamed": rename,
    "a name more": lambda tree: os.link(tree / "d" / "b", tree / "other"),
    "a name less": lambda tree: (tree / "a").unlink(),
    "link": another_link,
    "directory in another's place": swap,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_tree_is_built_as_from_nothing(
    tmp_path: Path, tree: Path, built: list[str], change: Callable[[Path], object]
) -> None:
    """Whatever changed, alone; and that is recalled when nothing changes further."""
    first = made(tmp_path)
    change(tree)
    time.sleep(TICK)
    again = made(tmp_path)
    assert again.manifest != first.manifest
    assert made(tmp_path).manifest == again.manifest
    assert len(built) == 2
    assert made(tmp_path, cached=False).manifest == again.manifest


@pytest.mark.parametrize(
    "options",
    [
        {"all_root": True},
        {"mtime": 5},
        {"order": Order.PATH},
        {"pack_size": 0},
        {"annotations": {"a": "b"}},
        {"scan": ScanOptions(xattrs=())},
        {"first": [b"d/b"]},
    ],
)
def test_another_request_is_not_the_same(tmp_path: Path, tree: Path, built: list[str], options: dict[str, Any]) -> None:
    """Every option that says what the image is counts."""
    made(tmp_path)
    assert made(tmp_path, **options).manifest == made(tmp_path, cached=False, **options).manifest
    assert len(built) == 3


def test_how_the_work_is_done_makes_no_difference(tmp_path: Path, tree: Path, built: list[str]) -> None:
    """Threads, durability, and the tag, which is given again."""
    first = made(tmp_path)
    again = made(tmp_path, tag="other", jobs=1, durability=Durability.NONE)
    assert (len(built), again.manifest) == (1, first.manifest)
    tags = dict(Store.open(tmp_path / "store").tags())
    assert tags["other"].digest == tags["t"].digest == first.manifest


def test_times_are_clamped_to_what_is_asked_now(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, built: list[str]
) -> None:
    """SOURCE_DATE_EPOCH is part of the request."""
    made(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    assert made(tmp_path).manifest == made(tmp_path, cached=False).manifest
    assert len(built) == 3


def test_a_base_is_what_its_tag_means_now(tmp_path: Path, tree: Path, built: list[str]) -> None:
    """A tag that moved, the image's own too."""
    made(tmp_path, tag="base")
    first = made(tmp_path, base="base")
    assert made(tmp_path, base="base").manifest == first.manifest
    assert len(built) == 2
    made(tmp_path, tag="base", all_root=True)
    assert made(tmp_path, base="base").manifest == made(tmp_path, base="base", cached=False).manifest
    made(tmp_path, base="t")
    upon = made(tmp_path, tag="u", base="t")
    assert upon.manifest == made(tmp_path, tag="u", base="t", cached=False).manifest


@pytest.mark.parametrize("spoil", [os.unlink, lambda path: os.truncate(path, 1)], ids=["gone", "cut short"])
@pytest.mark.parametrize("which", range(4))
def test_a_blob_that_is_not_there_is_made_again(
    tmp_path: Path, tree: Path, which: int, spoil: Callable[[Path], None]
) -> None:
    """The store has each blob again: file data, rootfs, config, manifest."""
    first = made(tmp_path)
    blobs = sorted((tmp_path / "store" / "blobs" / "sha256").iterdir())
    content = {blob: blob.read_bytes() for blob in blobs}
    spoil(blobs[which])
    assert made(tmp_path).manifest == first.manifest
    assert {blob: blob.read_bytes() for blob in blobs} == content


def test_a_store_that_is_gone_is_made_again(tmp_path: Path, tree: Path) -> None:
    """The cache says nothing of it."""
    first = made(tmp_path)
    (tmp_path / "store").rename(tmp_path / "away")
    assert made(tmp_path) == first


def test_packages_count_where_the_image_lacks_them(tmp_path: Path, tree: Path, built: list[str]) -> None:
    """They decide what lies together, excluded or not."""
    first = made(tmp_path, scan=EXCLUDED)
    assert made(tmp_path, scan=EXCLUDED).manifest == first.manifest
    assert len(built) == 1
    (tree / "var/lib/dpkg/info/one.list").write_bytes(b"/big\n")
    again = made(tmp_path, scan=EXCLUDED)
    assert again.manifest == made(tmp_path, scan=EXCLUDED, cached=False).manifest
    assert len(built) == 3


def test_fresh_changes_are_not_trusted(
    tmp_path: Path, tree: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed as late as the last build is looked at again."""
    os.utime(tree / "a")
    monkeypatch.setattr(build_cache, "horizon", lambda: (tree / "a").stat().st_ctime_ns)
    made(tmp_path)
    made(tmp_path)
    assert len(built) == 2


def test_a_filesystem_that_does_not_tell_is_read(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overlay's directories have the times of one layer."""
    monkeypatch.setattr(Memory, "_tells", TELLS)
    for kind, kept in (("overlay", 0), ("fuse", 0), ("ext4", 1)):
        mount = mountinfo.Mount(1, 1, "0:1", b"/", b"/", kind, b"x", b"")
        monkeypatch.setattr(mountinfo, "holding", lambda _, mount=mount: mount)
        made(tmp_path)
        assert len(list((tmp_path / "cache").glob("*.image"))) == kept


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, b"\x02\0\0\0{}", b"\x02\0\0\0[]", b'\x0d\0\0\0{"inputs":[]}'], ids=repr
)
def test_what_is_no_memory_is_no_help(tmp_path: Path, tree: Path, content: bytes) -> None:
    """Damage makes a build slower, no more."""
    first = made(tmp_path)
    kept = next((tmp_path / "cache").glob("*.image"))
    kept.write_bytes(sha256(content).digest() + content)
    assert made(tmp_path).manifest == first.manifest


def test_an_image_is_synced_when_that_is_asked_for(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a build that left it to the system; not where one synced it."""
    synced: list[str] = []
    monkeypatch.setattr("puzzlefs.store._sync_filesystem", synced.append)
    made(tmp_path, durability=Durability.NONE)
    made(tmp_path, durability=Durability.NONE)
    assert not synced
    made(tmp_path)
    assert len(synced) == 1
    os.utime(tree / "a", (3, 3))
    made(tmp_path)
    made(tmp_path)
    assert len(synced) == 2
