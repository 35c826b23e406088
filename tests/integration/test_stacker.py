"""Stacker files built for real: what steps make, what they see, when they are done again, what is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from puzzlefs import mountinfo
from puzzlefs.image import Image
from puzzlefs.store import Store
from puzzlefs.verify_store import verify_store
from tests.described import differing
from tests.mounts import NOBODY, PACKAGES, requires_fuse, with_open_device
from tests.support import requires_root, run_program, run_puzzlefs

BUSYBOX = shutil.which("busybox")
HELLO = """
hello-stacker:
  from:
    type: oci
    url: BASE
  run: |
    mkdir -p /hello-stacker-app
    echo 'echo "Hello Stacker!"' > /hello-stacker-app/hello.sh
    chmod +x /hello-stacker-app/hello.sh
  entrypoint: /hello-stacker-app/hello.sh
"""

pytestmark = [
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
    pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed"),
]


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ordinary OCI image in a layout: busybox, and a command to run."""
    requires_root()
    requires_fuse()
    if BUSYBOX is None or b"/ld-linux" in Path(BUSYBOX).read_bytes():
        pytest.skip("needs a static busybox (busybox-static)")
    home = tmp_path_factory.mktemp("busybox")
    layout, root = home / "layout", home / "bundle/rootfs"
    run_program("umoci", "init", "--layout", layout)
    run_program("umoci", "new", "--image", f"{layout}:base")
    run_program("umoci", "unpack", "--image", f"{layout}:base", home / "bundle")
    for name in ("bin", "etc", "tmp", "root"):
        (root / name).mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    (root / "etc/kept").write_text("kept\n")
    run_program("chroot", root, "/bin/busybox", "--install", "-s", "/bin")
    run_program("umoci", "repack", "--image", f"{layout}:base", home / "bundle")
    run_program("umoci", "config", "--image", f"{layout}:base", "--config.env", "OLD=1", "--config.cmd", "sh")
    return f"{layout}:base"


class Project:
    """A stacker file, its store, and what the last build said."""

    def __init__(self, home: Path, base: str) -> None:
        self.home, self.base = home, base
        self.store = home / "store"
        self.said = ""

    def build(self, text: str, *options: object, code: int = 0, **environment: str) -> None:
        """Build a file, in which BASE stands for the name of the busybox image."""
        file = self.home / "stacker.yaml"
        file.write_text(text.replace("BASE", self.base))
        environment["XDG_CACHE_HOME"] = str(self.home / "cache")
        done = run_puzzlefs("build", "-f", file, *options, self.store, check=False, environment=environment)
        self.said = done.stderr.decode()
        assert done.returncode == code, self.said
        assert [mount for mount in mountinfo.mounts() if str(self.home).encode() in mount.mountpoint] == []
        assert os.listdir(self.store / "blobs") == ["sha256"]

    def image(self, tag: str) -> Image:
        return Image.open(f"{self.store}:{tag}")

    def content(self, tag: str, path: str) -> str:
        return self.image(tag).open(path).read().decode()

    @property
    def steps(self) -> list[str]:
        """The layers whose steps the last build did."""
        return [line.split(": ")[1] for line in self.said.splitlines() if line.endswith(": running its step")]


@pytest.fixture
def project(tmp_path: Path, busybox: str) -> Project:
    return Project(tmp_path, busybox)


def test_the_file_of_the_talk(project: Project) -> None:
    """The base in one layer, what the step made in another; it runs; an unchanged step is not done again."""
    project.build(HELLO)
    image = project.image("hello-stacker")
    root = project.home / "root"
    image.extract(root)
    done = subprocess.run(["chroot", root, "/hello-stacker-app/hello.sh"], capture_output=True, check=True)
    assert done.stdout == b"Hello Stacker!\n"
    assert image.config is not None
    assert image.config["config"]["Entrypoint"] == ["/hello-stacker-app/hello.sh"]
    assert "Cmd" not in image.config["config"] and "OLD=1" in image.config["config"]["Env"]
    tags = [tag for tag, _ in Store.open(project.store).tags()]
    assert len(tags) == 2 and tags[0].startswith("stacker-base-") and tags[1] == "hello-stacker"
    added = {path for path, _, _ in differing(image, project.image(tags[0]))}
    assert added == {b"", b"hello-stacker-app", b"hello-stacker-app/hello.sh"}
    assert verify_store(project.store).problems == []
    project.build(HELLO)
    assert (project.steps, project.image("hello-stacker").descriptor.digest) == ([], image.descriptor.digest)


