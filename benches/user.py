"""What an ordinary user gets: mounts by fusermount3, which nobody else may look into."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benches import process
from benches.mounts import mounted
from benches.peer import Peer
from benches.process import CommandError, measured
from benches.stage import Stage

USER = 65534
# The interpreter, the store or a tree may lie where only root may go: reading is allowed, nothing else.
_PREFIX = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
PREFIX = [*_PREFIX, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"]
_DEVICE = "/dev/fuse"


def walk(stage: Stage, peer: Peer, raw: bool) -> dict[str, float]:
    """Mount, list, walk, then read everything, all as an ordinary user."""
    with open_device(stage.work):
        place = stage.image(peer, raw=raw)
        with mounted(peer, place, mount=mounting, listing=list_as_user) as (mountpoint, seconds):
            walked = measured([*PREFIX, "find", str(mountpoint), "-ls"]).seconds
            script = 'tar -C "$0" -cf - . | cat > /dev/null'
            read = measured([*PREFIX, "bash", "-o", "pipefail", "-c", script, str(mountpoint)]).seconds
    return {"user-mount": seconds, "user-find": walked, "user-tar": read}


@contextlib.contextmanager
def mounting(peer: Peer, place: Path, mountpoint: Path) -> Iterator[None]:
    """Mount as `Peer.mounting` does, as the user, to whom the mountpoint belongs by then."""
    os.chown(mountpoint, USER, USER)
    process.run([*PREFIX, *peer.mount_command(place, mountpoint)], peer.environment(place))
    yield


def list_as_user(mountpoint: Path) -> None:
    """List a directory in a process of the user's."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            code = 0 if os.listdir(mountpoint) else 1
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise CommandError(f"{mountpoint}: the user cannot list it")


@contextlib.contextmanager
def open_device(work: Path) -> Iterator[None]:
    """Let everybody open /dev/fuse, as systems do on which users mount."""
    if os.stat(_DEVICE).st_mode & 0o006 == 0o006:
        yield
        return
    device = work / "fuse"
    os.mknod(device, 0o20666, os.stat(_DEVICE).st_rdev)
    device.chmod(0o666)
    subprocess.run(["mount", "--bind", device, _DEVICE], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", _DEVICE], check=True)
        device.unlink()
