"""Mounts that last for one measurement."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from benches.peer import Peer
from benches.process import CommandError, reap, settle


@contextlib.contextmanager
def mounted(
    peer: Peer,
    place: Path,
    mount: Callable[[Peer, Path, Path], AbstractContextManager[None]] = lambda peer, *where: peer.mounting(*where),
    listing: Callable[[Path], object] = os.listdir,
) -> Iterator[tuple[Path, float]]:
    """Mount a peer's image; yield the mountpoint and the seconds from the start to its first listing.

    Afterwards the mount, its loop device and its processes are gone, whatever happened.
    """
    mountpoint = place.with_name(f"{place.name}.mnt")
    mountpoint.mkdir(exist_ok=True)
    settle()
    try:
        start = time.perf_counter()
        with mount(peer, place, mountpoint):
            listing(mountpoint)
            seconds = time.perf_counter() - start
            if os.fspath(mountpoint) not in mountpoints():
                raise CommandError(f"{peer.name}: nothing is mounted")
            yield mountpoint, seconds
            unmount(mountpoint)
    finally:
        unmount(mountpoint)
        reap()
        mountpoint.rmdir()


def unmount(mountpoint: Path) -> None:
    """Unmount all that is mounted on a directory; from the tree only, where it stays in use."""
    deadline = time.monotonic() + 5
    while os.fspath(mountpoint) in mountpoints():
        lazy = ["-l"] if time.monotonic() > deadline else []
        done = subprocess.run(["umount", *lazy, mountpoint], capture_output=True, check=False)
        if done.returncode:
            time.sleep(0.02)


def mountpoints() -> list[str]:
    """Return where filesystems are mounted, the latest last."""
    with open("/proc/self/mountinfo", "rb") as file:
        return [os.fsdecode(line.split()[4].replace(rb"\040", b" ")) for line in file]


def unmount_below(directory: Path) -> None:
    """Unmount what a run that was killed has left below a directory."""
    for path in reversed(mountpoints()):
        if path.startswith(f"{directory}/"):
            unmount(Path(path))


@contextlib.contextmanager
def memory_filesystem(directory: Path) -> Iterator[None]:
    """Put a tmpfs on a directory, so that no disk is measured."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80%,mode=755", "puzzlefs-bench", directory], check=True)
    try:
        yield
    finally:
        unmount_below(directory)
        unmount(directory)
