"""An upper directory committed is what a build of the overlay's mountpoint would have been, inode for inode."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from puzzlefs._native import Backend
from puzzlefs.builder import BuildOptions, build
from puzzlefs.commit import commit
from puzzlefs.errors import BuildError, UsageError
from puzzlefs.image import Image
from puzzlefs.names import ImageName
from puzzlefs.overlay import recorded_base
from puzzlefs.unmount import unmount
from puzzlefs.writable import mount_writable
from tests.described import differing
from tests.mounts import NOBODY, mounted, requires_fuse, run_as_nobody
from tests.support import puzzlefs, requires_root, run_puzzlefs

OURS = "index=off,metacopy=off,redirect_dir=off"
RENAMING = "index=off,metacopy=on,redirect_dir=on"


@pytest.fixture(autouse=True)
def _root() -> None:
    requires_root()
    requires_fuse()


@pytest.fixture
def base(tmp_path: Path) -> Image:
    """An image of some of everything."""
    tree = tmp_path / "tree"
    for name in ("etc", "usr/share/doc/x", "usr/lib", "var/empty"):
        (tree / name).mkdir(parents=True)
    for number, name in enumerate(("etc/a", "etc/b", "usr/share/doc/x/f", "usr/lib/l", "usr/lib/m", "top")):
        (tree / name).write_bytes(name.encode() * 9000)
        os.chown(tree / name, number, 10 * number)
    (tree / "etc/linked").hardlink_to(tree / "etc/a")
    (tree / "usr/lib/linked").hardlink_to(tree / "etc/a")
    (tree / "link").symlink_to("etc/a")
    os.mkfifo(tree / "pipe")
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    os.setxattr(tree / "usr/lib/l", "user.kept", b"value")
    build(tree, f"{tmp_path}/oci:base")
    return Image.open(f"{tmp_path}/oci:base")


@contextmanager
def overlaid(base: Image, home: Path, options: str) -> Iterator[Path]:
    """Lay the kernel's overlay over an image for a while, its upper directory at `home`/upper."""
    for name in ("upper", "work", "root"):
        (home / name).mkdir(parents=True, exist_ok=True)
    os.chmod(home / "upper", 0o755)
    with mounted(str(base.name), home / "lower", options=["suid", "dev"], allow_other=True) as lower:
        places = f"lowerdir={lower},upperdir={home}/upper,workdir={home}/work"
        subprocess.run(["mount", "-t", "overlay", "o", "-o", f"{places},{options}", home / "root"], check=True)
        try:
            yield home / "root"
        finally:
            subprocess.run(["umount", home / "root"], check=True)


def change_much(root: Path) -> None:
    """Change a tree in every way that an overlay has a mark for, and others."""
    (root / "new").write_bytes(b"new" * 30_000)
    (root / "etc/new").mkdir()
    (root / "etc/new/file").write_bytes(b"in a new directory")
    with (root / "etc/b").open("ab") as file:
        file.write(b"more")
    (root / "top").unlink()
    shutil.rmtree(root / "var")
    shutil.rmtree(root / "usr/share/doc")
    (root / "usr/share/doc").mkdir(mode=0o700)
    (root / "usr/share/doc/again").write_bytes(b"a directory made again is opaque")
    (root / "etc/a").chmod(0o600)
    (root / "usr/lib/l").chmod(0o4711)
    os.chown(root / "usr/lib/m", 1234, 5678)
    (root / "link").unlink()
    (root / "link").mkdir()
    (root / "link/below").symlink_to("/etc/../x")
    (root / "pipe").unlink()
    (root / "pipe").write_bytes(b"a file now")
    os.mknod(root / "zero", 0o20600, os.makedev(1, 5))
    os.setxattr(root / "new", "user.mine", b"1")
    (root / "one").write_bytes(b"two names")
    (root / "etc/two").hardlink_to(root / "one")
    os.utime(root / "one", ns=(0, 1_234_567_890_123_456_789))


def assert_same(home: Path) -> None:
    """The image that was committed is the one that was built, the numbers of its inodes too."""
    one, other = (Image.open(f"{home}/oci:{tag}") for tag in ("committed", "built"))
    assert differing(one, other) == []
    assert list(one.walk()) == list(other.walk())
    assert one.verify().problems == []


def committed(upper: Path, base: Image, **options: Any) -> None:
    commit(upper, base, ImageName(base.name.directory, "committed"), **options)


@pytest.mark.parametrize("options", [OURS, RENAMING])
def test_it_is_what_a_build_of_the_mount_would_be(options: str, base: Image, tmp_path: Path, chosen: Backend) -> None:
    """Numbers, kinds, modes, owners, times, links, attributes and contents."""
    with overlaid(base, tmp_path / "o", options) as root:
        change_much(root)
        build(root, f"{tmp_path}/oci:built", BuildOptions(base="base"))
        committed(tmp_path / "o/upper", base)
    assert_same(tmp_path)


