"""On a full or a broken disk the program says which file it was, and the store stays valid."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from puzzlefs._native import Backend
from puzzlefs.builder import BuildOptions, build
from puzzlefs.constants import KIB, MIB
from puzzlefs.errors import StoreError
from puzzlefs.image import Image
from puzzlefs.store import Store
from puzzlefs.verify_store import verify_store
from tests.support import requires_root, run_puzzlefs

PAGE = 4 * KIB
FULL = "No space left on device"
LARGE = "File too large"
BROKEN = "Input/output error"


@contextmanager
def filesystem(place: Path, *options: str) -> Iterator[Path]:
    """Mount a filesystem for a while."""
    requires_root()
    place.mkdir()
    mounting = subprocess.run(["mount", *options, place], check=False, capture_output=True)
    if mounting.returncode != 0:
        pytest.skip(f"cannot mount: {mounting.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def tmpfs(place: Path, size: int) -> AbstractContextManager[Path]:
    return filesystem(place, "-t", "tmpfs", "-o", f"size={size}", "none")


def failed(*words: object, backend: str, reason: str, limit: int | None = None) -> str:
    """Run the program, which must fail with one sentence that ends in `reason`; return what it names."""
    command = [sys.executable, "-m", "puzzlefs", *map(str, words)]
    finished = subprocess.run(
        ["prlimit", f"--fsize={limit}", *command] if limit is not None else command,
        env={**os.environ, "PUZZLEFS_BACKEND": backend},
        capture_output=True,
        check=False,
    )
    said = finished.stderr.decode()
    assert (finished.returncode, said.count("\n")) == (1, 1), said
    assert said.startswith("puzzlefs: ") and said.endswith(f": {reason}\n"), said
    return said.removeprefix("puzzlefs: ").removesuffix(f": {reason}\n")


def assert_clean(layout: Path, tags: list[str]) -> None:
    """The store is valid, has these tags, and holds nothing unfinished."""
    report = verify_store(layout)
    assert (report.problems, report.warnings) == ([], [])
    assert [tag for tag, _ in Store.open(layout).tags()] == tags
    assert os.listdir(layout / "blobs") == ["sha256"]
    assert sorted(os.listdir(layout)) == ["blobs", "index.json", "oci-layout"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One MiB in 60 files."""
    root = tmp_path / "tree"
    root.mkdir()
    source = random.Random(1)
    for number in range(60):
        (root / f"{number:02}").write_bytes(source.randbytes(source.randrange(35 * KIB)))
    return root


@pytest.fixture
def small(tmp_path: Path) -> Path:
    root = tmp_path / "small"
    root.mkdir()
    (root / "f").write_bytes(b"small")
    return root


def used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


@pytest.mark.parametrize("base", [None, "before"])
def test_full_disk_at_every_page_of_a_build(
    base: str | None, tree: Path, small: Path, tmp_path: Path, chosen: Backend
) -> None:
    """Blob, metadata, manifest or index does not fit: one error that names it, the store as it was."""
    options = BuildOptions(base=base)
    with tmpfs(tmp_path / "disk", 8 * MIB) as disk:
        layout = disk / "oci"
        build(small, f"{layout}:before")
        shutil.copytree(layout, tmp_path / "kept")
        before = used(disk)
        build(tree, f"{layout}:t", options)
        after = used(disk)
        named = []
        for size in sorted({*range(before + PAGE, after, 25 * PAGE), *range(after - 13 * PAGE, after + PAGE, PAGE)}):
            shutil.rmtree(layout)
            shutil.copytree(tmp_path / "kept", layout)
            resize(disk, size)
            with pytest.raises(StoreError, match=FULL) as caught:
                build(tree, f"{layout}:t", options)
            assert_clean(layout, ["before"])
            named.append(os.path.relpath(caught.value.path, os.fsencode(layout)))
            resize(disk, 8 * MIB)
        build(tree, f"{layout}:t", options)
        assert_clean(layout, ["before", "t"])
    assert named[-1] == b"index.json"
    assert all(name.startswith(b"blobs/") for name in named[:-1]), named


def test_full_disk_is_said_in_one_line(tree: Path, small: Path, tmp_path: Path, backend_name: str) -> None:
    with tmpfs(tmp_path / "disk", 600 * KIB) as disk:
        build(small, f"{disk}/oci:t")
        assert failed("build", tree, f"{disk}/oci:t", backend=backend_name, reason=FULL).startswith(
            f"{disk}/oci/blobs/"
        )
        assert_clean(disk / "oci", ["t"])


def test_full_disk_of_an_extraction(tree: Path, tmp_path: Path, backend_name: str) -> None:
    name = f"{tmp_path}/oci:t"
    build(tree, name)
    with tmpfs(tmp_path / "disk", 600 * KIB) as disk:
        out = disk / "out"
        assert os.path.dirname(failed("extract", name, out, backend=backend_name, reason=FULL)) == str(out)
    assert_clean(tmp_path / "oci", ["t"])


def test_limit_of_file_sizes(tree: Path, small: Path, tmp_path: Path, backend_name: str) -> None:
    """A limit that a blob, or a file that is unpacked, exceeds (EFBIG)."""
    layout = tmp_path / "oci"
    build(small, f"{layout}:t")
    named = failed("build", tree, f"{layout}:t", backend=backend_name, reason=LARGE, limit=16 * KIB)
    assert named.startswith(f"{layout}/blobs/")
    assert_clean(layout, ["t"])
    build(tree, f"{layout}:t")
    named = failed("extract", f"{layout}:t", tmp_path / "out", backend=backend_name, reason=LARGE, limit=16 * KIB)
    assert os.path.dirname(named) == f"{tmp_path}/out"


