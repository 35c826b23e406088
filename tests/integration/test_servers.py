"""Both servers of a mount, the compiled one and pyfuse3, show the same filesystem."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from puzzlefs import mountinfo
from puzzlefs.builder import BuildOptions, build
from puzzlefs.kernel_mount import process_name
from puzzlefs.records import Kind
from puzzlefs.tables import Inode
from tests.conftest import GoldenImage, _load
from tests.images import craft, directory, file_of
from tests.mounts import layout_of, mounted, requires_fuse
from tests.strategies import noise
from tests.support import puzzlefs, run_puzzlefs

GOLDEN = ["vi-empty:v", "vi-kinds:v", "vic-text:v", "vi-wide:v", "vi-delta:base", "vi-delta:delta"]


@pytest.fixture(autouse=True)
def _both_servers() -> None:
    requires_fuse()
    _load("rust")


@contextmanager
def both(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """Mount an image twice, once by each backend."""
    monkeypatch.setenv("PUZZLEFS_BACKEND", "rust")
    with mounted(name, home / "rust") as compiled:
        monkeypatch.setenv("PUZZLEFS_BACKEND", "python")
        with mounted(name, home / "python") as pure:
            yield compiled, pure


def outcome(call: Callable[..., object], *arguments: object) -> object:
    """Return what a call returns, or its error number."""
    try:
        return call(*arguments)
    except OSError as error:
        return f"errno {error.errno}"


def attributes(path: bytes) -> dict[str, object]:
    status = os.lstat(path)
    return {name: getattr(status, name) for name in dir(status) if name.startswith("st_") and name != "st_dev"}


def xattrs(path: bytes) -> list[tuple[str, object]]:
    return [(key, outcome(os.getxattr, path, key)) for key in os.listxattr(path, follow_symlinks=False)]


def contents(path: bytes) -> object:
    with open(path, "rb") as file:
        return file.read()


def seen(root: Path) -> dict[bytes, list[object]]:
    """Return all that can be learned of each path under a mountpoint, in the order of its listings."""
    found: dict[bytes, list[object]] = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        full = os.path.join(os.fsencode(root), path)
        found[path] = [outcome(attributes, full), outcome(xattrs, full), outcome(os.readlink, full)]
        if os.path.isdir(full) and not os.path.islink(full):
            names = os.listdir(full)
            found[path].append(names)
            pending += [os.path.join(path, name) for name in names]
        elif os.path.isfile(full) and not os.path.islink(full):
            found[path].append(outcome(contents, full))
    return found


def processes(name: str) -> list[Path]:
    """Return the processes of a name; those that ended and were not waited for have no command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text() == f"{name}\n" and (process / "cmdline").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_images(
    name: str, golden: dict[str, GoldenImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with both(layout_of(golden[name]), tmp_path, monkeypatch) as (compiled, pure):
        listed = seen(compiled)
        assert list(listed.items()) == list(seen(pure).items())
        one, other = ([*os.statvfs(mountpoint)] for mountpoint in (compiled, pure))
        assert one == other


def test_packs_read_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an image in the default packs: all of it, and pieces of any size from any place, in any order."""
    tree = tmp_path / "tree"
    tree.mkdir()
    chance = random.Random(1)
    (tree / "large").write_bytes(chance.randbytes(2_000_000).hex().encode())
    for number in range(200):
        (tree / f"{number}").write_bytes(chance.randbytes(chance.randrange(20_000)))
    build(tree, f"{tmp_path}/oci:v", BuildOptions(compression=True))
    with both(f"{tmp_path}/oci:v", tmp_path, monkeypatch) as (compiled, pure):
        places = [(chance.randrange(4_000_000), chance.randrange(1, 200_000)) for _ in range(100)]
        assert pieces(compiled / "large", places) == pieces(pure / "large", places) == pieces(tree / "large", places)
        assert list(seen(compiled).items()) == list(seen(pure).items())


def pieces(path: Path, places: list[tuple[int, int]]) -> list[bytes]:
    """Return what is read at (offset, size) of a file, without read-ahead."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return [os.pread(descriptor, size, offset) for offset, size in places]
    finally:
        os.close(descriptor)


def test_what_no_builder_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strange times, devices, attributes, names, numbers; absent blobs; and the errors of all that is refused."""
    inodes = [
        directory(
            1, *((b"%03d" % number, number) for number in range(2, 12)), (b"\xff\n", 1 << 60), permissions=0o1777
        ),
        Inode(2, Kind.CHR, device=(1 << 63, 1 << 63)),
        Inode(3, Kind.BLK, device=(259, 0xFFFFF)),
        Inode(4, Kind.FILE, mtime=(-(1 << 63), 999_999_999)),
        Inode(5, Kind.FILE, 0o4755, uid=1 << 31, gid=(1 << 32) - 2, mtime=((1 << 63) - 1, 1)),
        Inode(6, Kind.LNK, target=b"x" * 4095, xattrs=((b"no-namespace", b"\xff"),)),
        Inode(7, Kind.SOCK),
        Inode(8, Kind.FIFO, xattrs=((b"user.a", b""), (b"trusted.b", b"v" * 65536))),
        directory(9, (b"n" * 255, 10)),
        file_of(10, b"twice named"),
        file_of(11, b"gone"),
        file_of(1 << 60, b"far"),
    ]
    crafted = craft(tmp_path / "oci", inodes, [b"twice named", b"gone", b"far"])
    for blob in crafted.blobs.iterdir():
        if blob.read_bytes() == b"gone":
            blob.unlink()
    with both(crafted.name, tmp_path, monkeypatch) as (compiled, pure):
        assert list(seen(compiled).items()) == list(seen(pure).items())
        for name in (b"002", b"004", b"absent", b"009/absent", b"010/x", b"006", b"."):
            for call in (os.lstat, os.readlink, os.listdir, contents, os.listxattr, os.rmdir, os.mkdir, os.unlink):
                paths = [os.path.join(os.fsencode(mountpoint), name) for mountpoint in (compiled, pure)]
                results = [outcome(call, path) for path in paths]
                if call is not os.lstat:
                    assert results[0] == results[1], (name, call)


def test_compiled_server_needs_no_pyfuse3(
    golden: dict[str, GoldenImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = tmp_path / "poison"
    poison.mkdir()
    for name in ("pyfuse3", "trio"):
        (poison / f"{name}.py").write_text("raise SystemExit('loaded')")
    monkeypatch.setenv("PYTHONPATH", f"{poison}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("PUZZLEFS_BACKEND", "rust")
    with mounted(layout_of(golden["vi-kinds:v"]), tmp_path / "m") as mountpoint:
        assert (mountpoint / "hello").exists()


def test_compiled_server_loads_nothing_slow() -> None:
    """A mount is ready before these modules would be loaded."""
    slow = {"ctypes", "dataclasses", "inspect", "logging", "pathlib", "shutil", "socket", "subprocess", "threading"}
    slow |= {"typing", "trio", "pyfuse3"}
    program = f"import sys, puzzlefs.cli.mount, puzzlefs.daemon, puzzlefs.server; print({slow} & sys.modules.keys())"
    environment = {"PYTHONPATH": str(Path(mountinfo.__file__).parents[1]), "PUZZLEFS_BACKEND": "rust"}
    command = [sys.executable, "-S", "-P", "-c", program]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_command_line_forks_and_leaves_nothing_behind(
    golden: dict[str, GoldenImage], backend_name: str, tmp_path: Path
) -> None:
    """Its output ends with it, the process of the mount has its own name, session and no descriptor of the caller."""
    place = tmp_path / "m"
    place.mkdir()
    with (tmp_path / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        done = subprocess.run(
            [sys.executable, "-m", "puzzlefs", "mount", layout_of(golden["vi-kinds:v"]), place],
            env={**os.environ, "PUZZLEFS_BACKEND": backend_name},
            capture_output=True,
            pass_fds=(held.fileno(),),
            check=False,
            timeout=30,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    mount = mountinfo.topmost(place)
    assert mount is not None
    (server,) = processes(process_name(mount))
    opened = {os.readlink(descriptor) for descriptor in (server / "fd").iterdir()}
    assert not [target for target in opened if target.startswith(str(tmp_path / "held"))]
    assert {os.readlink(server / "fd" / str(number)) for number in range(3)} == {"/dev/null"}
    assert os.getsid(int(server.name)) == int(server.name)
    assert os.readlink(server / "cwd") == "/"
    puzzlefs("umount", place)
    assert processes(process_name(mount)) == []


@pytest.mark.parametrize(("option", "code", "text"), [("no-such", 6, "unknown option"), ("rw", 2, "cannot be written")])
def test_command_line_says_what_is_wrong(
    golden: dict[str, GoldenImage], backend_name: str, tmp_path: Path, option: str, code: int, text: str
) -> None:
    place = tmp_path / "m"
    place.mkdir()
    name = layout_of(golden["vi-kinds:v"])
    done = run_puzzlefs("mount", "-o", option, name, place, backend=backend_name, check=False)
    assert done.returncode == code
    assert text in done.stderr.decode()
    assert mountinfo.topmost(place) is None


@contextmanager
def served(name: str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the process that serves a mount in the foreground."""
    place.mkdir()
    process = subprocess.Popen([sys.executable, "-m", "puzzlefs", "mount", "-f", name, place])
    try:
        end = time.monotonic() + 10
        while mountinfo.topmost(place) is None and time.monotonic() < end:
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def test_no_request_is_lost_when_the_server_is_told_to_stop(
    backend_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while four threads look up, open and read: all that they ask is answered, then it ends."""
    monkeypatch.setenv("PUZZLEFS_BACKEND", backend_name)
    blobs = [noise(number, 200_000) for number in range(100)]
    inodes = [directory(1, *((b"%02d" % number, number + 2) for number in range(100)))]
    inodes += [file_of(number + 2, blob) for number, blob in enumerate(blobs)]
    started = threading.Barrier(5)

    def read_some(root: int, first: int) -> list[bytes]:
        found = []
        for number in range(first, 100, 4):
            descriptor = os.open(f"{number:02}", os.O_RDONLY, dir_fd=root)
            with open(descriptor, "rb", buffering=0) as file:
                found.append(file.read())
            if number == first:
                started.wait()
        return found

    with served(craft(tmp_path / "oci", inodes, blobs).name, tmp_path / "m") as process:
        root = os.open(tmp_path / "m", os.O_RDONLY | os.O_DIRECTORY)
        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read_some, root, first) for first in range(4)]
            started.wait()
            process.terminate()
            found = [reader.result() for reader in readers]
        os.close(root)
        assert found == [blobs[first::4] for first in range(4)]
        assert process.wait(10) == 0
        assert mountinfo.topmost(tmp_path / "m") is None
