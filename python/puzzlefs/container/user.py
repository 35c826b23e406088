"""Whom an image's program runs as: names resolved in the image's own tables of users and groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from puzzlefs.constants import MIB
from puzzlefs.errors import NotFoundError, UsageError
from puzzlefs.image import Image

_TABLE_LIMIT = 16 * MIB
_ID_LIMIT = (1 << 32) - 1


class User(NamedTuple):
    """A user as the kernel knows one, and the home directory, if there is a known one."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str | None = None


class _Account(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


def resolve_user(image: Image, text: str) -> User:
    """Return whom `USER[:GROUP]` means, names or numbers; nothing means user 0.

    Without a group it is the user's own, and the further groups are those that list the user. Raises
    `UsageError` for a name that the image does not know, `IntegrityError` for damaged tables.
    """
    user, _, group = text.partition(":")
    accounts = list(_accounts(image))
    account = next((account for account in accounts if account.name == user), None)
    uid = account.uid if account else _number(user or "0")
    if uid is None:
        raise UsageError(f"user {user!r} is not in the image's /etc/passwd")
    account = account or next((account for account in accounts if account.uid == uid), None)
    home = account.home if account else None
    if group:
        return User(uid, _gid(image, group), (), home)
    if account is None:
        return User(uid, 0)
    groups = sorted({gid for _, gid, members in _groups(image) if account.name in members} - {account.gid})
    return User(uid, account.gid, tuple(groups), home)


def _gid(image: Image, group: str) -> int:
    gid = next((gid for name, gid, _ in _groups(image) if name == group), _number(group))
    if gid is None:
        raise UsageError(f"group {group!r} is not in the image's /etc/group")
    return gid


def _accounts(image: Image) -> Iterator[_Account]:
    for fields in _table(image, "/etc/passwd", 7):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            yield _Account(fields[0], uid, gid, fields[5])


def _groups(image: Image) -> Iterator[tuple[str, int, list[str]]]:
    """Yield (name, number, members)."""
    for fields in _table(image, "/etc/group", 4):
        gid = _number(fields[2])
        if gid is not None:
            yield fields[0], gid, fields[3].split(",")


def _table(image: Image, path: str, width: int) -> Iterator[list[str]]:
    try:
        with image.open(path) as file:
            lines = file.read(_TABLE_LIMIT).decode("utf-8", "surrogateescape").splitlines()
    except NotFoundError:
        return
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) == width and fields[0]:
            yield fields


def _number(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < _ID_LIMIT:
        return int(text)
    return None