@contextmanager
def disk_of_file(image: Path, place: Path) -> Iterator[Path]:
    """Mount an ext4 filesystem that lies in a file."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with filesystem(place, "-o", "loop", str(image)) as disk:
        yield disk


def test_tree_that_cannot_be_read(small: Path, tmp_path: Path, backend_name: str) -> None:
    """The disk beneath the tree fails (EIO): the file in the tree is named."""
    layout = tmp_path / "oci"
    build(small, f"{layout}:t")
    with disk_of_file(tmp_path / "image", tmp_path / "disk") as disk:
        (disk / "f").write_bytes(os.urandom(8 * MIB))
        lose(tmp_path / "image", disk)
        assert failed("build", disk, f"{layout}:t", backend=backend_name, reason=BROKEN) == "f"
    assert_clean(layout, ["t"])


def test_blob_that_cannot_be_read(tree: Path, tmp_path: Path, backend_name: str) -> None:
    """The disk beneath the blobs of files fails (EIO): whoever reads one says so and names it."""
    layout = tmp_path / "oci"
    build(tree, f"{layout}:t")
    with disk_of_file(tmp_path / "image", tmp_path / "disk") as disk:
        (disk / "filler").write_bytes(os.urandom(6 * MIB))
        for layer in Image.open(f"{layout}:t").manifest.layers[1:]:
            place = layout / "blobs" / "sha256" / layer.raw_digest.hex()
            shutil.move(place, disk)
            place.symlink_to(disk / place.name)
        lose(tmp_path / "image", disk)
        for words in (
            ["extract", f"{layout}:t", tmp_path / "out"],
            ["verify", f"{layout}:t"],
            ["verify", "--all", layout],
        ):
            finished = run_puzzlefs(*words, backend=backend_name, check=False)
            lines = finished.stderr.decode().splitlines()
            assert finished.returncode == 3, lines
            assert lines and all("sha256:" in line and f"cannot be read: {BROKEN}" in line for line in lines), lines


class Disk:
    """An ext4 filesystem on a device that can be made to lose its end: what lies there gives EIO."""

    def __init__(self, home: Path) -> None:
        self.place = home / "disk"
        self.image = home / "image"
        with self.image.open("wb") as file:
            file.truncate(64 * MIB)
        # Without a journal it goes on after an error, as one on a disk with a bad block does.
        subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", self.image], check=True)
        found = subprocess.run(
            ["losetup", "--find", "--show", self.image], check=False, capture_output=True, encoding="utf-8"
        )
        if found.returncode != 0:
            pytest.skip(f"cannot make a block device: {found.stderr.strip()}")
        self.device = found.stdout.strip()

    def resize(self, size: int) -> None:
        os.truncate(self.image, size)
        subprocess.run(["losetup", "--set-capacity", self.device], check=True)

    def detach(self) -> None:
        subprocess.run(["losetup", "--detach", self.device], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    requires_root()
    disk = Disk(tmp_path)
    yield disk
    disk.detach()


@pytest.mark.parametrize("when", ["write", "sync"])
def test_blobs_that_cannot_be_written(when: str, disk: Disk, small: Path, tmp_path: Path, backend_name: str) -> None:
    """The disk beneath the store fails while a build writes (EIO): one sentence, no tag, and once the disk
    is well again a valid store, upon which the same build succeeds."""
    tree = tmp_path / "tree"
    tree.mkdir()
    source = random.Random(7)
    for number in range(16):
        (tree / str(number)).write_bytes(source.randbytes(MIB))
    options = ["-o", "sync"] if when == "write" else []
    layout = disk.place / "oci"
    with filesystem(disk.place, *options, disk.device):
        build(small, f"{layout}:t")
        subprocess.run(["sync", "-f", disk.place], check=True)
        disk.resize(12 * MIB)
        assert failed("build", tree, f"{layout}:lost", backend=backend_name, reason=BROKEN).startswith(str(layout))
        disk.resize(64 * MIB)
    disk.place.rmdir()
    with filesystem(disk.place, disk.device):
        assert_clean(layout, ["t"])
        build(tree, f"{layout}:lost")
        assert_clean(layout, ["t", "lost"])


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_document_that_cannot_be_read(name: str, small: Path, tmp_path: Path, backend_name: str) -> None:
    """A process's memory is a regular file whose first page gives EIO."""
    layout = tmp_path / "oci"
    build(small, f"{layout}:t")
    (layout / name).unlink()
    (layout / name).symlink_to("/proc/self/mem")
    for words in (["ls", f"{layout}:t"], ["build", small, f"{layout}:u"], ["verify", "--all", layout]):
        assert failed(*words, backend=backend_name, reason=BROKEN) == str(layout / name)


def lose(image: Path, disk: Path) -> None:
    """Take the blocks of the second half away from beneath a filesystem."""
    subprocess.run(["sync", "-f", disk], check=True)
    os.truncate(image, 6 * MIB)
    Path("/proc/sys/vm/drop_caches").write_text("3")
