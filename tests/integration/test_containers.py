"""Containers from images, by runc: bundles and runs, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import puzzlefs as puzzlefs_package
from tests.support import puzzlefs, requires_root, run_puzzlefs

pytestmark = [
    pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed"),
    pytest.mark.skipif(not os.path.exists("/bin/busybox"), reason="busybox-static is not installed"),
]
APPLETS = ("sh", "cat", "id", "touch", "ls", "sleep", "hostname", "pwd", "env", "kill", "grep")
USER = 54321


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of busybox, which says what to run, as whom and where."""
    requires_root()
    home = tmp_path_factory.mktemp("containers")
    root = home / "root"
    for directory in ("bin", "etc", "proc", "sys", "dev", "tmp", "run", "home/someone", "data", "usr"):
        (root / directory).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nsomeone:x:1000:1001::/home/someone:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nsome:x:1001:\nmore:x:2000:other,someone\n")
    (root / "tmp").chmod(0o1777)
    puzzlefs(
        *(
            "build",
            root,
            f"{home}/store:t",
            "--no-cache",
            "--entrypoint",
            "/bin/sh -c",
            "--cmd",
            '["echo default; id"]',
        ),
        *("--workdir", "/data", "--env", "COLOUR=green", "--annotation", "a=b"),
    )
    return f"{home}/store:t"


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After each test nothing is mounted that came from an image or a directory of it."""
    yield
    with open("/proc/self/mountinfo") as table:
        ours = [line for line in table if str(tmp_path_factory.getbasetemp()) in line]
    assert ours == []


def run_image(image: str, *words: object) -> subprocess.CompletedProcess[bytes]:
    return run_puzzlefs("run", *words[:-1], image, "--", words[-1], check=False)


def test_an_image_says_what_is_run(image: str) -> None:
    """Entrypoint and arguments, the environment, the directory and the user of its config."""
    finished = run_puzzlefs("run", image)
    assert finished.stdout == b"default\nuid=0(root) gid=0(root)\n"

    assert run_image(image, "pwd; echo $COLOUR; hostname").stdout == b"/data\ngreen\npuzzlefs\n"


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 42", 42), ("exec sh -c 'kill -9 $$'", 0)])
def test_the_programs_exit_code_is_the_commands(image: str, command: str, code: int) -> None:
    """A shell that is process 1 cannot kill itself; all others tell how they ended."""
    assert run_image(image, command).returncode == code


def test_a_program_that_a_signal_ended_is_told_by_128_and_more(image: str) -> None:
    """As a shell says it."""
    assert run_image(image, "sh -c 'kill -9 $$'; exit $?").returncode == 137


USERS = {
    "someone": ("1000", "1001", "2000"),
    "1000": ("1000", "1001", "2000"),
    "someone:more": ("1000", "2000"),
    "77": ("77", "0"),
    "77:1001": ("77", "1001"),
}


@pytest.mark.parametrize(("user", "numbers"), USERS.items())
def test_users_are_those_of_the_image(image: str, user: str, numbers: tuple[str, ...]) -> None:
    """Names are looked up in the image; further groups count where no group is named."""
    status = run_image(image, "--user", user, "cat /proc/self/status").stdout.decode().splitlines()
    fields = dict(line.split(":", 1) for line in status)

    assert (fields["Uid"].split()[0], fields["Gid"].split()[0], *fields["Groups"].split()) == numbers


def test_a_user_has_none_of_roots_rights(image: str) -> None:
    """No capabilities for others than root; root has those that container engines leave."""
    effective = "grep CapEff /proc/self/status"

    assert run_image(image, "--user", "someone", effective).stdout.split() == [b"CapEff:", b"0000000000000000"]
    assert run_image(image, effective).stdout.split() == [b"CapEff:", b"00000000a80425fb"]


def test_an_image_is_not_written_to(image: str) -> None:
    """The root is read-only, the places for scratch are not."""
    finished = run_image(image, "touch /tmp/a /run/a && touch /a")

    assert finished.returncode == 1
    assert finished.stderr == b"touch: /a: Read-only file system\n"


def test_a_writable_container_keeps_what_it_writes_where_asked(image: str, tmp_path: Path) -> None:
    """In a directory, for the next one; else it goes with the container."""
    assert run_image(image, "-w", "touch /a && ls /a").stdout == b"/a\n"
    assert run_image(image, "-w", "ls /a").returncode == 1
    assert run_image(image, "-p", tmp_path / "upper", "echo kept > /kept").returncode == 0

    assert run_image(image, "-p", tmp_path / "upper", "cat /kept").stdout == b"kept\n"
    assert (tmp_path / "upper/kept").read_text() == "kept\n"


def test_a_container_sees_what_it_is_shown_of_the_host(image: str, tmp_path: Path) -> None:
    """Volumes, read-only where asked, at a place that the image has; its own network or the host's."""
    (tmp_path / "file").write_text("shown")
    shown = run_image(image, "-v", f"{tmp_path}:/data:ro", "cat file; touch /data/x")

    assert shown.stdout == b"shown"
    assert b"Read-only file system" in shown.stderr
    assert run_image(image, "ls /sys/class/net").stdout.split() == [b"lo"]
    assert sorted(run_image(image, "--network", "host", "ls /sys/class/net").stdout.decode().split()) == sorted(
        os.listdir("/sys/class/net")
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_program(image: str, number: signal.Signals) -> None:
    """What is sent to the command, the program in the container gets; everything is cleaned up after it."""
    script = f"trap 'echo caught; exit 5' {number.name[3:]}; echo up; while :; do sleep 0.05; done"
    command = [sys.executable, "-m", "puzzlefs", "run", image, "--", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.stdout.read() == b"caught\n"
        assert process.wait() == 5


def test_a_runtime_that_is_killed_leaves_nothing(image: str) -> None:
    """Even then the container is ended and unmounted."""
    command = [sys.executable, "-m", "puzzlefs", "run", image, "--", "echo up; sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (runtime,) = [child for child in children if Path(f"/proc/{child}/comm").read_text().startswith("runc")]
        name = Path(f"/proc/{runtime}/cmdline").read_bytes().split(b"\0")[-2].decode()
        os.kill(int(runtime), signal.SIGKILL)
        assert process.wait() == 128 + signal.SIGKILL
    assert name not in subprocess.run(["runc", "list", "-q"], capture_output=True, text=True, check=True).stdout


def test_a_bundle_is_what_runc_runs(image: str, tmp_path: Path) -> None:
    """The image on rootfs, config.json beside it, until it is unmounted."""
    puzzlefs("bundle", image, tmp_path / "bundle", "--hostname", "there", "--", "hostname; cat /etc/group")
    try:
        config = json.loads((tmp_path / "bundle/config.json").read_text())
        assert config["process"]["args"] == ["/bin/sh", "-c", "hostname; cat /etc/group"]
        assert config["annotations"] == {"a": "b"}
        finished = subprocess.run(
            ["runc", "run", "-b", tmp_path / "bundle", "test-bundle"], capture_output=True, check=False
        )
        assert finished.stdout.startswith(b"there\nroot:x:0:\n"), finished.stderr
    finally:
        puzzlefs("umount", tmp_path / "bundle/rootfs")


ERRORS = {
    ("--user", "nobody-knows"): (2, "user 'nobody-knows' is not in the image's /etc/passwd"),
    ("--user", "0:nobody-knows"): (2, "group 'nobody-knows' is not in the image's /etc/group"),
    ("--runtime", "no-such-runtime"): (7, "running a container needs no-such-runtime, which is not installed"),
    ("-v", "/no/such/file:/data"): (2, "--volume: /no/such/file: no such file or directory"),
    ("-v", "data"): (2, "--volume: 'data' is not SRC:DST or SRC:DST:ro with an absolute DST"),
    ("--digest", "0" * 64): (3, "the manifest's fs-verity digest is not " + "0" * 64),
}


@pytest.mark.parametrize("options", ERRORS)
def test_what_cannot_be_run_is_said_in_one_sentence(image: str, options: tuple[str, str]) -> None:
    """The reason and its exit code, and nothing is mounted."""
    code, reason = ERRORS[options]
    finished = run_image(image, *options, "true")

    assert finished.returncode == code
    assert finished.stderr.decode().removeprefix(f"puzzlefs: {image}: ").removeprefix("puzzlefs: ") == reason + "\n"


def test_a_bundle_that_fails_leaves_its_directory_as_it_was(image: str, tmp_path: Path) -> None:
    """A directory that was there stays, one that was not is gone, one with something in it is refused."""
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        finished = run_puzzlefs("bundle", "-p", "/proc/x", image, tmp_path / name, check=False)
        assert finished.returncode == 6, finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert os.listdir(tmp_path / "there") == []

    (tmp_path / "there/file").touch()
    finished = run_puzzlefs("bundle", image, tmp_path / "there", check=False)
    assert (finished.returncode, finished.stderr.decode()) == (2, f"puzzlefs: {tmp_path}/there: not empty\n")


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_podman_runs_a_mounted_image(image: str, tmp_path: Path) -> None:
    """Upon an overlay of its own, which goes with the container (docs/containers.md)."""
    (tmp_path / "mnt").mkdir()
    puzzlefs("mount", "--allow-other", "-o", "suid", image, tmp_path / "mnt")
    # Where a test runs in a container, podman's own limits may be higher than what is permitted.
    limits = ["--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512"]
    try:
        finished = subprocess.run(
            [
                *("podman", "--runtime", "runc", "run", "--rm", "--network", "none", *limits),
                *("--rootfs", f"{tmp_path}/mnt:O", "sh", "-c", "touch /written && cat /etc/group"),
            ],
            capture_output=True,
            check=False,
        )
        assert finished.stdout.startswith(b"root:x:0:\n"), finished.stderr
        assert not (tmp_path / "mnt/written").exists()
    finally:
        puzzlefs("umount", tmp_path / "mnt")


@pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="systemd-container is not installed")
def test_nspawn_runs_a_mounted_image(image: str, tmp_path: Path) -> None:
    """A writable mount, whose changes stay where they were asked to."""
    (tmp_path / "mnt").mkdir()
    puzzlefs("mount", "-p", tmp_path / "upper", image, tmp_path / "mnt")
    try:
        finished = subprocess.run(
            [
                *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe"),
                *("--directory", tmp_path / "mnt", "sh", "-c", "echo written > /written; cat /etc/group"),
            ],
            capture_output=True,
            check=False,
        )
        assert finished.stdout.startswith(b"root:x:0:\n"), finished.stderr
    finally:
        puzzlefs("umount", tmp_path / "mnt")
    assert (tmp_path / "upper/written").read_text() == "written\n"


@pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed")
def test_layers_made_of_an_image_run_as_it_does(image: str, tmp_path: Path) -> None:
    """Converted back, unpacked by umoci, run by runc: the same program, user and directory."""
    puzzlefs("convert", "--reverse", "--user", "someone", image, f"{tmp_path}/layers:t")
    subprocess.run(["umoci", "unpack", "--image", f"{tmp_path}/layers:t", tmp_path / "bundle"], check=True)
    config = tmp_path / "bundle/config.json"
    document = json.loads(config.read_text())
    document["process"]["terminal"] = False
    config.write_text(json.dumps(document))

    finished = subprocess.run(["runc", "run", "-b", tmp_path / "bundle", "layers"], capture_output=True, check=False)

    assert finished.stdout.startswith(b"default\nuid=1000(someone)"), finished.stderr


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user reads."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path)


DEBIAN = "/usr/bin/python3"


@pytest.mark.skipif(not os.path.exists(DEBIAN), reason="no Python that other users may run")
def test_an_ordinary_user_runs_an_image(image: str, public: Path) -> None:
    """As root of a namespace of their own, which has none but the user's number; nothing outside changes."""
    package = Path(puzzlefs_package.__file__).parents[1]
    os.mknod(public / "fuse", 0o020666, os.makedev(10, 229))
    os.chmod(public / "fuse", 0o666)
    home = public / "home"
    home.mkdir()
    os.chown(home, USER, USER)
    shutil.copytree(image.removesuffix(":t"), public / "store")
    # /dev/fuse is everybody's, as it is where no container hides it.
    script = 'mount --bind "$0" /dev/fuse && exec setpriv --reuid "$1" --regid "$1" --clear-groups -- "${@:2}"'
    run = [
        DEBIAN,
        "-P",
        "-m",
        "puzzlefs",
        "run",
        "-w",
        f"{public}/store:t",
        "--",
        "id; ls -ln /etc/group; touch /made && ls /made",
    ]
    command = ["unshare", "--mount", "bash", "-c", script, public / "fuse", str(USER), *run]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "TMPDIR": str(home)}
    finished = subprocess.run(command, capture_output=True, check=False, env=environment)
    if b"ModuleNotFoundError" in finished.stderr or b"Permission denied: '/" in finished.stderr:
        pytest.skip("the package is where other users do not get")

    lines = finished.stdout.decode().splitlines()
    assert lines[:1] == ["uid=0(root) gid=0(root)"], finished.stderr
    assert lines[1].split()[2:4] == ["0", "0"]
    assert lines[2] == "/made"
    assert os.listdir(home) == []


def test_a_bundle_is_made_in_a_user_namespace_too(image: str, tmp_path: Path) -> None:
    """Mounted and run by root of the namespace, and gone with it."""
    script = 'cd "$0" && "$1" -m puzzlefs bundle "$2" bundle -- id && runc --root state run -b bundle inside'
    command = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", "bash", "-c", script]
    finished = subprocess.run([*command, tmp_path, sys.executable, image], capture_output=True, check=False)

    assert finished.stdout.startswith(b"uid=0(root) gid=0(root)"), finished.stderr
    assert os.listdir(tmp_path / "bundle/rootfs") == []


def test_a_user_that_a_namespace_lacks_is_told(image: str) -> None:
    """Where only one's own number is there, a container cannot be another user's."""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-m", "puzzlefs"]
    finished = subprocess.run([*command, "run", "--user", "someone", image], capture_output=True, check=False)

    assert finished.returncode == 2
    assert finished.stderr == b"puzzlefs: user 1000 does not exist without root; /etc/subuid can grant more of them\n"