COPY = "a:\n  from: {type: oci, url: BASE}\n  imports: file\n  run: cat /stacker/imports/file > /copy\n"


def test_when_a_step_is_done_again(project: Project) -> None:
    """For another script, import or base, and on demand; not for another entrypoint."""
    (project.home / "file").write_text("1")
    for text, steps in (
        (COPY, ["a"]),
        (COPY, []),
        (COPY + "  entrypoint: x\n  labels: {l: '1'}\n", []),
        (COPY.replace("/copy", "/other"), ["a"]),
        (COPY, []),
        (COPY + "b:\n  from: {type: built, tag: a}\n  run: mv copy moved\n", ["b"]),
    ):
        project.build(text)
        assert project.steps == steps, text
    project.build(COPY, "--no-cache")
    assert project.steps == ["a"]
    (project.home / "file").write_text("2")
    project.build(COPY + "b:\n  from: {type: built, tag: a}\n  run: mv copy moved\n")
    assert project.steps == ["a", "b"]
    assert project.content("b", "moved") == "2"


def test_reproducible(project: Project, tmp_path: Path, busybox: str) -> None:
    """The same digest on another day, in another store."""
    other = Project(tmp_path / "other", busybox)
    other.home.mkdir()
    for each in (project, other):
        each.build(HELLO, SOURCE_DATE_EPOCH="1700000000")
        time.sleep(1.1)
    assert project.image("hello-stacker").verity == other.image("hello-stacker").verity


SEEN = """
a:
  from: {type: oci, url: BASE}
  run: |
    env > /seen
    id -u >> /seen
    readlink /proc/self/ns/user >> /seen
    touch /etc/kept
    chown 12:34 /etc/kept
    ls -a / /stacker > /listed
    ! touch /stacker/imports/x
"""


def test_what_a_step_sees(project: Project) -> None:
    """Root of a user namespace of its own, and no variables of the caller's; nothing that it was given stays."""
    project.build(SEEN, SECRET="1")
    seen = project.content("a", "seen").splitlines()
    names = {line.partition("=")[0] for line in seen if "=" in line}
    allowed = {"HOME", "PATH", "STACKER_LAYER_NAME", "PWD", "SHLVL", "TERM", "_", "OLDPWD"}
    assert {name for name in names if "proxy" not in name.lower()} <= allowed
    assert "STACKER_LAYER_NAME=a" in seen and "0" in seen
    assert seen[-1] != os.readlink("/proc/self/ns/user")
    image = project.image("a")
    assert image.index.stat(image.resolve("etc/kept"))[3:5] == (12, 34)
    assert {b"stacker", b"dev", b"proc", b"sys", b"etc/resolv.conf"} & {path for path, _ in image.walk()} == set()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a directory on this machine for a while; give its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=directory)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


IMPORTS = """
a:
  from: {type: scratch}
  imports:
    - path: file
      dest: /opt/
      mode: 0640
      uid: 5
      gid: 6
    - {path: tree, dest: /tree}
b:
  from: {type: oci, url: BASE}
  imports: ['stacker://a/opt/file', 'stacker://a/tree', {path: 'URL/remote', hash: HASH, dest: /remote}]
  run: cp -a /stacker/imports/tree /stacker/imports/file /tmp
"""


def test_imports(project: Project) -> None:
    """Files and directories from here, from other layers and from a server, for the step and for the image."""
    (project.home / "file").write_text("file")
    (project.home / "tree/below").mkdir(parents=True)
    (project.home / "tree/below/x").write_text("x")
    (project.home / "tree/link").symlink_to("below/x")
    (project.home / "remote").write_text("remote")
    digest = (
        subprocess.run(["sha256sum", project.home / "remote"], capture_output=True, check=True).stdout[:64].decode()
    )
    with served(project.home) as url:
        text = IMPORTS.replace("URL", url)
        project.build(text.replace("HASH", digest))
        project.build(text.replace("HASH", "0" * 64), code=1)
        assert f"its SHA-256 is {digest}, not {'0' * 64}" in project.said
    image = project.image("a")
    assert image.index.stat(image.resolve("opt/file"))[2:5] == (0o640, 5, 6)
    assert project.content("a", "tree/link") == "x"
    assert [project.content("b", f"tmp/{name}") for name in ("file", "tree/link")] == ["file", "x"]
    assert project.content("b", "remote") == "remote"


