"""The programs that are compared, each with the flags that suit it best."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benches import process
from benches.peer import Peer, Words, first_line, size_of
from benches.process import CommandError, Usage

PATIENCE = 30.0
PYTHON = process.ROOT / "python"


class Ours(Peer):
    name, title = "ours", "PuzzleFS"
    incremental = ours = for_users = True
    # What the installed script `puzzlefs` does.
    command: tuple[str, ...] = (sys.executable, "-c", "import sys; from puzzlefs.cli import main; sys.exit(main())")
    backend = "rust"

    def version(self) -> str:
        return first_line("env", f"PYTHONPATH={PYTHON}", f"PUZZLEFS_BACKEND={self.backend}", *self.command, "--version")

    def environment(self, place: Path) -> Mapping[str, str]:
        return {**super().environment(place), "PYTHONPATH": str(PYTHON), "PUZZLEFS_BACKEND": self.backend}

    def build_command(self, tree: Path, place: Path, *, raw: bool) -> Words:
        return [*self.command, "build", *([] if raw else ["-c"]), str(tree), f"{place}/oci:bench"]

    def mount_command(self, place: Path, mountpoint: Path) -> Words:
        return [*self.command, "mount", f"{place}/oci:bench", str(mountpoint)]

    def extract_command(self, place: Path, directory: Path) -> Words:
        return [*self.command, "extract", f"{place}/oci:bench", str(directory)]

    def stored(self, place: Path) -> int:
        return size_of(place / "oci/blobs/sha256")


class Pure(Ours):
    name, title = "pure", "pure Python"
    backend = "python"


class Original(Ours):
    name, title = "original", "the original"
    ours = for_users = False

    def __init__(self) -> None:
        self.command = (os.environ.get("PUZZLEFS_ORIGINAL", ""),)

    def missing(self) -> str | None:
        return None if os.access(self.command[0], os.X_OK) else "$PUZZLEFS_ORIGINAL names no program"

    def version(self) -> str:
        return first_line(*self.command, "--version")

    def environment(self, place: Path) -> Mapping[str, str]:
        return {**super().environment(place), "RUST_BACKTRACE": "0"}

    @contextlib.contextmanager
    def mounting(self, place: Path, mountpoint: Path) -> Iterator[None]:
        """Serve in the foreground: its way to the background needs a system log."""
        fifo = place / "ready"
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        # Opened for both directions, so that a server that dies without a word blocks nobody.
        ready = os.open(fifo, os.O_RDWR)
        words = [*self.command, "mount", "-f", "-i", str(fifo), f"{place}/oci:bench", str(mountpoint)]
        try:
            with process.started(words) as (server, said):
                if os.read(ready, 1) != b"s":
                    raise CommandError(f"{self.name}: {process.last_words(said)}")
                yield
                process.await_end(server, PATIENCE)
        finally:
            os.close(ready)


class Squashfuse(Peer):
    name, title = "squashfuse", "squashfuse_ll"
    for_users = True
    programs: tuple[str, ...] = ("mksquashfs", "squashfuse_ll")
    builds = extracts = False

    def version(self) -> str:
        return first_line("squashfuse_ll", "--version")

    def build_command(self, tree: Path, place: Path, *, raw: bool) -> Words:
        flags = ["-noI", "-noD", "-noF", "-noX"] if raw else ["-comp", "zstd", "-Xcompression-level", "3"]
        return [
            *("mksquashfs", str(tree), f"{place}/image.squashfs", "-noappend", "-quiet", "-no-progress"),
            *("-b", "128K", *flags),
        ]

    def mount_command(self, place: Path, mountpoint: Path) -> Words:
        return ["squashfuse_ll", f"{place}/image.squashfs", str(mountpoint)]

    def stored(self, place: Path) -> int:
        return size_of(place / "image.squashfs")


class KernelSquashfs(Squashfuse):
    name, title = "squashfs", "kernel squashfs"
    programs = ("mksquashfs", "unsquashfs", "mount")
    builds = extracts = True
    for_users = False

    def version(self) -> str:
        return first_line("mksquashfs", "-version")

    def mount_command(self, place: Path, mountpoint: Path) -> Words:
        return ["mount", "-t", "squashfs", "-o", "loop,ro", f"{place}/image.squashfs", str(mountpoint)]

    def extract_command(self, place: Path, directory: Path) -> Words:
        return ["unsquashfs", "-q", "-n", "-d", str(directory), f"{place}/image.squashfs"]


class Erofs(Peer):
    name, title = "erofs", "kernel EROFS"
    programs = ("mkfs.erofs", "mount")
    extracts = False

    def version(self) -> str:
        return first_line("mkfs.erofs", "--version")

    def build_command(self, tree: Path, place: Path, *, raw: bool) -> Words:
        flags = [] if raw else ["-zlz4hc", "-C65536"]
        return ["mkfs.erofs", "--quiet", *flags, f"{place}/image.erofs", str(tree)]

    def mount_command(self, place: Path, mountpoint: Path) -> Words:
        return ["mount", "-t", "erofs", "-o", "loop,ro", f"{place}/image.erofs", str(mountpoint)]

    def stored(self, place: Path) -> int:
        return size_of(place / "image.erofs")


class Casync(Peer):
    name, title = "casync", "casync"
    programs = ("casync",)
    incremental = True
    raw = False

    def __init__(self, *, mounts: bool = True) -> None:
        self.mounts = mounts

    def version(self) -> str:
        return first_line("casync", "--version")

    def build_command(self, tree: Path, place: Path, *, raw: bool) -> Words:
        if raw:
            raise ValueError("casync always compresses")
        return [
            *("casync", "make", "--compression=zstd", "--exclude-nodump=no", "--exclude-file=no"),
            *(f"--store={place}/store", f"--cache={place}/cache", f"{place}/image.caidx", str(tree)),
        ]

    def extract_command(self, place: Path, directory: Path) -> Words:
        return ["casync", "extract", f"--store={place}/store", f"{place}/image.caidx", str(directory)]

    def stored(self, place: Path) -> int:
        return size_of(place / "store", place / "image.caidx")

    @contextlib.contextmanager
    def mounting(self, place: Path, mountpoint: Path) -> Iterator[None]:
        words = ["casync", "mount", f"--store={place}/store", f"{place}/image.caidx", str(mountpoint)]
        deadline = time.monotonic() + PATIENCE
        with process.started(words) as (server, said):
            while not os.path.ismount(mountpoint):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise CommandError(f"{self.name}: {process.last_words(said)}")
                time.sleep(0.0005)
            yield
            process.await_end(server, PATIENCE)


class Tar(Peer):
    name, title = "tar", "tar, zstd -3"
    programs = ("tar", "zstd")
    mounts = False

    def version(self) -> str:
        return f"{first_line('tar', '--version')}, {first_line('zstd', '--version')}"

    def build_command(self, tree: Path, place: Path, *, raw: bool) -> Words:
        pack = f"tar --xattrs -C {shlex.quote(str(tree))} -cf"
        image = shlex.quote(f"{place}/image.tar")
        script = f"{pack} {image} ." if raw else f"{pack} - . | zstd -3 -T0 -q -f -o {image}"
        return ["bash", "-o", "pipefail", "-c", script]

    def extract_command(self, place: Path, directory: Path) -> Words:
        there, image = shlex.quote(str(directory)), shlex.quote(f"{place}/image.tar")
        unpack = f"tar --xattrs -p -C {there} -xf"
        script = f"zstd -dcq {image} | {unpack} -"
        return ["bash", "-o", "pipefail", "-c", f"mkdir {there} && {script}"]

    def stored(self, place: Path) -> int:
        return size_of(place / "image.tar")


class Plain(Peer):
    """The tree itself, mounted elsewhere: what is left when a filesystem costs nothing."""

    name, title = "plain", "the tree itself"
    builds = extracts = raw = False

    def version(self) -> str:
        return f"Linux {os.uname().release}"

    def build(self, tree: Path, place: Path, *, raw: bool) -> Usage:
        (place / "tree").symlink_to(tree)
        return Usage(0.0, 0.0, 0)

    def mount_command(self, place: Path, mountpoint: Path) -> Words:
        return ["mount", "--bind", str(place / "tree"), str(mountpoint)]


PEERS: Sequence[Peer] = (Ours(), Original(), Squashfuse(), KernelSquashfs(), Erofs(), Casync(), Tar(), Plain())
BOTH: Sequence[Peer] = (PEERS[0], Pure())
# Reads through casync's mount at 10 MB/s, and comparing it alone, would take minutes a figure.
LARGE = (*PEERS[:5], Casync(mounts=False), *PEERS[6:])
QUICK = PEERS[:4]
GROWING: dict[str, Sequence[Peer]] = {
    "bytes": (PEERS[0], PEERS[1], PEERS[3]),
    "files": (PEERS[0], PEERS[1], PEERS[3]),
    "file": PEERS[:4],
    "directory": PEERS[:4],
}
BY_NAME = {peer.name: peer for peer in (*PEERS, *BOTH)}
