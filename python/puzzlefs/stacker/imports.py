"""Files that a layer imports: fetched into one directory, and told apart by their content."""

from __future__ import annotations

import os
import shutil
import stat
import urllib.request
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from puzzlefs.constants import MIB
from puzzlefs.errors import BuildError, NotFoundError, UsageError
from puzzlefs.image import Image
from puzzlefs.records import Kind
from puzzlefs.stacker.layers import REMOTE, STACKER, Import, import_name, layer_of

_TIMEOUT = 60


def fetch(item: Import, directory: Path, built: Mapping[str, Image]) -> str:
    """Put an import into a directory, under its name; return what tells its content from any other.

    built  the images of the layers that stacker:// names
    Raises `NotFoundError`, `UsageError`, `BuildError` where it has not the hash that was promised.
    """
    target = directory / import_name(item)
    if item.path.startswith(REMOTE):
        _download(item.path, target)
    elif item.path.startswith(STACKER):
        layer = layer_of(item.path)
        _copy_out(built[layer], item.path.removeprefix(f"{STACKER}{layer}"), target)
    else:
        _copy(item.path, target)
    if item.hash is not None:
        if not target.is_file():
            raise UsageError(f"{item.path}: a hash is of a file, not of a directory")
        found = _hash(target)
        if found != item.hash:
            raise BuildError(f"{item.path}: its SHA-256 is {found}, not {item.hash}")
    return fingerprint(target)


def fingerprint(path: Path) -> str:
    """Return a digest of a file, or of a whole directory: names, kinds, modes, link targets and contents."""
    digest = sha256()
    pending = [path]
    while pending:
        place = pending.pop()
        status = place.lstat()
        facts = [os.fsencode(place.relative_to(path)), b"%o" % status.st_mode]
        if stat.S_ISLNK(status.st_mode):
            facts.append(os.fsencode(os.readlink(place)))
        elif stat.S_ISREG(status.st_mode):
            facts.append(_hash(place).encode())
        elif stat.S_ISDIR(status.st_mode):
            pending += sorted(place.iterdir(), reverse=True)
        digest.update(b"".join(b"%d:%s," % (len(fact), fact) for fact in facts))
    return digest.hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def _download(url: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, target.open("wb") as file:  # noqa: S310 - http(s) only
            shutil.copyfileobj(answer, file, MIB)
    except OSError as error:
        raise NotFoundError(f"{url}: cannot be fetched: {getattr(error, 'reason', None) or error}") from error
    target.chmod(0o644)


def _copy(path: str, target: Path) -> None:
    try:
        if os.path.isdir(path):
            shutil.copytree(path, target, symlinks=True)
        elif os.path.isfile(path):
            shutil.copy2(path, target)
        else:
            raise NotFoundError(f"{path}: no such file to import")
    except shutil.Error as error:
        source, _, reason = error.args[0][0]
        raise BuildError(f"{source}: {reason}") from error


def _copy_out(image: Image, path: str, target: Path) -> None:
    """Copy a file or directory out of an image."""
    pending = [(image.resolve(path), target)]
    while pending:
        ino, place = pending.pop()
        _, kind, permissions, _, _, seconds, nanoseconds, *_ = image.index.stat(ino)
        if kind == Kind.LNK:
            place.symlink_to(os.fsdecode(image.index.symlink(ino)))
            continue
        if kind == Kind.DIR:
            place.mkdir()
            entries: Any = image.index.entries(ino, 0, 1 << 32)
            pending += [(below, place / os.fsdecode(name)) for name, below in entries]
        elif kind == Kind.FILE:
            with place.open("wb") as file:
                image.filesystem.reader.extract(ino, file.fileno())
            os.utime(place, ns=(0, seconds * 1_000_000_000 + nanoseconds))
        else:
            raise UsageError(f"{image.name}: {path}: holds what is no file, directory or link")
        place.chmod(permissions | 0o700 if kind == Kind.DIR else permissions)
