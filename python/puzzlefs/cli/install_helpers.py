"""Install mount.puzzlefs and mount.fuse.puzzlefs where mount(8) looks, for `mount -t puzzlefs` and /etc/fstab."""

from __future__ import annotations

import os

from puzzlefs import launcher
from puzzlefs.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_PLACE = "/sbin"
_NAMES = ("mount.puzzlefs", "mount.fuse.puzzlefs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--directory", metavar="DIR", default=_PLACE, help="where mount(8) looks (default: /sbin)")
    parser.add_argument("--uninstall", action="store_true", help="remove what was installed")


def run(options: argparse.Namespace) -> int:
    if not os.path.isdir(options.directory):
        raise UnsupportedError(f"{options.directory}: not a directory")
    for name in _NAMES:
        path = os.path.join(options.directory, name)
        if options.uninstall:
            launcher.remove(path)
        else:
            launcher.write(path, "puzzlefs.mount_helper", "puzzlefs install-helpers --uninstall")
            print(path)
    return 0
