"""Bundles: a directory with a mounted image and the config.json that a container runtime is told."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

from puzzlefs.container.spec import ContainerOptions, runtime_spec
from puzzlefs.errors import UsageError
from puzzlefs.image import Image
from puzzlefs.mount import mount
from puzzlefs.store import store_error
from puzzlefs.unmount import unmount
from puzzlefs.writable import mount_writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from puzzlefs.mount import Settings

ROOTFS = "rootfs"


def make_bundle(
    image: Image,
    directory: str | os.PathLike[str],
    options: ContainerOptions,
    *,
    persist: str | os.PathLike[str] | None = None,
    fork: bool = False,
) -> None:
    """Make a bundle of an absent or empty directory, the image mounted on `rootfs` in it.

    persist  where a writable container keeps its changes; without it they go with the mount
    fork     as of `mount`

    It ends by `unmount(DIRECTORY/rootfs)`. Raises `UsageError`, and what mounting raises; then
    nothing is mounted.
    """
    spec = json.dumps(runtime_spec(image, options), indent=1)
    with ExitStack() as undo:
        rootfs = _make_directories(directory, undo)
        # A container's users are others than the one who mounts; programs may be setuid.
        settings: Settings = {"allow_other": os.geteuid() == 0, "fork": fork}
        if options.writable:
            mount_writable(image, rootfs, persist=persist, options=["suid"], **settings)
        else:
            mount(image, rootfs, options=["suid"], **settings)
        undo.callback(unmount, rootfs, lazy=True)
        _write(Path(directory, "config.json"), spec)
        undo.pop_all()


def _make_directories(directory: str | os.PathLike[str], undo: ExitStack) -> str:
    rootfs = os.path.join(directory, ROOTFS)
    try:
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
            undo.callback(os.rmdir, directory)
        elif os.listdir(directory):
            raise UsageError(f"{os.fspath(directory)}: not empty")
        os.mkdir(rootfs)
    except OSError as error:
        raise store_error(error, os.fspath(directory)) from error
    undo.callback(os.rmdir, rootfs)
    return rootfs


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content + "\n")
    except OSError as error:
        raise store_error(error, str(path)) from error
