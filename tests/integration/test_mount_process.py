"""The process of a mount: how it starts, fails, says so, ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzlefs import mountinfo
from puzzlefs.errors import MountError, UsageError
from puzzlefs.image import Image
from puzzlefs.mount import DAEMON, mount
from puzzlefs.unmount import unmount
from tests.conftest import Backends
from tests.images import craft, directory, file_of
from tests.mounts import mounted, requires_fuse, run_as_nobody
from tests.support import requires_root

PACKAGES = str(Path(__file__).parents[2] / "python")

MOUNT = """
import sys
from puzzlefs.image import Image
from puzzlefs.mount import mount
mount(Image.open(sys.argv[1]), sys.argv[2], foreground=sys.argv[3:4] == ["foreground"], fifo=sys.argv[4] if sys.argv[4:] else None)
print("mounted")
"""


@pytest.fixture
def image(tmp_path: Path) -> str:
    """An image with one file, f."""
    requires_fuse()
    return craft(tmp_path / "oci", [directory(1, (b"f", 2)), file_of(2, b"content")], [b"content"]).name


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A place to mount on."""
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": PACKAGES}


def servers(mountpoint: Path) -> list[int]:
    """Return the processes that serve a mountpoint."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if DAEMON.encode() in line and os.fsencode(mountpoint) in line:
            found.append(int(process.name))
    return found


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for a fact, ten seconds at most."""
    end = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_caller_ends_while_the_mount_lives(image: str, place: Path) -> None:
    """Nothing of the caller is held: its output ends with it."""
    finished = subprocess.run(
        [sys.executable, "-c", MOUNT, image, place],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    try:
        assert (finished.returncode, finished.stdout) == (0, "mounted\n"), finished.stderr
        assert (place / "f").read_bytes() == b"content"
        (server,) = servers(place)
        assert {os.readlink(f"/proc/{server}/fd/{number}") for number in range(3)} == {"/dev/null"}
        assert os.readlink(f"/proc/{server}/cwd") == "/"
        assert os.getsid(server) != os.getsid(0)
    finally:
        unmount(place)
    assert servers(place) == []


def test_caller_has_no_child_left(image: str, place: Path) -> None:
    """A long-lived caller collects no dead processes."""
    with mounted(image, place):
        children = Path("/proc/self/task").glob("*/children")
        assert not any(set(task.read_text().split()) & {str(pid) for pid in servers(place)} for task in children)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_unmounts(image: str, place: Path, signum: signal.Signals) -> None:
    mount(Image.open(image), place)
    (server,) = servers(place)
    os.kill(server, signum)
    eventually(lambda: not servers(place))
    assert mountinfo.topmost(place) is None


def test_foreground_ends_with_the_mount(image: str, place: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", MOUNT, image, place, "foreground"], env=environment(), stdout=subprocess.PIPE, text=True
    )
    eventually(lambda: mountinfo.topmost(place) is not None)
    assert (place / "f").read_bytes() == b"content"
    unmount(place)
    assert process.communicate(timeout=10)[0] == "mounted\n"
    assert process.returncode == 0


def test_relative_names_and_links_to_the_place(
    image: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process works elsewhere, and a link to the place is as good as its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("m")
    mount(Image.open("./oci:t"), "link")
    assert (place / "f").read_bytes() == b"content"
    unmount("link")
    assert mountinfo.topmost(place) is None


def test_directory_of_the_caller_is_not_searched_for_modules(
    image: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trio.py").write_text("raise SystemExit('the wrong trio')")
    monkeypatch.chdir(tmp_path)
    with mounted(image, place):
        assert (place / "f").read_bytes() == b"content"


def test_tag_that_moves_meanwhile_is_not_followed(image: str, place: Path, tmp_path: Path) -> None:
    """What is mounted is the manifest that the caller opened."""
    opened = Image.open(image)
    craft(tmp_path / "oci", [directory(1, (b"other", 2)), file_of(2, b"")])
    mount(opened, place)
    assert os.listdir(place) == ["f"]
    unmount(place)


@pytest.mark.parametrize("foreground", [False, True])
def test_reason_of_a_failure_comes_back(image: str, place: Path, foreground: bool) -> None:
    """A damaged image, an option that nobody knows: the error says so, and nothing is mounted."""
    with pytest.raises(MountError, match=r"unknown option.*no-such-option"):
        mount(Image.open(image), place, options=["no-such-option"], foreground=foreground)
    opened = Image.open(image)
    rootfs = opened.blobs / opened.manifest.rootfs.raw_digest.hex()
    rootfs.write_bytes(rootfs.read_bytes()[:-1] + b"!")
    with pytest.raises(Exception, match=f"blob sha256:{rootfs.name}: content does not match the digest"):
        mount(opened, place, foreground=foreground)
    assert mountinfo.topmost(place) is None
    assert servers(place) == []


def test_process_that_dies_is_an_error(image: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word the pipe just ends."""
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    with pytest.raises(MountError, match="ended without a word"):
        mount(Image.open(image), place)


def test_mountpoint_must_be_a_directory(image: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "absent"):
        with pytest.raises(MountError, match=f"{name}: not a directory"):
            mount(Image.open(image), tmp_path / name)


@pytest.mark.parametrize("option", ["rw", "a\nb", "ü"])
def test_option_that_cannot_be(image: str, place: Path, option: str) -> None:
    with pytest.raises(UsageError, match="mount option"):
        mount(Image.open(image), place, options=[option])


def test_options_reach_the_kernel(image: str, place: Path) -> None:
    requires_root()
    mount(Image.open(image), place, options=["suid,dev", "noexec"])
    flags = os.statvfs(place).f_flag
    unmount(place)
    assert flags & os.ST_NOEXEC
    assert not flags & (os.ST_NOSUID | os.ST_NODEV)


@pytest.mark.parametrize(("name", "letter"), [("m", b"s"), ("absent", b"f")])
@pytest.mark.parametrize("mode", ["background", "foreground"])
def test_named_pipe_is_told(image: str, place: Path, tmp_path: Path, name: str, letter: bytes, mode: str) -> None:
    """One letter, also where the reader comes late."""
    os.mkfifo(tmp_path / "pipe")
    process = subprocess.Popen(
        [sys.executable, "-c", MOUNT, image, tmp_path / name, mode, "pipe"],
        env=environment(),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.3)
    assert (tmp_path / "pipe").read_bytes() == letter
    if letter == b"s":
        unmount(place)
    assert process.wait(timeout=10) == (0 if letter == b"s" else 1)


def test_foreground_in_a_thread(image: str, place: Path) -> None:
    """Signals are the main thread's, but a mount can be served in any."""
    thread = threading.Thread(target=mount, args=(Image.open(image), place), kwargs={"foreground": True})
    thread.start()
    eventually(lambda: mountinfo.topmost(place) is not None)
    # By another process: this one's interpreter may be what answers.
    assert subprocess.run(["cat", place / "f"], capture_output=True, check=True).stdout == b"content"
    subprocess.run(["umount", place], check=True)
    thread.join(10)
    assert not thread.is_alive()


def test_mount_in_use_stays_until_it_is_not(image: str, place: Path) -> None:
    mount(Image.open(image), place)
    with (place / "f").open("rb") as file:
        with pytest.raises(MountError, match="in use"):
            unmount(place)
        assert file.read() == b"content"
    unmount(place)
    assert mountinfo.topmost(place) is None


def test_lazy_unmount_leaves_the_tree_at_once(image: str, place: Path) -> None:
    mount(Image.open(image), place)
    with (place / "f").open("rb") as file:
        unmount(place, lazy=True)
        assert mountinfo.topmost(place) is None
        assert file.read() == b"content"
    eventually(lambda: not servers(place))


def test_killed_server_can_be_unmounted(image: str, place: Path) -> None:
    """The mount is dead, its place cannot even be looked at; unmounting gives it back."""
    mount(Image.open(image), place)
    (server,) = servers(place)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not servers(place))
    with pytest.raises(OSError):
        os.listdir(place)
    unmount(place)
    assert os.listdir(place) == []


def test_mounts_on_one_another(image: str, place: Path, tmp_path: Path) -> None:
    """The topmost goes first, the one under it is seen again."""
    second = craft(tmp_path / "oci2", [directory(1, (b"g", 2)), file_of(2, b"")]).name
    mount(Image.open(image), place)
    mount(Image.open(second), place)
    assert os.listdir(place) == ["g"]
    unmount(place)
    assert os.listdir(place) == ["f"]
    unmount(place)
    assert os.listdir(place) == []


def test_overlay_goes_with_what_it_lies_on(image: str, place: Path, tmp_path: Path) -> None:
    requires_root()
    for name in ("upper", "work", "over lay"):
        (tmp_path / name).mkdir()
    mount(Image.open(image), place)
    over = tmp_path / "over lay"
    options = f"lowerdir={place},upperdir={tmp_path / 'upper'},workdir={tmp_path / 'work'}"
    done = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, over], capture_output=True, check=False)
    if done.returncode != 0:
        unmount(place)
        pytest.skip(f"no overlay here: {done.stderr.decode()}")
    (over / "new").write_bytes(b"new")
    (over / "f").write_bytes(b"changed")
    assert (place / "f").read_bytes() == b"content"
    unmount(over)
    assert mountinfo.topmost(over) is None
    assert mountinfo.topmost(place) is None
    assert (tmp_path / "upper" / "f").read_bytes() == b"changed"


ROOTLESS = """
import os, sys
from pathlib import Path
from puzzlefs import mountinfo
from puzzlefs.image import Image
from puzzlefs.mount import mount
from puzzlefs.unmount import unmount
assert os.geteuid() != 0
place = Path(sys.argv[2])
mount(Image.open(sys.argv[1]), place)
assert (place / "f").read_bytes() == b"content"
unmount(place)
assert mountinfo.topmost(place) is None
print("done")
"""


def test_without_privilege(image: str, tmp_path: Path) -> None:
    """Through fusermount3, in a private table of mounts where everybody may open /dev/fuse."""
    place = tmp_path / "home"
    place.mkdir()
    finished = run_as_nobody(tmp_path, ROOTLESS, image, place)
    assert finished.stdout == "done\n", finished.stderr


LIGHTLY = """
import sys
from puzzlefs import kernel_mount
from puzzlefs._native import load
from puzzlefs.errors import MountError
server = load("rust").FuseServer
try:
    kernel_mount.mount(server, "name", "/")
except MountError as error:
    print(error)
print(kernel_mount.mount(server, "name", sys.argv[2]) > 2)
print({"enum", "selectors", "shutil", "socket", "subprocess"} & sys.modules.keys())
"""


def test_without_privilege_it_is_as_light(image: str, backends: Backends, tmp_path: Path) -> None:
    """What fusermount3 refuses is told, what it mounts is taken, and no module is loaded that root's mount is without."""
    place = tmp_path / "home"
    place.mkdir()
    finished = run_as_nobody(tmp_path, LIGHTLY, image, place)
    said = finished.stdout.splitlines()
    assert said[1:] == ["True", "set()"], finished.stderr
    assert said[0].startswith("/: ") and "fusermount3: " in said[0]
