"""Writable mounts: where changes go, what stays, and that nothing stays mounted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from puzzlefs import mountinfo
from puzzlefs.errors import MountError, UsageError
from puzzlefs.image import Image
from puzzlefs.overlay import lower_directories
from puzzlefs.unmount import unmount
from puzzlefs.writable import mount_writable
from tests.images import craft, directory, file_of
from tests.mounts import requires_fuse, run_as_nobody, with_open_device
from tests.support import puzzlefs, requires_root, run_puzzlefs


@pytest.fixture
def image(tmp_path: Path) -> str:
    """An image with one file, f, and a directory that not everybody may enter."""
    requires_root()
    requires_fuse()
    root = directory(1, (b"d", 2), (b"f", 3), permissions=0o751)
    return craft(tmp_path / "oci", [root, directory(2, permissions=0o700), file_of(3, b"content")], [b"content"]).name


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A place to mount on, empty of mounts at the end."""
    place = tmp_path / "m"
    place.mkdir()
    yield place
    left = under(tmp_path)
    for mount in reversed(left):
        subprocess.run(["umount", "-l", os.fsdecode(mount.mountpoint)], check=False)
    assert left == []


def under(directory: Path) -> list[mountinfo.Mount]:
    """Return the mounts inside a directory."""
    return [mount for mount in mountinfo.mounts() if mount.mountpoint.startswith(os.fsencode(directory))]


def lower_of(place: Path) -> str:
    """Return over what directory the overlay on a place lies."""
    (overlay,) = [mount for mount in under(place) if mount.mountpoint == os.fsencode(place)]
    (lower,) = lower_directories(overlay.options)
    return lower


def is_mounted(place: str) -> bool:
    """Whether something is mounted on a directory, which is there or not."""
    return any(mount.mountpoint == os.fsencode(place) for mount in mountinfo.mounts())


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for a fact, ten seconds at most."""
    end = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_changes_go_to_the_upper_directory(image: str, place: Path, backend_name: str) -> None:
    """The layout of the original: the image on `ro`, an overlay over all, both gone with `umount`."""
    puzzlefs("mount", "--writable", image, place, backend=backend_name)
    assert [(m.kind, os.fsdecode(m.mountpoint)) for m in under(place)] == [
        ("fuse.puzzlefs", f"{place}/ro"),
        ("overlay", str(place)),
    ]
    (place / "new").write_bytes(b"new")
    with (place / "f").open("ab") as file:
        file.write(b" more")
    (place / "d").rmdir()
    puzzlefs("umount", place, backend=backend_name)
    assert under(place) == []
    assert sorted(os.listdir(place)) == ["upper", "work"]
    assert (place / "upper" / "f").read_bytes() == b"content more"
    whiteout = (place / "upper" / "d").stat()
    assert (whiteout.st_rdev, whiteout.st_mode & 0o170000) == (0, 0o020000)
    puzzlefs("mount", "-w", image, place, backend=backend_name)
    assert sorted(os.listdir(place)) == ["f", "new"]
    puzzlefs("umount", place, backend=backend_name)


def test_root_directory_looks_like_that_of_the_image(image: str, place: Path, tmp_path: Path) -> None:
    """But what is done to it later stays."""
    persist = tmp_path / "kept"
    mount_writable(Image.open(image), place, persist=persist)
    assert place.stat().st_mode & 0o7777 == 0o751
    place.chmod(0o711)
    unmount(place)
    mount_writable(Image.open(image), place, persist=persist)
    assert place.stat().st_mode & 0o7777 == 0o711
    unmount(place)


def test_umount_of_the_system_takes_down_both(image: str, place: Path, tmp_path: Path, backend_name: str) -> None:
    """The process of the mount sees that the overlay has gone, and leaves nothing in the mountpoint."""
    puzzlefs("mount", "-p", tmp_path / "kept", image, place, backend=backend_name)
    (place / "new").write_bytes(b"new")
    subprocess.run(["umount", place], check=True)
    eventually(lambda: under(place) == [] and os.listdir(place) == [])
    assert (tmp_path / "kept" / "new").read_bytes() == b"new"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_lost_when_the_process_ends(image: str, place: Path, tmp_path: Path, signum: int) -> None:
    """What was written is there; after a signal it could catch, nothing is mounted either."""
    process = subprocess.Popen([*command("mount", "-f", "-p", tmp_path / "kept", image, place)])
    eventually(lambda: len(under(place)) == 2)
    (place / "new").write_bytes(b"new")
    process.send_signal(signum)
    process.wait(10)
    if signum == signal.SIGKILL:
        assert len(under(place)) == 2
        unmount(place)
    assert under(place) == []
    assert (tmp_path / "kept" / "new").read_bytes() == b"new"
    mount_writable(Image.open(image), place, persist=tmp_path / "kept")
    assert (place / "new").read_bytes() == b"new"
    unmount(place)


def command(*words: object) -> list[str]:
    """Return the program as a command."""
    return [sys.executable, "-m", "puzzlefs", *map(str, words)]


def test_sharing_uses_one_mount_until_the_last_user_leaves(
    image: str, place: Path, tmp_path: Path, backend_name: str
) -> None:
    """Two overlays, one image mounted; whoever leaves last takes it along."""
    second = tmp_path / "second"
    second.mkdir()
    for where, kept in ((place, "a"), (second, "b")):
        puzzlefs("mount", "--share", "-p", tmp_path / kept, image, where, backend=backend_name)
        (where / "new").write_text(kept)
    lower = lower_of(place)
    assert (place / "new").read_text() == "a"
    puzzlefs("umount", place, backend=backend_name)
    assert is_mounted(lower)
    assert (second / "f").read_bytes() == b"content"
    puzzlefs("umount", second, backend=backend_name)
    eventually(lambda: not is_mounted(lower) and not os.path.exists(lower))


def test_shared_mount_goes_with_the_last_overlay_whatever_unmounts_it(image: str, place: Path) -> None:
    mount_writable(Image.open(image), place, share=True)
    lower = lower_of(place)
    subprocess.run(["umount", place], check=True)
    eventually(lambda: not is_mounted(lower) and not os.path.exists(lower))


def test_dead_shared_mount_is_replaced(image: str, place: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    mount_writable(Image.open(image), place, share=True)
    (server,) = [pid for pid, line in processes().items() if str(tmp_path) in line and "daemon" in line]
    os.kill(server, signal.SIGKILL)
    eventually(lambda: server not in processes())
    mount_writable(Image.open(image), second, share=True)
    assert (second / "f").read_bytes() == b"content"
    unmount(second)
    unmount(place, lazy=True)


def processes() -> dict[int, str]:
    """Return the command line of every process."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found[int(process.name)] = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
    return found