KINDS = """
made:
  from: {type: scratch}
  imports: [{path: archive.tar, dest: /archive.tar}]
  build_only: true
unpacked:
  from: {type: tar, url: 'stacker://made/archive.tar'}
  environment: {A: b}
  labels: {l: '1.10'}
  volumes: [/data]
  working_dir: /in
  runtime_user: '7'
  annotations: {k: v}
  full_command: run it
  os: linux
  arch: arm64
again:
  from: {type: built, tag: unpacked}
"""


def test_bases_and_configs(project: Project) -> None:
    """Nothing, an archive, another layer; what a config says, and what the next one inherits."""
    (project.home / "in").mkdir()
    (project.home / "in/file").write_text("content")
    run_program("tar", "-C", project.home, "-cf", project.home / "archive.tar", "in")
    project.build(KINDS)
    assert [tag for tag, _ in Store.open(project.store).tags() if not tag.startswith("stacker-base-")] == [
        "unpacked",
        "again",
    ]
    image, again = project.image("unpacked"), project.image("again")
    assert image.open("in/file").read() == b"content"
    assert image.config is not None and again.config is not None
    assert image.config["architecture"] == "arm64"
    config = image.config["config"]
    assert config.pop("Env")[1:] == ["A=b"]
    assert config == {
        "Entrypoint": ["run", "it"],
        "Labels": {"l": "1.10"},
        "Volumes": {"/data": {}},
        "WorkingDir": "/in",
        "User": "7",
    }
    assert image.manifest.annotations["k"] == "v"
    assert "Entrypoint" not in again.config["config"] and again.config["config"]["Labels"] == {"l": "1.10"}


def test_a_step_that_fails(project: Project) -> None:
    """One sentence after what the script says; layers before it are built, no tag, nothing mounted or left."""
    text = HELLO + "bad:\n  from: {type: built, tag: hello-stacker}\n  run: exit 7\n"
    project.build(text, code=1)
    assert project.said.splitlines()[-1] == "puzzlefs: bad: the script failed with exit code 7"
    assert "bad" not in dict(Store.open(project.store).tags())
    assert verify_store(project.store).problems == []


def test_a_step_that_breaks_what_it_was_given(project: Project) -> None:
    """What it puts there, or cannot remove, is not in the image."""
    project.build("a:\n  from: {type: oci, url: BASE}\n  run: rm -rf /stacker/run.sh || touch /stacker/mine /made\n")
    assert {path for path, _ in project.image("a").walk()} & {b"stacker", b"dev", b"proc"} == set()


def test_links_of_the_base_lead_nowhere_else(project: Project) -> None:
    """A file is copied to where its path leads inside the image."""
    outside = project.home / "outside"
    outside.mkdir()
    (project.home / "file").write_text("x")
    project.build(
        f"a:\n  from: {{type: oci, url: BASE}}\n  run: mkdir -p .{outside}; ln -s {outside} /way\n"
        "b:\n  from: {type: built, tag: a}\n  imports: [{path: file, dest: /way/}]\n  run: ls /way\n"
    )
    assert os.listdir(outside) == []
    assert project.content("b", f"{outside}/file".lstrip("/")) == "x"


def test_a_killed_build_leaves_nothing_mounted_or_running(project: Project) -> None:
    """Mounts and processes of a step end with whoever started it, however that ends."""
    file = project.home / "stacker.yaml"
    marker = f"{os.getpid()}999"
    file.write_text(f"a:\n  from: {{type: oci, url: '{project.base}'}}\n  run: exec sleep {marker}\n")
    words = [sys.executable, "-m", "puzzlefs", "build", "-f", file, project.store]
    environment = {**os.environ, "XDG_CACHE_HOME": str(project.home / "cache")}
    with subprocess.Popen([*map(str, words)], env=environment, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: bool(commands(marker)))
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not commands(marker) and not commands(str(project.home)))
    assert [mount for mount in mountinfo.mounts() if str(project.home).encode() in mount.mountpoint] == []
    project.build(HELLO)
    assert verify_store(project.store).problems == []


