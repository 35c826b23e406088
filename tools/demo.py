"""Show PuzzleFS at work on a Debian root filesystem, and prove that nothing is lost on the way.

Makes a root filesystem in build/demo, then twice (raw, compressed): build, verify, mount, compare every
inode and every byte with the source, run Python inside the mount, unmount, extract, compare again.
Everything goes through the `puzzlefs` command, as a user would do it. Needs root. Exits with 1 if
anything differs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tools.compare_trees import differences

PUZZLEFS = str(Path(sys.executable).with_name("puzzlefs"))
DEMO = Path("build/demo")
T = TypeVar("T")


def run(*command: str | Path, show: bool = True) -> str:
    """Run a command and return what it printed; its error output goes to the terminal."""
    words = [str(word) for word in command]
    if show:
        print("$", " ".join([Path(words[0]).name, *words[1:]]), flush=True)
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return what `call` returns, and the seconds it took."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def make_rootfs(rootfs: Path) -> None:
    """Make a small Debian with Python in it, or, where no mirror answers, the like from this host."""
    try:
        run("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3", "bookworm", rootfs)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no Debian mirror ({error}): copying this host's Python instead")
        shutil.rmtree(rootfs, ignore_errors=True)
        copy_python(rootfs)
    add_rarities(rootfs / "opt/rarities")


def copy_python(rootfs: Path) -> None:
    """Copy the interpreter that runs this, its library, and the shared libraries that both load."""
    facts = "import sys, sysconfig; print(sys._base_executable, sysconfig.get_path('stdlib'))"
    executable, library = run(sys.executable, "-c", facts, show=False).split()
    base = Path(os.path.realpath(executable))
    modules = [str(path) for path in Path(library, "lib-dynload").glob("*.so")]
    needed = {Path(word) for word in run("ldd", base, *modules, show=False).split() if word.startswith("/")}
    for path in {base, *(path for path in needed if not path.name.endswith(":"))}:
        target = rootfs / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    ignored = shutil.ignore_patterns("test", "__pycache__", "config-*", "*-packages")
    shutil.copytree(library, rootfs / library.lstrip("/"), symlinks=True, ignore=ignored)
    (rootfs / "usr/bin").mkdir(parents=True, exist_ok=True)
    if not (rootfs / "usr/bin/python3").exists():
        (rootfs / "usr/bin/python3").symlink_to(base)


def add_rarities(directory: Path) -> None:
    """Add what a Debian lacks: attributes, holes, sockets, odd names, times before 1970."""
    directory.mkdir(parents=True)
    with open(directory / "sparse", "wb") as file:
        file.write(b"start")
        file.truncate(1 << 24)
    os.link(directory / "sparse", directory / "hard link")
    os.mkfifo(directory / "fifo")
    os.mknod(directory / "device", 0o20600, os.makedev(240, 70000))
    os.symlink("/no/such/target", directory / "dangling")
    odd = os.path.join(os.fsencode(directory), b"not UTF-8 \xff\nand two lines")
    with open(odd, "wb") as file:
        file.write(os.urandom(1 << 20))
    os.setxattr(odd, "user.colour", b"\x00green\xff")
    os.chown(odd, 4294967294, 12345)
    os.chmod(odd, 0o6751)
    os.utime(odd, ns=(0, -1_234_567_891))
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(directory / "socket"))


@contextlib.contextmanager
def mounted(image: str, mountpoint: Path) -> Iterator[float]:
    """Mount an image; yield the seconds that it took."""
    mountpoint.mkdir()
    _, seconds = timed(lambda: run(PUZZLEFS, "mount", image, mountpoint))
    try:
        yield seconds
    finally:
        run(PUZZLEFS, "umount", mountpoint)
        mountpoint.rmdir()


def compare(rootfs: Path, copy: Path) -> None:
    """Compare a copy with the source; leave the program with the differences if there are any."""
    found = differences(rootfs, copy)
    print(f"  {copy} has {len(found) or 'no'} differences from {rootfs}")
    if found:
        raise SystemExit("\n".join(map(str, found[:50])))


def show_image(rootfs: Path, tag: str, *options: str) -> dict[str, Any]:
    """Take the root filesystem through everything that an image is for; return the facts."""
    image = f"{DEMO}/oci:{tag}"
    mountpoint, copy = DEMO / "mnt", DEMO / "extracted"
    print(f"\n== {tag} ==")
    printed, build_seconds = timed(lambda: run(PUZZLEFS, "build", *options, "--json", rootfs, image))
    facts: dict[str, Any] = {"tag": tag, **json.loads(printed)}
    facts["build"] = build_seconds
    _, facts["verify"] = timed(lambda: run(PUZZLEFS, "verify", image))
    with mounted(image, mountpoint) as facts["mount"]:
        _, facts["compare"] = timed(lambda: compare(rootfs, mountpoint))
        program = "import json, sys, hashlib; print(json.dumps({'python': sys.version.split()[0]}))"
        printed, facts["python"] = timed(lambda: run("chroot", mountpoint, "/usr/bin/python3", "-c", program))
        print(f"  it says {printed.strip()}")
    _, facts["extract"] = timed(lambda: run(PUZZLEFS, "extract", image, copy))
    compare(rootfs, copy)
    shutil.rmtree(copy)
    return facts


def table(columns: list[dict[str, Any]]) -> str:
    """Return the facts of several images side by side."""
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("", lambda facts: facts["tag"]),
        ("files / inodes", lambda facts: f"{facts['files']:,} / {facts['inodes']:,}"),
        ("content", lambda facts: f"{facts['bytes'] / 1e6:,.1f} MB"),
        ("chunks / distinct", lambda facts: f"{facts['chunks']:,} / {facts['unique_chunks']:,}"),
        ("in repeated chunks", lambda facts: f"{facts['duplicate_bytes'] / max(facts['bytes'], 1):.1%}"),
        ("image", lambda facts: f"{facts['stored_bytes'] / 1e6:,.1f} MB"),
    ]
    steps = ("build", "verify", "mount", "compare", "python", "extract")
    cells = [(name, [cell(facts) for facts in columns]) for name, cell in rows]
    cells += [(step, [f"{facts[step]:.2f} s" for facts in columns]) for step in steps]
    lines = [f"{name:<20}" + "".join(f"{cell:>24}" for cell in row) for name, row in cells]
    lines += [f"digest ({facts['tag']}) {facts['digest']}" for facts in columns]
    return "\n".join(lines)


def main() -> int:
    """Run the demonstration."""
    if os.geteuid() != 0:
        print("the demo mounts, makes devices and changes owners: run it as root", file=sys.stderr)
        return 1
    rootfs = DEMO / "rootfs"
    if not rootfs.exists():
        DEMO.mkdir(parents=True, exist_ok=True)
        make_rootfs(rootfs)
    if os.path.ismount(DEMO / "mnt"):
        run("umount", DEMO / "mnt")  # of a demo that was killed
    for left in (DEMO / "oci", DEMO / "mnt", DEMO / "extracted"):
        shutil.rmtree(left, ignore_errors=True)
    columns = [show_image(rootfs, "raw"), show_image(rootfs, "compressed", "-c")]
    print("\n" + table(columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
