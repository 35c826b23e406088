"""Containers of LXC made of images by the template: made, started, entered, stopped, destroyed, for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from puzzlefs import mountinfo
from tests.mounts import PACKAGES, requires_fuse, with_open_device
from tests.support import puzzlefs, requires_root, run_puzzlefs

TOOLS = ("sh", "ls", "cat", "sleep", "id", "env", "pwd", "rm", "su", "touch", "kill", "stat")
# No directory of a virtual environment: what containers run must not depend on it.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CONFIG = "lxc.net.0.type = empty\n"
IDENTITIES = "lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n"
ENTRY = 'trap "exit 0" TERM; { env; id -u; id -g; id -G; pwd; echo $HOME; echo "$0-$1"; } > /tmp/facts; while :; do sleep 0.1; done'


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small system of busybox whose config says whom to run, where and how."""
    requires_root()
    requires_fuse()
    busybox = shutil.which("busybox")
    if busybox is None or shutil.which("lxc-start") is None:
        pytest.skip("needs lxc and a static busybox")
    home = tmp_path_factory.mktemp("lxc-image")
    tree = home / "tree"
    for name in ("bin", "etc", "dev", "proc", "sys", "tmp", "root", "srv/app"):
        (tree / name).mkdir(parents=True)
    (tree / "tmp").chmod(0o1777)
    shutil.copy(busybox, tree / "bin" / "busybox")
    for name in TOOLS:
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/srv/app:/bin/sh\n")
    (tree / "etc" / "group").write_text("root:x:0:\napp:x:1001:\nstaff:x:50:app\n")
    words = ("--entrypoint", json.dumps(["/bin/sh", "-c", ENTRY]), "--cmd", json.dumps(["two words", "it's"]))
    places = ("--user", "app", "--workdir", "/srv/app", "--env", "GREETING=hello world")
    puzzlefs("build", *words, *places, tree, home / "oci:t")
    return f"oci:{home}/oci:t"


class Lxc:
    """LXC with a directory of its own, seen from a table of mounts where everybody may use FUSE."""

    def __init__(self, home: Path, prefix: list[str], config: str, python: str = sys.executable) -> None:
        self.home = home
        self._prefix = prefix
        self._config = home / "lxc.conf"
        self._config.write_text(config)
        (home / "containers").mkdir()
        self.template = self.run(python, "-P", "-m", "puzzlefs", "lxc", "template-path").strip()

    def run(self, *words: object, check: bool = True) -> str:
        """Run a command; return what it prints."""
        environment = {"PATH": PATH, "HOME": str(self.home), "PYTHONPATH": PACKAGES}
        environment["LXC_CACHE_PATH"] = str(self.home / "cache")
        done = subprocess.run(
            [*self._prefix, *map(str, words)], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}{self._log()}"
        return done.stdout if check else done.stdout + done.stderr

    def __call__(self, verb: str, name: str, *words: object, check: bool = True) -> str:
        """Run `lxc-VERB` for a container."""
        log = ("-l", "INFO", "-o", self.home / "log") if verb == "start" else ()
        return self.run(f"lxc-{verb}", "-P", self.home / "containers", "-n", name, *log, *words, check=check)

    def _log(self) -> str:
        """Return what LXC wrote of its errors and of what hooks said."""
        if not (self.home / "log").exists():
            return ""
        lines = (self.home / "log").read_text(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if " ERROR " in line or "roduced output" in line)

    def create(self, name: str, *words: object, template: object = None, check: bool = True) -> str:
        """Make a container; `words` are the template's own options."""
        return self("create", name, "-f", self._config, "-t", template or self.template, "--", *words, check=check)

    def sh(self, name: str, script: str) -> str:
        """Run a line of shell in a container."""
        return self("attach", name, "--clear-env", "--", "/bin/sh", "-c", script)

    def rootfs(self, name: str) -> Path:
        """Return a container's root as the host sees it."""
        return self.home / "containers" / name / "rootfs"

    def left(self) -> list[str]:
        """Return what is mounted inside the directory, and which processes know it."""
        word = os.fsencode(self.home)
        mounts = [os.fsdecode(mount.mountpoint) for mount in mountinfo.mounts() if word in mount.mountpoint]
        processes = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if b"puzzlefs" in line and word in line:
                processes.append(line.decode(errors="replace"))
        return mounts + processes