def test_upper_directory_has_one_user(image: str, place: Path, tmp_path: Path, backend_name: str) -> None:
    """Two overlays that write to one directory would spoil it."""
    second = tmp_path / "second"
    second.mkdir()
    mount_writable(Image.open(image), place, persist=tmp_path / "kept")
    for share in ((), ("--share",)):
        done = run_puzzlefs("mount", *share, "-p", tmp_path / "kept", image, second, backend=backend_name, check=False)
        assert done.returncode == 6
        assert b"in use by" in done.stderr
        assert done.stderr.count(b"\n") == 1
    assert under(second) == [] and os.listdir(second) == []
    unmount(place)


def test_mount_in_use_stays_as_it_is(image: str, place: Path, tmp_path: Path, backend_name: str) -> None:
    """Both stay mounted and go on working; with --lazy both leave the tree, and who uses them goes on."""
    puzzlefs("mount", "-p", tmp_path / "kept", image, place, backend=backend_name)
    with (place / "f").open("rb") as file:
        done = run_puzzlefs("umount", place, backend=backend_name, check=False)
        assert (done.returncode, done.stderr) == (6, f"puzzlefs: {place}: in use\n".encode())
        assert len(under(place)) == 2
        (place / "new").write_bytes(b"new")
        puzzlefs("umount", "--lazy", place, backend=backend_name)
        assert under(place) == []
        assert file.read() == b"content"
        with pytest.raises(MountError, match="in use by another writable mount"):
            mount_writable(Image.open(image), place, persist=tmp_path / "kept")
    assert (tmp_path / "kept" / "new").read_bytes() == b"new"


def test_place_that_is_mounted_on_already(image: str, place: Path) -> None:
    mount_writable(Image.open(image), place)
    with pytest.raises(MountError, match="is mounted there"):
        mount_writable(Image.open(image), place)
    unmount(place)


def test_upper_directory_on_an_overlay(image: str, place: Path, tmp_path: Path, backend_name: str) -> None:
    """The kernel takes no overlay upon another; the message names the reason, and nothing stays."""
    second = tmp_path / "second"
    second.mkdir()
    mount_writable(Image.open(image), place)
    done = run_puzzlefs("mount", "-p", place / "kept", image, second, backend=backend_name, check=False)
    assert done.returncode == 6
    assert b"filesystem (overlay) that can hold changes" in done.stderr
    assert under(second) == [] and os.listdir(second) == []
    unmount(place)


