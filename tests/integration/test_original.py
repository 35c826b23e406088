"""Images travel between this project and the original PuzzleFS, both ways.

The original is found by $PUZZLEFS_ORIGINAL or as `puzzlefs-original` on PATH; without it everything
here is skipped. $PUZZLEFS_ROOTFS may name a real root filesystem to use beside the golden trees.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from puzzlefs import records
from puzzlefs.image import Image
from tests.support import puzzlefs, read_manifest, requires_root, run_program
from tools.compare_trees import differences

TREES = ("empty", "kinds", "chunks", "text", "wide")
FORMS = {
    "raw": ("--pack-size", "0"),
    "compressed": ("-c", "--pack-size", "0"),
    "raw packs": ("--pack-size", "256K"),
    "packs": ("-c", "--pack-size", "2M"),
}
# What the original's mount does not tell: link counts, times and device numbers are 0, a link's size too.
NOT_REPORTED = {"nlink", "mtime_ns", "rdev", "size"}
READY_SECONDS = 20


def find_original() -> str | None:
    candidates = (os.environ.get("PUZZLEFS_ORIGINAL"), "puzzlefs-original", "/tmp/peer/orig/bin/puzzlefs")
    return next((found for name in candidates if name and (found := shutil.which(name))), None)


ORIGINAL = find_original()
pytestmark = pytest.mark.skipif(
    ORIGINAL is None, reason="the original is not installed: neither $PUZZLEFS_ORIGINAL nor puzzlefs-original"
)


def original(*words: object) -> str:
    """Run the original, which must succeed; return its standard output."""
    return run_program(ORIGINAL, *words)


@contextmanager
def mounted_by_original(image: str, scratch: Path) -> Iterator[Path]:
    """Mount `image` with the original in the foreground; it says "s" on a FIFO when it is ready."""
    fifo, mountpoint = scratch / "ready", scratch / "mounted-by-original"
    os.mkfifo(fifo)
    mountpoint.mkdir()
    daemon = subprocess.Popen(
        [str(ORIGINAL), "mount", "-f", "-i", fifo, image, mountpoint], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        ready = subprocess.run(["head", "-c", "1", fifo], capture_output=True, timeout=READY_SECONDS, check=True).stdout
        assert ready == b"s"
        yield mountpoint
    finally:
        subprocess.run(["umount", "-l", mountpoint], check=False, capture_output=True)
        daemon.terminate()
        daemon.communicate(timeout=READY_SECONDS)
        fifo.unlink()


@contextmanager
def mounted_by_us(image: str, scratch: Path, backend: str) -> Iterator[Path]:
    mountpoint = scratch / "mounted-by-us"
    mountpoint.mkdir()
    puzzlefs("mount", image, mountpoint, backend=backend)
    try:
        yield mountpoint
    finally:
        puzzlefs("umount", mountpoint)


def requires_fuse() -> None:
    requires_root()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")


def random_tree(root: Path, seed: int, count: int = 300) -> None:
    """Make a tree of every kind of inode with odd names, owners, modes, attributes and hard links."""
    chance = random.Random(seed)
    root.mkdir()
    directories, others = [os.fsencode(root)], list[bytes]()
    for _ in range(count):
        name = bytes(chance.choice(b"abcXYZ019 .-_\n\\\xc3\xff") for _ in range(chance.choice((1, 3, 8, 64, 255))))
        path = chance.choice(directories) + b"/" + name
        if name in (b".", b"..") or os.path.lexists(path):
            continue
        if chance.random() < 0.15:
            os.mkdir(path)
            directories.append(path)
        elif others and chance.random() < 0.12:
            os.link(chance.choice(others), path, follow_symlinks=False)
            continue
        else:
            random_inode(path, chance)
            others.append(path)
        random_attributes(path, chance)


def random_inode(path: bytes, chance: random.Random) -> None:
    kind = chance.random()
    if kind < 0.15:
        os.symlink(b"t" * chance.choice((1, 7, 8, 9, 4000)), path)
    elif kind < 0.2:
        os.mkfifo(path)
    elif kind < 0.25:
        device = os.makedev(chance.randrange(4096), chance.randrange(1 << 20))
        os.mknod(path, chance.choice((stat.S_IFCHR, stat.S_IFBLK)) | 0o600, device)
    elif kind < 0.28:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        with open(path, "wb") as file:
            file.write(chance.randbytes(chance.choice((0, 1, 100, 5_000, 20_000, 100_000, 400_000))))


def random_attributes(path: bytes, chance: random.Random) -> None:
    os.chown(path, chance.randrange(1 << 31), chance.randrange((1 << 32) - 1), follow_symlinks=False)
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return
    os.chmod(path, chance.randrange(0o10000))
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        for name in chance.sample(("user.z", "user.a", "user.middle"), chance.randrange(4)):
            os.setxattr(path, name, chance.randbytes(chance.randrange(20)))


def changed_tree(tree: Path, changed: Path, *, delete: bool) -> None:
    """Copy golden tree `kinds` and change it in every way a delta can tell; deletions only on demand."""
    subprocess.run(["cp", "-a", tree, changed], check=True)
    (changed / "owned").write_bytes(b"other content\n")
    (changed / "0-first").write_bytes(b"sorts before all")
    os.link(changed / "0-first", changed / "a" / "link-to-first")
    os.link(changed / "attr", changed / "0-link-to-attr")
    (changed / "new-dir" / "deep").mkdir(parents=True)
    (changed / "new-dir" / "deep" / "file").write_bytes(b"new")
    (changed / "new-link").symlink_to("hello")
    (changed / "empty").chmod(0o7711)
    os.chown(changed / "dir-attr", 7, 8)
    os.setxattr(changed / "hello", "user.new", b"value")
    if delete:
        shutil.rmtree(changed / "a" / "b")
        (changed / "null").unlink()
        (changed / "zz-last-link").unlink()


def all_files(layout: Path) -> dict[str, bytes]:
    """Return every file of a layout, blobs and documents, by its path."""
    return {str(path.relative_to(layout)): path.read_bytes() for path in layout.rglob("*") if path.is_file()}


def contents(image: Image, tree: Path) -> None:
    """Assert that every regular file of `tree` is in the image with the same bytes, and nothing else is."""
    paths = dict(image.walk())
    expected = {
        os.path.relpath(os.path.join(os.fsencode(top), name), os.fsencode(tree))
        for top, directories, files in os.walk(os.fsencode(tree))
        for name in (*directories, *files)
    }
    assert set(paths) - {b""} == expected
    for path in expected:
        full = os.path.join(os.fsencode(tree), path)
        if stat.S_ISREG(os.lstat(full).st_mode):
            with open(full, "rb") as wanted, image.open(path) as got:
                assert got.read() == wanted.read(), path


@pytest.mark.parametrize("flags", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("tree", TREES)
def test_original_reads_ours(tree: str, flags: tuple[str, ...], golden_trees: Path, tmp_path: Path) -> None:
    """The original mounts our default images: every inode as far as it reports them, every byte."""
    requires_fuse()
    puzzlefs("build", *flags, golden_trees / tree, f"{tmp_path}/oci:v")
    with mounted_by_original(f"{tmp_path}/oci:v", tmp_path) as mountpoint:
        assert differences(golden_trees / tree, mountpoint, NOT_REPORTED) == []


@pytest.mark.parametrize("flags", FORMS.values(), ids=FORMS)
def test_original_reads_our_real_tree(flags: tuple[str, ...], tmp_path: Path) -> None:
    """So it does with a root filesystem ($PUZZLEFS_ROOTFS), or a tree of random inodes."""
    requires_fuse()
    tree = Path(os.environ.get("PUZZLEFS_ROOTFS") or tmp_path / "tree")
    if not tree.exists():
        random_tree(tree, seed=1)
    puzzlefs("build", *flags, tree, f"{tmp_path}/oci:v")
    with mounted_by_original(f"{tmp_path}/oci:v", tmp_path) as mountpoint:
        assert differences(tree, mountpoint, NOT_REPORTED) == []


def test_original_reads_our_delta(golden_trees: Path, tmp_path: Path) -> None:
    """It lists our deltas, deletions included, which it cannot do with its own."""
    requires_fuse()
    changed_tree(golden_trees / "kinds", tmp_path / "changed", delete=True)
    puzzlefs("build", golden_trees / "kinds", f"{tmp_path}/oci:base")
    puzzlefs("build", "-b", "base", tmp_path / "changed", f"{tmp_path}/oci:delta")
    with mounted_by_original(f"{tmp_path}/oci:delta", tmp_path) as mountpoint:
        assert differences(tmp_path / "changed", mountpoint, NOT_REPORTED) == []


def test_runtime_configuration_does_not_disturb_it(golden_trees: Path, tmp_path: Path) -> None:
    """A manifest with a real config, annotations and media types is an image to the original too."""
    requires_fuse()
    puzzlefs("build", "--cmd", "sh", "--annotation", "org.example.a=b", golden_trees / "kinds", f"{tmp_path}/oci:v")
    with mounted_by_original(f"{tmp_path}/oci:v", tmp_path) as mountpoint:
        assert (mountpoint / "hello").read_bytes() == b"hello, world\n"


@pytest.mark.parametrize("flags", [(), ("-c",)], ids=["raw", "compressed"])
@pytest.mark.parametrize("tree", TREES)
def test_we_read_originals(
    tree: str, flags: tuple[str, ...], golden_trees: Path, tmp_path: Path, backend_name: str
) -> None:
    """Our API and our mount give every inode and byte of what it builds (times it does not keep)."""
    name = f"{tmp_path}/oci:v"
    original("build", *flags, golden_trees / tree, name)
    contents(Image.open(name), golden_trees / tree)
    requires_fuse()
    with mounted_by_us(name, tmp_path, backend_name) as mountpoint:
        assert differences(golden_trees / tree, mountpoint, {"mtime_ns"}) == []


def test_we_read_its_deltas(golden_trees: Path, tmp_path: Path) -> None:
    """A directory with whiteouts, which the original itself cannot list, reads right."""
    changed = tmp_path / "changed"
    subprocess.run(["cp", "-a", golden_trees / "kinds", changed], check=True)
    shutil.rmtree(changed / "a" / "b")
    (changed / "null").unlink()
    (changed / "added").write_bytes(b"added")
    original("build", golden_trees / "kinds", f"{tmp_path}/oci:base")
    original("build", "-b", "base", changed, f"{tmp_path}/oci:delta")
    contents(Image.open(f"{tmp_path}/oci:delta"), changed)


@pytest.mark.parametrize("seed", range(3))
def test_upstream_profile_is_identical(seed: int, tmp_path: Path) -> None:
    """Profile upstream gives the bytes the original gives on a random tree: every blob, and index.json."""
    requires_root()
    random_tree(tmp_path / "tree", seed)
    original("build", tmp_path / "tree", f"{tmp_path}/theirs:v")
    printed = puzzlefs("build", "--profile", "upstream", tmp_path / "tree", f"{tmp_path}/ours:v")
    assert printed.split()[-1] == Image.open(f"{tmp_path}/theirs:v").verity
    assert all_files(tmp_path / "ours") == all_files(tmp_path / "theirs")


@pytest.mark.parametrize("tree", TREES)
def test_upstream_profile_is_identical_on_golden_trees(tree: str, golden_trees: Path, tmp_path: Path) -> None:
    """The same on the golden trees, and storing a second tag gives the same index."""
    for tag in ("v", "w", "v"):
        original("build", golden_trees / tree, f"{tmp_path}/theirs:{tag}")
        puzzlefs("build", "--profile", "upstream", golden_trees / tree, f"{tmp_path}/ours:{tag}")
    assert all_files(tmp_path / "ours") == all_files(tmp_path / "theirs")


@pytest.mark.parametrize("delete", [False, True], ids=["additions", "deletions"])
def test_upstream_delta_is_identical(delete: bool, golden_trees: Path, tmp_path: Path) -> None:
    """A delta has the original's bytes too, and a delta upon that one."""
    changed_tree(golden_trees / "kinds", tmp_path / "changed", delete=False)
    last = tmp_path / "changed"
    if delete:
        last = tmp_path / "last"
        subprocess.run(["cp", "-a", tmp_path / "changed", last], check=True)
        shutil.rmtree(last / "new-dir")
        (last / "no-access").rmdir()
    for base, tag, tree in ((None, "a", golden_trees / "kinds"), ("a", "b", tmp_path / "changed"), ("b", "c", last)):
        upon = ("-b", base) if base else ()
        original("build", *upon, tree, f"{tmp_path}/theirs:{tag}")
        puzzlefs("build", "--profile", "upstream", *upon, tree, f"{tmp_path}/ours:{tag}")
    assert all_files(tmp_path / "ours") == all_files(tmp_path / "theirs")