@pytest.fixture
def lxc(tmp_path: Path) -> Iterator[Lxc]:
    """LXC for root; at the end nothing runs and nothing is mounted."""
    yield from containers(Lxc(tmp_path, [], CONFIG))


def containers(lxc: Lxc) -> Iterator[Lxc]:
    """Give LXC to a test, and look after it."""
    yield lxc
    for container in (lxc.home / "containers").iterdir():
        lxc("destroy", container.name, "-f", check=False)
    eventually(lambda: not lxc.left())
    assert os.listdir(lxc.home / "containers") == []


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for a fact, ten seconds at most."""
    end = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_config_of_the_image_says_what_runs(image: str, lxc: Lxc) -> None:
    """Program, arguments with spaces and quotes, environment, user, group and directory; a signal that ends it."""
    lxc.create("c", "--url", image)
    assert lxc.left() == []
    lxc("start", "c")
    eventually(lambda: "it's" in lxc.sh("c", "cat /tmp/facts; true"))
    facts = lxc.sh("c", "cat /tmp/facts").splitlines()
    assert "GREETING=hello world" in facts
    assert facts[-6:] == ["1000", "1001", "1001 50", "/srv/app", "/srv/app", "two words-it's"]
    assert lxc.sh("c", "cat /etc/hostname") == "c\n"
    assert "127.0.1.1   c" in lxc.sh("c", "cat /etc/hosts")
    begin = time.monotonic()
    lxc("stop", "c")
    assert time.monotonic() - begin < 10


def test_state_is_kept_from_start_to_start(image: str, lxc: Lxc) -> None:
    """What a container wrote and removed, while nothing is mounted in between."""
    lxc.create("c", "--url", image)
    lxc("start", "c")
    lxc.sh("c", "echo kept > /root/file; rm /bin/touch")
    lxc("stop", "c", "-k")
    eventually(lambda: not lxc.left())
    lxc("start", "c")
    assert lxc.sh("c", "cat /root/file; ls /bin/touch || true") == "kept\n"


def test_twenty_at_once_from_one_image(image: str, lxc: Lxc) -> None:
    """Each has its own changes over the same image."""
    names = [f"c{number}" for number in range(20)]
    lxc.create("c0", "--url", image)
    config = (lxc.home / "containers" / "c0" / "config").read_text()
    for name in names[1:]:
        lxc.rootfs(name).mkdir(parents=True)
        (lxc.rootfs(name).parent / "config").write_text(
            config.replace("/c0/", f"/{name}/").replace("= c0", f"= {name}")
        )
    starts = [subprocess.Popen(["lxc-start", "-P", lxc.home / "containers", "-n", name]) for name in names]
    assert [start.wait(60) for start in starts] == [0] * 20
    for name in names:
        lxc.sh(name, f"echo {name} > /root/file")
    assert [lxc.sh(name, "cat /root/file").strip() for name in names] == names


def test_containers_share_one_mount_where_asked(image: str, lxc: Lxc) -> None:
    """And it goes with the last of them."""
    places = set()
    for name in ("a", "b"):
        lxc.create(name, "--url", image, "--share")
        lxc("start", name)
        (overlay,) = [mount for mount in mountinfo.mounts() if mount.mountpoint == os.fsencode(lxc.rootfs(name))]
        places.add(overlay.options.partition(b"lowerdir=")[2].partition(b",")[0])
    (place,) = places
    lxc("stop", "a", "-k")
    assert lxc.sh("b", "cat /etc/hostname") == "b\n"
    assert mountinfo.topmost(os.fsdecode(place)) is not None
    lxc("stop", "b", "-k")
    eventually(lambda: mountinfo.topmost(os.fsdecode(place)) is None)


def test_copy_of_its_own(image: str, lxc: Lxc, tmp_path: Path) -> None:
    """With --no-cache a container needs the image it came from no more."""
    shutil.copytree(layout(image), tmp_path / "oci")
    lxc.create("c", "--url", f"oci:{tmp_path}/oci:t", "--no-cache")
    shutil.rmtree(tmp_path / "oci")
    lxc("start", "c")
    assert lxc.sh("c", "cat /etc/hostname") == "c\n"


@pytest.mark.parametrize("transport", ["oci", "dir"])
def test_image_from_elsewhere_is_kept_in_the_cache(image: str, lxc: Lxc, tmp_path: Path, transport: str) -> None:
    """One of layers is converted, one of skopeo's copied; neither is needed then."""
    source = tmp_path / "source"
    if transport == "oci":
        puzzlefs("convert", "--reverse", image, f"oci:{source}:t")
        lxc.create("c", "--url", f"oci:{source}:t")
    else:
        subprocess.run(["skopeo", "--insecure-policy", "copy", image, f"dir:{source}"], check=True, capture_output=True)
        lxc.create("c", "--url", f"dir:{source}", "--username", "somebody", "--password", "secret")
    shutil.rmtree(source)
    lxc("start", "c")
    assert lxc.sh("c", "cat /etc/hostname; stat -c %u /srv/app") == "c\n0\n"
    assert os.listdir(tmp_path / "cache") == ["puzzlefs"]


