"""The process that a container of an image starts, as the image's config says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puzzlefs.errors import NotFoundError, UnsupportedError
from puzzlefs.image import Image
from puzzlefs.runtime_config import DEFAULT_ENV
from puzzlefs.value import Value

_ID_LIMIT = 1 << 32
_TABLE_LIMIT = 1 << 20


class Process(Value):
    """What to run and as whom.

    arguments    the program and its arguments; empty where the image names none
    environment  "NAME=VALUE" strings, with a PATH
    uid, gid     numbers in the container
    cwd          an absolute path in the container
    stop         the signal that asks it to end, as "SIGTERM"
    """

    __slots__ = ("arguments", "cwd", "environment", "gid", "stop", "uid")

    def __init__(
        self, arguments: tuple[str, ...], environment: tuple[str, ...], uid: int, gid: int, cwd: str, stop: str
    ) -> None:
        self.arguments = arguments
        self.environment = environment
        self.uid = uid
        self.gid = gid
        self.cwd = cwd
        self.stop = stop


def process_of(image: Image) -> Process:
    """Return the process of an image's containers; without a config, nothing in particular as root.

    Names of users and groups are looked up in the image. Raises `UnsupportedError` for a config that
    says something else than what it should, or a user that the image does not know.
    """
    config = (image.config or {}).get("config") or {}
    if not isinstance(config, Mapping):
        raise UnsupportedError(f"{image.name}: the image config's `config` is not an object")
    arguments = (*_strings(config, "Entrypoint"), *_strings(config, "Cmd"))
    environment = _strings(config, "Env")
    if not any(variable.startswith("PATH=") for variable in environment):
        environment = (*DEFAULT_ENV, *environment)
    uid, gid = resolve_user(image, _string(config, "User"))
    cwd = _string(config, "WorkingDir") or "/"
    return Process(arguments, environment, uid, gid, f"/{cwd.lstrip('/')}", _string(config, "StopSignal") or "SIGTERM")


def resolve_user(image: Image, text: str) -> tuple[int, int]:
    """Return the numbers of `user[:group]`, names or numbers, "" for root. Raises `UnsupportedError`."""
    user, _, group = text.partition(":")
    row = _row(image, "/etc/passwd", user or "0", 7)
    if row is None and not user.isdecimal() and user:
        raise UnsupportedError(f"{image.name}: the image has no user {user!r}")
    uid = _number(image, row[2] if row else user or "0")
    if not group:
        return uid, _number(image, row[3]) if row else 0
    if group.isdecimal():
        return uid, _number(image, group)
    found = _row(image, "/etc/group", group, 4)
    if found is None:
        raise UnsupportedError(f"{image.name}: the image has no group {group!r}")
    return uid, _number(image, found[2])


def _row(image: Image, path: str, wanted: str, columns: int) -> list[str] | None:
    """Return the row of a table of users or groups that has a name, or else a number."""
    try:
        with image.open(path) as file:
            content = file.read(_TABLE_LIMIT)
    except NotFoundError:
        return None
    rows = [line.split(":") for line in content.decode("utf-8", "surrogateescape").splitlines()]
    rows = [row for row in rows if len(row) >= columns]
    column = 2 if wanted.isdecimal() else 0
    return next((row for row in rows if row[column] == wanted), None)


def _number(image: Image, text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) >= _ID_LIMIT - 1:
        raise UnsupportedError(f"{image.name}: {text!r} is not the number of a user or group")
    return int(text)


def _strings(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise UnsupportedError(f"the image config's {key} is not a list of strings")
    return tuple(value)


def _string(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key) or ""
    if not isinstance(value, str):
        raise UnsupportedError(f"the image config's {key} is not a string")
    return value
