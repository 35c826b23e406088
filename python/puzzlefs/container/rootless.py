"""Containers of ordinary users: root's rights in a user namespace of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from puzzlefs.container.user import User
from puzzlefs.errors import UnsupportedError, UsageError
from puzzlefs.overlay import in_user_namespace
from puzzlefs.subordinate import further_numbers


def enter_user_namespace(command: Sequence[str]) -> None:
    """Become `command` as root of a new user namespace, with mounts of its own, that end with it.

    All numbers that /etc/subuid and /etc/subgid grant are there, or only the user's own. Raises
    `UnsupportedError` where the system has no way in.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        raise UnsupportedError("running a container without root needs unshare (of util-linux), which is missing")
    ids = ["--map-auto"] if further_numbers() else []
    words = [unshare, "--user", "--map-root-user", *ids, "--mount", "--propagation", "private", "--", *command]
    os.execv(unshare, words)  # noqa: S606  (no shell is wanted)


def is_rootless() -> bool:
    """Tell whether this process has root's rights only in a user namespace, or none at all."""
    return os.geteuid() != 0 or in_user_namespace()


def check_mapped(user: User) -> User:
    """Return the user as far as this user namespace has it. Raises `UsageError` where it lacks the user."""
    for number, table, what in ((user.uid, "uid", "user"), (user.gid, "gid", "group")):
        if not _is_mapped(number, table):
            raise UsageError(f"{what} {number} does not exist without root; /etc/sub{table} can grant more of them")
    with open("/proc/self/setgroups") as file:
        if file.read().strip() == "deny":
            return user._replace(groups=())
    return user._replace(groups=tuple(group for group in user.groups if _is_mapped(group, "gid")))


def _is_mapped(number: int, table: str) -> bool:
    with open(f"/proc/self/{table}_map") as file:
        rows = [list(map(int, line.split())) for line in file]
    return any(first <= number < first + count for first, _, count in rows)