def test_tag_that_moves_is_not_followed(image: str, lxc: Lxc, tmp_path: Path) -> None:
    """A container stays with the manifest that it was made of."""
    shutil.copytree(layout(image), tmp_path / "oci")
    lxc.create("c", "--url", f"{tmp_path}/oci:t")
    (tmp_path / "other").mkdir()
    puzzlefs("build", tmp_path / "other", tmp_path / "oci:t")
    lxc("start", "c")
    assert lxc.sh("c", "cat /etc/hostname") == "c\n"


@pytest.mark.parametrize("form", ["oldest", "newest"])
def test_helper_in_both_forms(image: str, lxc: Lxc, form: str) -> None:
    """As the template of LXC 6.0.0 calls it, and as that of LXC 7 does."""
    helper = lxc.home / "helper"
    helper.write_text(f'#!/bin/sh\nexec env PYTHONPATH={PACKAGES} {sys.executable} -P -m puzzlefs.lxc.helper "$@"\n')
    helper.chmod(0o755)
    lxc.create("c", "--url", image, "--mount-helper", helper)
    config = lxc.rootfs("c").parent / "config"
    if form == "oldest":
        upper = lxc.rootfs("c").parent / "upper"
        config.write_text(config.read_text().replace(f"--persist {upper} ", ""))
        assert "--persist" not in config.read_text()
    lxc("start", "c")
    lxc.sh("c", "echo kept > /root/file")
    lxc("stop", "c", "-k")
    assert (lxc.rootfs("c").parent / "upper" / "root" / "file").read_text() == "kept\n"


def test_failing_leaves_no_half_made_container(image: str, lxc: Lxc, tmp_path: Path) -> None:
    """One sentence, and nothing of it is there."""
    (tmp_path / "empty").mkdir()
    for words, sentence in (
        (("--url", f"oci:{tmp_path}/none:t"), "none"),
        (("--url", image + "x"), "no tag 'tx'"),
        (("--url", f"dir:{tmp_path}/empty"), "empty"),
        (("--url", image, "--password", "secret"), "a password without a user name"),
        (("--url", image, "--mount-helper", "/bin/false"), "/bin/false failed"),
    ):
        said = lxc.create("c", *words, check=False)
        assert sentence in said and "Traceback" not in said, said
        assert os.listdir(lxc.home / "containers") == []