def test_marks_in_user_attributes(base: Image, tmp_path: Path) -> None:
    with overlaid(base, tmp_path / "o", "userxattr") as root:
        change_much(root)
        build(root, f"{tmp_path}/oci:built", BuildOptions(base="base"))
        committed(tmp_path / "o/upper", base, user_marks=True)
    assert_same(tmp_path)


def test_renamed_directories_and_files_whose_contents_are_below(base: Image, tmp_path: Path, chosen: Backend) -> None:
    """Redirects are followed in the image; the contents of such a file are not stored again."""
    with overlaid(base, tmp_path / "o", RENAMING) as root:
        (root / "usr/lib").rename(root / "usr/lib64")
        (root / "usr/share/doc").rename(root / "doc")
        (root / "doc/x").rename(root / "doc/y")
        (root / "doc/y/new").write_bytes(b"new")
        (root / "etc/b").chmod(0o640)
        (root / "top").chmod(0o600)
        (root / "top").rename(root / "var/bottom")
        build(root, f"{tmp_path}/oci:built", BuildOptions(base="base"))
        committed(tmp_path / "o/upper", base)
    marked = [path for path in (tmp_path / "o/upper").rglob("*") if marks_of(path)]
    assert {mark for path in marked for mark in marks_of(path)} >= {"redirect", "metacopy"}
    assert_same(tmp_path)


def marks_of(path: Path) -> list[str]:
    """Return the kernel's marks of a path."""
    names = os.listxattr(path, follow_symlinks=False)
    return [name.removeprefix("trusted.overlay.") for name in names if name.startswith("trusted.overlay.")]


def test_whiteouts_in_attributes(base: Image, tmp_path: Path) -> None:
    """The other form of a whiteout: an empty file with a mark."""
    (tmp_path / "upper/etc").mkdir(parents=True)
    for name, size in (("b", 0), ("a", 1)):
        (tmp_path / "upper/etc" / name).write_bytes(bytes(size))
        os.setxattr(tmp_path / "upper/etc" / name, "trusted.overlay.whiteout", b"y")
    committed(tmp_path / "upper", base)
    image = Image.open(f"{tmp_path}/oci:committed")
    assert b"etc/b" not in dict(image.walk())
    assert image.open("etc/a").read() == b"\0"


def test_a_directory_that_two_were_renamed_from(base: Image, tmp_path: Path) -> None:
    """Both have what it had: an image's directory has one place, so one is a copy."""
    for name in ("one", "two"):
        (tmp_path / "upper" / name).mkdir(parents=True)
        os.setxattr(tmp_path / "upper" / name, "trusted.overlay.redirect", b"/usr")
    committed(tmp_path / "upper", base)
    for name in ("usr", "one", "two"):
        assert Image.open(f"{tmp_path}/oci:committed").open(f"{name}/lib/m").read() == b"usr/lib/m" * 9000


@pytest.mark.parametrize("mark", [b"/absent", b"..", b"/usr/../etc", b"/etc/a/x", b"/usr/\0"])
def test_marks_that_lead_nowhere(mark: bytes, base: Image, tmp_path: Path) -> None:
    """One sentence; no tag."""
    (tmp_path / "upper/d").mkdir(parents=True)
    os.setxattr(tmp_path / "upper/d", "trusted.overlay.redirect", mark)
    with pytest.raises(BuildError, match="which it was renamed from, is not in the base"):
        committed(tmp_path / "upper", base)
    assert [tag for tag, _ in base.store.tags()] == ["base"]