@pytest.mark.parametrize("profile", ["oci", "upstream"])
def test_way_back_is_not_repeated(profile: str, tmp_path: Path) -> None:
    """A tree that returns to an earlier state shows it. (The original leaves out a vector that is equal
    to an older one, and so shows the newer state.)"""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"content")
    base: tuple[str, ...] = ()
    for step, mode in enumerate((0o644, 0o600, 0o640, 0o600)):
        (tree / "file").chmod(mode)
        puzzlefs("build", "--profile", profile, *base, tree, f"{tmp_path}/oci:{step}")
        base = ("-b", str(step))
        image = Image.open(f"{tmp_path}/oci:{step}")
        assert image.index.stat(image.resolve("file"))[2] == mode


def test_flags_of_an_originals_compressed_image(golden_trees: Path, tmp_path: Path) -> None:
    """Its media type says compressed of every chunk; we go by the flag of each and find both sorts."""
    original("build", "-c", golden_trees / "text", f"{tmp_path}/oci:v")
    _, manifest = read_manifest(tmp_path / "oci", "v")
    index = Image.open(f"{tmp_path}/oci:v").index
    files = [ino for ino in index.inodes() if index.stat(ino)[1] == records.Kind.FILE]
    rows = [row for ino in files for row in records.CHUNK.iter_unpack(index.chunks(ino))]
    assert {layer["mediaType"] for layer in manifest["layers"][1:]} == {
        "application/vnd.puzzlefs.image.filedata.v1+zstd"
    }
    assert {flags for _, flags, _, _ in rows} == {0, records.COMPRESSED}