def commands(word: str) -> list[bytes]:
    """Return the command lines of processes that have a word in them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_bytes()
            if word.encode() in line and int(process.name) != os.getpid():
                found.append(line)
    return found


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for a fact, ten seconds at most."""
    end = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.02)


DEBIAN = "/usr/bin/python3"
"""A Python that other users may run: this one may be in a home directory that is closed to them."""


@pytest.mark.skipif(not os.path.exists(DEBIAN), reason="no Python that other users may run")
@pytest.mark.parametrize("granted", [False, True], ids=["one number", "many numbers"])
def test_without_root(granted: bool, project: Project) -> None:
    """An ordinary user builds as root of a namespace; with numbers of their own, for others too."""
    if granted and shutil.which("newuidmap") is None:
        pytest.skip("needs newuidmap (uidmap)")
    with tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)
        home = Path(public, "home")
        home.mkdir()
        shutil.copytree(project.base.rpartition(":")[0], home / "layout")
        owner = "chown 3:4 /made" if granted else "true"
        text = f"a:\n  from: {{type: oci, url: 'layout:base'}}\n  run: id -u > /made; {owner}\n"
        (home / "stacker.yaml").write_text(text)
        run_program("chown", "-R", f"{NOBODY}:{NOBODY}", home)
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        words = [DEBIAN, "-P", "-m", "puzzlefs", "build", "-f", home / "stacker.yaml", home / "store"]
        libraries = os.pathsep.join([PACKAGES, sysconfig.get_paths()["platlib"]])
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": libraries, "HOME": str(home), "TMPDIR": str(home)}
        with subordinates(granted):
            command = [*with_open_device(Path(public)), *user, *map(str, words)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if "ModuleNotFoundError" in done.stderr or "Permission denied: '/" in done.stderr:
            pytest.skip("the package is where other users do not get")
        assert done.returncode == 0, done.stderr
        assert ("only root has a number here" in done.stderr) == (not granted)
        image = Image.open(f"{home}/store:a")
        assert image.open("made").read() == b"0\n"
        assert image.index.stat(image.resolve("made"))[3:5] == ((3, 4) if granted else (0, 0))
        assert os.listdir(home / "store/blobs") == ["sha256"]


@contextmanager
def subordinates(granted: bool) -> Iterator[None]:
    """Let the user without rights have numbers for a while, or none."""
    tables = [Path("/etc/subuid"), Path("/etc/subgid")]
    before = [table.read_text() if table.exists() else "" for table in tables]
    line = f"{NOBODY}:700000:65536\n" if granted else ""
    try:
        for table, text in zip(tables, before, strict=True):
            table.write_text(text + line)
        yield
    finally:
        for table, text in zip(tables, before, strict=True):
            table.write_text(text)


def programs(home: Path, *names: str) -> str:
    """Return a search path that has some programs and no others."""
    path = home / "bin"
    path.mkdir(exist_ok=True)
    for name in names:
        (path / name).symlink_to(str(shutil.which(name)))
    return str(path)


@pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed")
def test_by_runc(project: Project) -> None:
    """Where there is no bubblewrap, the same comes of it."""
    # The name of the namespace is another one each time.
    text = SEEN.replace("env >", "env | sort | grep -v -e PWD -e SHLVL -e _= >").replace("readlink", "echo")
    project.build(text, SOURCE_DATE_EPOCH="1")
    image = project.image("a")
    environment = {"PATH": programs(project.home, "runc", "sh"), "SOURCE_DATE_EPOCH": "1"}
    project.build(text, "--no-cache", **environment)
    assert differing(image, project.image("a")) == []
    project.build(text + "    false || exit 5\n", code=1, **environment)
    assert project.said.splitlines()[-1] == "puzzlefs: a: the script failed with exit code 5"


def test_without_a_program_that_runs_steps(project: Project) -> None:
    """Said in one sentence, and nothing stays mounted."""
    project.build(HELLO, code=7, PATH=programs(project.home, "sh"))
    assert project.said.splitlines()[-1] == (
        "puzzlefs: running a step needs bubblewrap or runc: install the package 'bubblewrap'"
    )