def test_contents_that_are_not_below(base: Image, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper/absent").write_bytes(b"")
    os.setxattr(tmp_path / "upper/absent", "trusted.overlay.metacopy", b"")
    with pytest.raises(BuildError, match="absent: the file below that has its contents"):
        committed(tmp_path / "upper", base)


def test_the_image_must_be_in_the_store_of_the_base(base: Image, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    with pytest.raises(UsageError, match="is in another store"):
        commit(tmp_path / "upper", base, ImageName(f"{tmp_path}/other", "t"))


def test_command_line(base: Image, tmp_path: Path, backend_name: str) -> None:
    """A writable mount is committed as it is mounted, and its upper directory afterwards, upon the base it had."""
    (tmp_path / "m").mkdir()
    name = f"{tmp_path}/oci"
    puzzlefs("mount", "-w", "-p", tmp_path / "upper", f"{name}:base", tmp_path / "m", backend=backend_name)
    try:
        (tmp_path / "m/new").write_bytes(b"new")
        said = puzzlefs("commit", "--cmd", "sh -l", tmp_path / "m", f"{name}:mounted", backend=backend_name)
    finally:
        puzzlefs("umount", tmp_path / "m", backend=backend_name)
    image = Image.open(f"{name}:mounted")
    assert said == f"puzzlefs image manifest digest: {image.verity}\n"
    assert image.open("new").read() == b"new"
    assert image.config is not None and image.config["config"]["Cmd"] == ["sh", "-l"]
    puzzlefs("commit", "--cmd", "sh -l", tmp_path / "upper", f"{name}:later", backend=backend_name)
    assert Image.open(f"{name}:later").descriptor.digest == image.descriptor.digest


def test_an_upper_directory_under_its_mount(base: Image, tmp_path: Path, backend_name: str) -> None:
    """Without `--persist` it is in the mountpoint, hidden by the mount, which goes on as it was."""
    place = tmp_path / "m"
    place.mkdir()
    puzzlefs("mount", "-w", f"{tmp_path}/oci:base", place, backend=backend_name)
    try:
        (place / "new").write_bytes(b"new")
        puzzlefs("commit", place, f"{tmp_path}/oci:committed", backend=backend_name)
        assert (place / "new").read_bytes() == b"new"
    finally:
        puzzlefs("umount", place, backend=backend_name)
    assert Image.open(f"{tmp_path}/oci:committed").open("new").read() == b"new"


def test_command_line_says_what_is_wrong(base: Image, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    absent, upper, proc = tmp_path / "absent", tmp_path / "upper", Path("/proc")
    for place, code, text in (
        (absent, 2, f"{absent}: neither a mount nor a directory"),
        (upper, 2, f"{upper}: nothing says which image is below; name its tag with --base"),
        (proc, 6, "/proc: a mount of type proc, not a writable one; name its upper directory"),
    ):
        done = run_puzzlefs("commit", place, f"{tmp_path}/oci:t", check=False)
        assert (done.returncode, done.stderr.decode()) == (code, f"puzzlefs: {text}\n")


def test_an_upper_directory_knows_its_base(base: Image, tmp_path: Path) -> None:
    """A writable mount notes it, where nobody sees it in the mount."""
    (tmp_path / "m").mkdir()
    mount_writable(base, tmp_path / "m", persist=tmp_path / "upper")
    try:
        assert [name for name in os.listxattr(tmp_path / "m") if "puzzlefs" in name] == []
    finally:
        unmount(tmp_path / "m")
    assert recorded_base(str(tmp_path / "upper")) == f"{tmp_path}/oci@{base.descriptor.digest}"
    committed(tmp_path / "upper", base)
    assert differing(f"{tmp_path}/oci:committed", f"{tmp_path}/oci:base") == []


CHANGED = """
import os, shutil, sys
from puzzlefs.cli import main
from puzzlefs.image import Image
from puzzlefs.unmount import unmount
from puzzlefs.writable import mount_writable
image, home = sys.argv[1:3]
place, upper = home + "/m", home + "/upper"
os.mkdir(place)
mount_writable(Image.open(image), place, persist=upper)
try:
    shutil.rmtree(place + "/d")
    os.mkdir(place + "/d")
    open(place + "/d/new", "w").close()
    os.unlink(place + "/gone")
finally:
    unmount(place)
sys.exit(main(["commit", upper, image.rpartition(":")[0] + ":committed"]))
"""


def test_an_ordinary_users_overlay(tmp_path: Path) -> None:
    """By fuse-overlayfs, which marks in its own way what it hides."""
    if shutil.which("fuse-overlayfs") is None:
        pytest.skip("needs fuse-overlayfs")
    home, tree = tmp_path / "home", tmp_path / "tree"
    home.mkdir()
    (tree / "d").mkdir(parents=True)
    for name in ("d/old", "gone", "kept"):
        (tree / name).write_bytes(b"content")
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", tree], check=True)
    build(tree, f"{home}/oci:base")
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", home], check=True)
    done = run_as_nobody(tmp_path, CHANGED, f"{home}/oci:base", home)
    assert done.returncode == 0, done.stderr
    assert [path for path, _ in Image.open(f"{home}/oci:committed").walk()] == [b"d", b"d/new", b"kept"]


def test_whiteouts_in_names(base: Image, tmp_path: Path) -> None:
    """Of filesystems that refuse devices and attributes; a name that is there is not hidden by its mark."""
    (tmp_path / "upper/usr/lib").mkdir(parents=True)
    for name in ("usr/.wh..wh..opq", "etc/.wh.a", "etc/.wh.b", "etc/b", ".wh.top"):
        (tmp_path / "upper" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "upper" / name).write_bytes(b"")
    committed(tmp_path / "upper", base, user_marks=True)
    names = {path for path, _ in Image.open(f"{tmp_path}/oci:committed").walk()}
    assert {name for name in names if name.startswith(b"usr")} == {b"usr", b"usr/lib"}
    assert names & {b"etc/a", b"etc/b", b"etc/linked", b"top"} == {b"etc/b", b"etc/linked"}


def test_reproducible(base: Image, tmp_path: Path) -> None:
    """One digest by both backends, of files that were written at different times."""
    said = set()
    for name in ("rust", "python"):
        upper = tmp_path / name
        (upper / "etc").mkdir(parents=True)
        (upper / "etc/a").write_bytes(b"new")
        os.mknod(upper / "top", 0o20000, os.makedev(0, 0))
        words = ["commit", "-b", "base", upper, f"{tmp_path}/oci:t"]
        done = run_puzzlefs(*words, backend=name, environment={"SOURCE_DATE_EPOCH": "1700000000"})
        said.add(done.stdout)
    assert len(said) == 1
