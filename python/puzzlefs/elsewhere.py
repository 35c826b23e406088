"""Mounting in another table of mounts without staying there: it lasts as long as any process is in it."""

from __future__ import annotations

import os

from puzzlefs import kernel_mount, mountinfo
from puzzlefs.errors import MountError
from puzzlefs.syscalls import join_mount_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from puzzlefs._native import FuseServer
    from puzzlefs.mountinfo import Mount


class Elsewhere:
    """The mount namespace behind the file `path`, for a process that has another one.

    home  a descriptor of the process's own
    """

    def __init__(self, path: str) -> None:
        """Go there. Raises `MountError`. The process must have one thread, here and in `leave`."""
        self.path = path
        self.home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._join(path)

    def leave(self) -> None:
        """Go home; directories that are open stay so. Raises `MountError`."""
        self._join(self.home)
        os.close(self.home)

    def unmount(self, server: type[FuseServer], mountpoint: str, mount: Mount) -> None:
        """Take `mount` out of the tree there, if it is there still."""
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        try:
            self._join(self.path)
            there = mountinfo.topmost(mountpoint)
            if there is not None and there.device == mount.device:
                kernel_mount.unmount_lazily(server, mountpoint)
        finally:
            os._exit(0)

    def _join(self, namespace: str | int) -> None:
        try:
            join_mount_namespace(namespace)
        except OSError as error:
            raise MountError(f"{self.path}: {error.strerror}") from error
