"""Commands that find this very package again: in another environment, without PATH, out of a virtual environment."""

from __future__ import annotations

import os
import shlex
import sys

from puzzlefs.errors import UnsupportedError

_MODE = 0o755
_PACKAGES = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_MARK = "# Written by puzzlefs; `{remove}` removes it."


def command(module: str = "puzzlefs") -> list[str]:
    """Return the words that run a module of this package, by absolute paths."""
    import site

    words = [sys.executable, "-P", "-m", module]
    if _PACKAGES in map(os.path.realpath, site.getsitepackages()):
        return words
    return ["env", f"PYTHONPATH={_PACKAGES}", *words]


def environment() -> dict[str, str]:
    """Return this process's environment, in which another interpreter finds this very package."""
    places = [_PACKAGES, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}


def write(path: str, module: str, remove: str) -> None:
    """Write a program that runs a module of this package with its own arguments.

    remove  the command that removes it, for who reads the file. Replaces only what this function wrote.
    Raises `UnsupportedError` where something else is there, `OSError`.
    """
    if not _is_ours(path):
        raise UnsupportedError(f"{path} is there already, and not of puzzlefs")
    text = f'#!/bin/sh\n{_MARK.format(remove=remove)}\nexec {shlex.join(command(module))} "$@"\n'
    unfinished = f"{path}.new"
    with open(unfinished, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        os.fchmod(file.fileno(), _MODE)
    os.replace(unfinished, path)


def remove(path: str) -> bool:
    """Remove a program that `write` wrote; return whether it was there. Raises as `write` does."""
    if not os.path.lexists(path):
        return False
    if not _is_ours(path):
        raise UnsupportedError(f"{path} is not of puzzlefs")
    os.unlink(path)
    return True


def _is_ours(path: str) -> bool:
    """Whether a file has our mark, or is not there at all."""
    if not os.path.lexists(path):
        return True
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return _MARK.partition(";")[0].encode() in file.read(4096)