def test_links_of_the_image_lead_to_no_file_of_the_host(lxc: Lxc, tmp_path: Path) -> None:
    """The template writes to /etc of the image as root; a hostile one points it elsewhere."""
    (tmp_path / "target").mkdir()
    (tmp_path / "victim").write_text("untouched")
    for name, prepare in (
        ("directory", lambda tree: (tree / "etc").symlink_to(tmp_path / "target")),
        ("file", lambda tree: ((tree / "etc").mkdir(), (tree / "etc" / "hostname").symlink_to(tmp_path / "victim"))),
    ):
        (tmp_path / name).mkdir()
        prepare(tmp_path / name)
        puzzlefs("build", tmp_path / name, f"{tmp_path}/{name}.oci:t")
        lxc.create(name, "--url", f"oci:{tmp_path}/{name}.oci:t")
    assert os.listdir(tmp_path / "target") == []
    assert (tmp_path / "victim").read_text() == "untouched"


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A directory that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="puzzlefs-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def mapped_users(home: Path, image: str) -> Iterator[Lxc]:
    """LXC whose containers' users are others outside, and a copy of the image that those may read."""
    tables = home / "subid"
    tables.write_text("root:100000:65536\n")
    shutil.copytree(layout(image), home / "oci")
    bind = 'mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@"'
    prefix = [*with_open_device(home), "sh", "-c", bind, str(tables)]
    yield from containers(Lxc(home, prefix, CONFIG + IDENTITIES, python_for_all()))


def test_with_an_identity_map(image: str, open_home: Path) -> None:
    """Root of the container is nobody of the host: the template and the hook mount in its user namespace."""
    with mapped_users(open_home, image) as lxc:
        lxc.create("c", "--url", f"oci:{open_home}/oci:t")
        lxc("start", "c")
        assert lxc.sh("c", "id -u; cat /etc/hostname; echo kept > /root/file") == "0\nc\n"
        lxc("stop", "c", "-k")
        assert (lxc.rootfs("c").parent / "upper" / "root" / "file").stat().st_uid == 100000
        lxc("start", "c")
        assert lxc.sh("c", "cat /root/file") == "kept\n"
        lxc("stop", "c", "-k")


def test_with_an_identity_map_and_a_shared_mount(image: str, open_home: Path) -> None:
    """The mount lies outside of the container, so what it shows belongs to the users that the map names."""
    with mapped_users(open_home, image) as lxc:
        lxc.create("c", "--url", f"oci:{open_home}/oci:t", "--share")
        assert "--idmap 0:100000:65536" in (lxc.rootfs("c").parent / "config").read_text()
        lxc("start", "c")
        assert lxc.sh("c", "stat -c %u:%g /bin/busybox; echo kept > /root/file") == "0:0\n"
        lxc("stop", "c", "-k")
        assert (lxc.rootfs("c").parent / "upper" / "root" / "file").stat().st_uid == 100000


def layout(image: str) -> str:
    """Return the directory of an image's layout."""
    return image.removeprefix("oci:").rpartition(":")[0]


def python_for_all() -> str:
    """Return an interpreter that every user may run; the tests' own may lie in a home closed to others."""
    path = Path(sys.executable).resolve()
    if all(directory.stat().st_mode & 0o1 for directory in path.parents):
        return sys.executable
    system = shutil.which("python3", path=PATH)
    wanted = "import sys; sys.exit(sys.version_info < (3, 11))"
    if system is None or subprocess.run([system, "-c", wanted], check=False).returncode != 0:
        pytest.skip("needs a Python 3.11 that every user may run")
    return system


def test_installed_template_is_found_by_name(tmp_path: Path) -> None:
    """`lxc install` writes what `lxc template-path` names, over its own only, and takes it back."""
    place = tmp_path / "lxc-puzzlefs"
    assert puzzlefs("lxc", "install", "--directory", tmp_path) == f"{place}\n"
    assert os.access(place, os.X_OK)
    assert "--url" in subprocess.run([place, "--help"], capture_output=True, text=True, check=True).stdout
    puzzlefs("lxc", "install", "--directory", tmp_path)
    puzzlefs("lxc", "install", "--uninstall", "--directory", tmp_path)
    assert not place.exists()
    place.write_text("#!/bin/sh\n")
    for words in ((), ("--uninstall",)):
        assert run_puzzlefs("lxc", "install", *words, "--directory", tmp_path, check=False).returncode == 7
