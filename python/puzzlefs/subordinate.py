"""The further numbers of users and groups that the system grants an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
from contextlib import suppress

MAPPERS = ("newuidmap", "newgidmap")
"""The programs that map them, of users and of groups."""


def further_numbers() -> list[list[tuple[int, int]]]:
    """Return (first, count) of the ranges that /etc/subuid and /etc/subgid grant this user.

    One list for users, one for groups; nothing at all where either is empty or a program that maps
    them is missing.
    """
    granted = [_granted(kind) for kind in ("uid", "gid")]
    return granted if all(granted) and all(map(shutil.which, MAPPERS)) else []


def _granted(kind: str) -> list[tuple[int, int]]:
    number = os.geteuid()
    names = {str(number)}
    with suppress(KeyError):
        names.add(pwd.getpwuid(number).pw_name)
    found = []
    with suppress(OSError), open(f"/etc/sub{kind}", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, first, count, *_ = [*line.strip().split(":"), "", "", ""]
            if name in names and first.isdecimal() and count.isdecimal():
                found.append((int(first), int(count)))
    return found
