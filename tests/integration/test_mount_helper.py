"""mount(8), fstab(5) and systemd: mounts by other programs' rules, in a private table of mounts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from puzzlefs import mountinfo
from puzzlefs.errors import UsageError
from puzzlefs.image import VERIFY_NEVER, Image
from puzzlefs.kernel_mount import process_name
from puzzlefs.mount_helper import Options
from puzzlefs.unmount import unmount
from tests.conftest import Backends
from tests.images import craft, directory, file_of
from tests.mounts import PACKAGES, requires_fuse
from tests.support import puzzlefs, requires_root, run_puzzlefs


class System:
    """A machine with our helpers in /sbin, as far as a table of mounts of its own can make one."""

    def __init__(self, home: Path, image: str) -> None:
        self.home, self.image, self.place = home, image, home / "m"
        for name in ("m", "sbin", "work", "bin"):
            (home / name).mkdir()
        puzzlefs("install-helpers", "--directory", home / "sbin")
        # An overlay takes what is written to it; the host's own directory stays as it is.
        prepare = f"lowerdir=/usr/sbin,upperdir={home}/sbin,workdir={home}/work"
        self.prefix = ["unshare", "-m", "sh", "-ec", f"mount -t overlay sbin -o {prepare} /usr/sbin; $1; exit $?", "sh"]

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell in which $image and $place stand for what they say."""
        return subprocess.run(
            [*self.prefix[:-2], self.prefix[-2].replace("$1", script), "sh"],
            # No PATH that leads to a virtual environment, no variable that names the package.
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "image": self.image, "place": str(self.place)},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def system(tmp_path: Path) -> System:
    """A machine, and an image with one file, f."""
    requires_root()
    requires_fuse()
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs a table of mounts of its own, which a chroot has not")
    root = directory(1, (b"f", 2))
    return System(tmp_path, craft(tmp_path / "oci", [root, file_of(2, b"content")], [b"content"]).name)


@pytest.mark.parametrize("kind", ["puzzlefs", "fuse.puzzlefs"])
def test_mount_by_type(system: System, kind: str) -> None:
    """Read-only, with rights for programs of the image unless denied, as mount(8) has it; umount(8) ends it."""
    done = system.run(
        f"mount -t {kind} $image $place -o ro,nosuid,nodev,nofail,x-foo=bar; cat $place/f; findmnt -n -o FSTYPE,OPTIONS $place;"
        "umount $place; mount -t puzzlefs $image $place -o noatime,cache_size=1M,workers=2,verify=never,idmap=0:7:1;"
        "stat -c %u:%g $place/f; findmnt -n -o VFS-OPTIONS $place; umount $place; findmnt $place || echo gone"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split()
    assert lines[0] == "contentfuse.puzzlefs"
    assert lines[1].startswith("ro,nosuid,nodev,")
    assert lines[2:] == ["7:7", "ro,noatime", "gone"]


def test_writable_mount(system: System) -> None:
    """An overlay that keeps changes; umount(8) takes both down."""
    done = system.run(
        "mount -t puzzlefs $image $place -o persist=kept; echo new > $place/new; umount $place;"
        "for i in $(seq 100); do findmnt $place/ro > /dev/null || break; sleep 0.1; done; ls $place kept"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"{system.place}:", "kept:", "new"]


def test_line_of_fstab(system: System) -> None:
    """By mountpoint alone, with an image's digest and a name that fstab has to escape."""
    layout, tag = system.image.rsplit(":", 1)
    os.rename(layout, system.home / "a store")
    digest = Image.open(f"{system.home}/a store:{tag}").verity
    line = f"{system.home}/a\\040store:{tag} {system.place} fuse.puzzlefs defaults,allow_other,nofail,digest={digest} 0 0\n"
    (system.home / "fstab").write_text(line)
    done = system.run("mount -T fstab $place; cat $place/f; umount $place")
    assert (done.returncode, done.stdout) == (0, "content"), done.stderr


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        ("no-such", 1, "unknown option 'no-such'"),
        ("verify=sometimes", 1, "verify=sometimes"),
        ("cache_size=1T", 1, "cache_size=1T"),
        ("workers=1000", 1, "1000 workers"),
        ("digest=12", 1, "'12' is not a fs-verity digest"),
        (f"digest={'0' * 64}", 32, "the manifest's fs-verity digest is not"),
        ("idmap=0:0", 1, "'0:0' is not a map of owners"),
        ("remount", 2, "cannot be changed"),
        ("persist=/proc/x", 32, "/proc/x: No such file or directory"),
    ],
)
def test_codes_of_mount(system: System, options: str, code: int, sentence: str) -> None:
    """mount(8) has its own: 1 for a wrong call, 2 for what the system lacks, 32 for a failure."""
    done = system.run(f"mount.puzzlefs $image $place -o {options}")
    assert done.returncode == code
    assert sentence in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert os.listdir(system.place) == []