def test_upper_directory_without_attributes(image: str, place: Path, tmp_path: Path) -> None:
    """The kernel would mount it, and fail only when it has to mark a directory as new."""
    memory = tmp_path / "memory"
    memory.mkdir()
    if subprocess.run(["mount", "-t", "ramfs", "none", memory], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs ramfs")
    try:
        with pytest.raises(MountError, match=r"its filesystem \(ramfs\) cannot hold changes"):
            mount_writable(Image.open(image), place, persist=memory / "kept")
        with pytest.raises(MountError, match="a mountpoint itself cannot hold changes"):
            mount_writable(Image.open(image), place, persist=memory)
        assert os.listdir(memory) == [] and os.listdir(place) == []
    finally:
        subprocess.run(["umount", memory], check=True)


def test_link_in_the_place_of_the_lower_directory_is_not_followed(image: str, place: Path, tmp_path: Path) -> None:
    (place / "ro").symlink_to(tmp_path)
    with pytest.raises(MountError, match="ro: not a directory"):
        mount_writable(Image.open(image), place)
    assert os.listdir(place) == ["ro"]


def test_generic_options_are_those_of_the_overlay(image: str, place: Path) -> None:
    mount_writable(Image.open(image), place, options=["nosuid", "noexec"])
    flags = os.statvfs(place).f_flag
    unmount(place)
    assert flags & os.ST_NOSUID and flags & os.ST_NOEXEC


def test_sharing_has_a_process_of_its_own(image: str, place: Path) -> None:
    with pytest.raises(UsageError, match="shared mount"):
        mount_writable(Image.open(image), place, share=True, foreground=True)


def test_owners_are_shifted(image: str, place: Path, tmp_path: Path, backend_name: str) -> None:
    """In the image and in what is copied up from it; each map is a mount of its own where mounts are shared."""
    second = tmp_path / "second"
    second.mkdir()
    puzzlefs("mount", "--share", "--idmap", "0:1000:10", image, place, backend=backend_name)
    puzzlefs("mount", "--share", image, second, backend=backend_name)
    assert lower_of(place) != lower_of(second)
    assert [(path.stat().st_uid, path.stat().st_gid) for path in (place, place / "f")] == [(1000, 1000)] * 2
    assert second.stat().st_uid == 0
    (place / "f").write_bytes(b"changed")
    puzzlefs("umount", place, backend=backend_name)
    puzzlefs("umount", second, backend=backend_name)
    assert (place / "upper" / "f").stat().st_uid == 1000


def test_names_that_overlays_have_to_escape(image: str, tmp_path: Path) -> None:
    strange = tmp_path / "a,b:c\\d e=f"
    strange.mkdir()
    mount_writable(Image.open(image), strange)
    (strange / "new").write_bytes(b"new")
    unmount(strange)
    assert under(tmp_path) == []
    assert (strange / "upper" / "new").read_bytes() == b"new"


def test_in_a_user_namespace(image: str, place: Path, tmp_path: Path) -> None:
    """Root of a namespace of its own is nobody outside, and still gets a writable mount."""
    script = (
        'puzzlefs="$0 -m puzzlefs"; $puzzlefs mount -w "$1" "$2"; echo new > "$2/new"; rmdir "$2/d";'
        'ls "$2"; $puzzlefs umount "$2"; grep -c "$2" /proc/self/mountinfo || true'
    )
    done = subprocess.run(
        [*with_open_device(tmp_path), "unshare", "-Urm", "sh", "-ec", script, sys.executable, image, place],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "f\nnew\n0\n"), done.stderr
    assert (place / "upper" / "new").read_text() == "new\n"


ROOTLESS = """
import os, sys
from puzzlefs import mountinfo
from puzzlefs.image import Image
from puzzlefs.overlay import lower_directories
from puzzlefs.unmount import unmount
from puzzlefs.writable import mount_writable
home, *places = sys.argv[2:]
os.environ["XDG_RUNTIME_DIR"] = home
for share in (False, True):
    for place in places:
        mount_writable(Image.open(sys.argv[1]), place, share=share)
        with open(f"{place}/new", "w") as file:
            file.write(place)
        assert sorted(os.listdir(place)) == ["d", "f", "new"], os.listdir(place)
    for place in places:
        assert mountinfo.topmost(place).kind == "fuse.fuse-overlayfs"
        unmount(place)
        with open(f"{place}/upper/new") as file:
            assert file.read() == place
assert [mount for mount in mountinfo.mounts() if mount.mountpoint.startswith(home.encode())] == []
print("done")
"""


def test_without_privilege(image: str, tmp_path: Path) -> None:
    """Nobody gets a writable mount by fuse-overlayfs, alone and shared."""
    if shutil.which("fuse-overlayfs") is None:
        pytest.skip("needs fuse-overlayfs")
    places = [tmp_path / "home", tmp_path / "home" / "a", tmp_path / "home" / "b"]
    for place in places:
        place.mkdir()
    done = run_as_nobody(tmp_path, ROOTLESS, image, *places)
    assert done.stdout == "done\n", done.stderr
