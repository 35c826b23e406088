"""Where LXC finds the template."""

from __future__ import annotations

import os

from puzzlefs import launcher
from puzzlefs.errors import UnsupportedError
from puzzlefs.lxc.config import SHARE

_NAME = "lxc-puzzlefs"
_MODULE = "puzzlefs.lxc.template"


def install(directory: str | None = None) -> str:
    """Write the template where `lxc-create -t puzzlefs` looks; return its path.

    directory  another one than this system's, for an LXC elsewhere. Raises `UnsupportedError` where there
    is none or something else in the template's place, `OSError` without the right to write there.
    """
    place = directory or os.path.join(SHARE, "templates")
    if not os.path.isdir(place):
        raise UnsupportedError(f"{place}: no directory of LXC's templates (is lxc installed?)")
    path = os.path.join(place, _NAME)
    launcher.write(path, _MODULE, "puzzlefs lxc install --uninstall")
    return path


def uninstall(directory: str | None = None) -> bool:
    """Remove what `install` wrote; return whether it was there. Raises as `install` does."""
    return launcher.remove(os.path.join(directory or os.path.join(SHARE, "templates"), _NAME))


def template_path() -> str:
    """Return the path of the template for `lxc-create -t PATH`, which needs no installation."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    place = os.path.join(home, "puzzlefs")
    os.makedirs(place, exist_ok=True)
    path = os.path.join(place, _NAME)
    launcher.write(path, _MODULE, f"rm {path}")
    return path