def test_words_that_mount_passes(system: System) -> None:
    """`-s` ignores unknown options, `-f` does all but mount, `-N` works in another table of mounts."""
    done = system.run(
        "mount.puzzlefs $image $place -s -o rw,no-such -n -v; cat $place/f; umount $place;"
        "mount.puzzlefs $image $place -f; findmnt $place || echo fake;"
        "! mount.puzzlefs $image.x $place -f 2> /dev/null;"
        "unshare -m sleep 60 & sleep 0.5; mount.fuse.puzzlefs $image $place -N $! -t fuse.puzzlefs;"
        "cat $place/f 2> /dev/null || echo elsewhere; nsenter -m -t $! cat $place/f;"
        "nsenter -m -t $! umount $place; kill $!"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["contentfake", "elsewhere", "content"]


def test_without_our_helpers(system: System) -> None:
    """mount.fuse runs the program without a verb; it is found in a usual place."""
    for name in ("mount.puzzlefs", "mount.fuse.puzzlefs"):
        (system.home / "sbin" / name).unlink()
    program = system.home / "sbin" / "puzzlefs"
    program.write_text(f'#!/bin/sh\nexec env PYTHONPATH={PACKAGES} {sys.executable} -P -m puzzlefs "$@"\n')
    program.chmod(0o755)
    if shutil.which("mount.fuse3") is None and shutil.which("mount.fuse") is None:
        pytest.skip("needs mount.fuse")
    done = system.run("mount -t fuse.puzzlefs $image $place; cat $place/f; umount $place")
    assert (done.returncode, done.stdout) == (0, "content"), done.stderr


def test_helpers_are_installed_and_removed(tmp_path: Path) -> None:
    """Nothing else of the same name is touched."""
    names = ["mount.fuse.puzzlefs", "mount.puzzlefs"]
    puzzlefs("install-helpers", "--directory", tmp_path)
    assert sorted(os.listdir(tmp_path)) == names
    puzzlefs("install-helpers", "--uninstall", "--directory", tmp_path)
    assert os.listdir(tmp_path) == []
    (tmp_path / names[0]).write_text("theirs")
    for words in ((), ("--uninstall",)):
        done = run_puzzlefs("install-helpers", *words, "--directory", tmp_path, check=False)
        assert done.returncode == 7
    assert (tmp_path / names[0]).read_text() == "theirs"


def test_options_of_a_line() -> None:
    options = Options("rw,auto,_netdev,x-systemd.automount,persist=/p,verify=never,cache_size=2k,noexec,allow_other")
    assert (options.persist, options.writable) == ("/p", True)
    assert options.mount[-1] == "noexec"
    assert options.settings["cache_size"] == 2048
    assert options.settings["verify"] == VERIFY_NEVER
    assert options.settings["allow_other"]
    assert Options("a,b=c", sloppy=True).mount == Options("").mount
    with pytest.raises(UsageError, match="unknown option"):
        Options("a")


@pytest.mark.parametrize("abstract", [False, True])
@pytest.mark.parametrize("words", [(), ("--writable",)])
def test_service_of_systemd(system: System, backend_name: str, words: Sequence[str], abstract: bool) -> None:
    """READY when the mount answers, STOPPING before it goes; a socket with a name in the file system or without."""
    name = f"puzzlefs-{os.getpid()}"
    address = f"\0{name}" if abstract else str(system.home / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        environment = {**os.environ, "PUZZLEFS_BACKEND": backend_name, "NOTIFY_SOCKET": address.replace("\0", "@")}
        service = subprocess.Popen(
            [sys.executable, "-m", "puzzlefs", "mount", "-f", *words, system.image, system.place], env=environment
        )
        assert manager.recv(4096).startswith(b"READY=1\n")
        assert (system.place / "f").read_bytes() == b"content"
        service.send_signal(signal.SIGTERM)
        assert manager.recv(4096) == b"STOPPING=1"
    assert service.wait(20) == 0
    assert mountinfo.topmost(system.place) is None


def test_service_manager_that_is_not_there(system: System) -> None:
    """A mount does not depend on who is told of it."""
    environment = {**os.environ, "NOTIFY_SOCKET": str(system.home / "none")}
    done = run_puzzlefs("mount", system.image, system.place, environment=environment)
    assert done.stderr == b""
    unmount(system.place)


@contextmanager
def mounted_elsewhere(system: System) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Mount with `-N` in the table of mounts of a process; yield that, and the server's directory in /proc."""
    with subprocess.Popen(["unshare", "-m", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            words = [sys.executable, "-P", "-m", "puzzlefs.mount_helper", system.image, system.place, "-N"]
            environment = {**os.environ, "PYTHONPATH": PACKAGES, "PUZZLEFS_BACKEND": "rust"}
            subprocess.run([*words, str(process.pid)], env=environment, check=True)
            table = mountinfo.parse(Path(f"/proc/{process.pid}/mountinfo").read_bytes())
            mount = next(mount for mount in table if mount.mountpoint == os.fsencode(system.place))
            names = {process_name(mount)}
            found = [comm.parent for comm in Path("/proc").glob("[0-9]*/comm") if comm.read_text().strip() in names]
            yield process, found[-1]
        finally:
            process.kill()


def ends(server: Path) -> bool:
    """Whether a server ends within a few seconds."""
    deadline = time.monotonic() + 10
    while server.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not server.exists()


def test_another_table_of_mounts_lives_no_longer_for_its_server(system: System, backends: Backends) -> None:
    """The server of a mount by `-N` is no member of it: with the last process there, mount and server end."""
    with mounted_elsewhere(system) as (process, server):
        assert os.readlink(server / "ns/mnt") == os.readlink("/proc/self/ns/mnt")
        there = ["nsenter", "-m", "-t", str(process.pid), "cat", system.place / "f"]
        assert subprocess.run(there, capture_output=True, check=True).stdout == b"content"
        process.kill()
        assert ends(server)


def test_a_server_elsewhere_unmounts_there(system: System, backends: Backends) -> None:
    """Told to stop, it leaves no dead mount in the other table."""
    with mounted_elsewhere(system) as (process, server):
        os.kill(int(server.name), signal.SIGTERM)
        assert ends(server)
        assert os.fsencode(system.place) not in Path(f"/proc/{process.pid}/mountinfo").read_bytes()
