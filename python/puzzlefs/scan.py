"""A directory tree on disk -> tables, by the backend: which of it, and what is mounted below it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from puzzlefs import mountinfo
from puzzlefs._native import Look, Tree, native
from puzzlefs.errors import UsageError
from puzzlefs.records import Times
from puzzlefs.rows import ScanRules

# Attributes that belong to the host or to whoever may see them, not to the tree.
HOST_XATTRS = (
    b"security.selinux",
    b"security.SMACK64*",
    b"security.apparmor",
    b"security.ima",
    b"security.evm",
    b"trusted.*",
    b"user.overlay.*",
    b"btrfs.*",
    b"system.nfs4_acl",
)


class ScanOptions(NamedTuple):
    """What of a tree is taken: glob patterns as of `fnmatch`, case and all.

    exclude      what is left out: with a "/" patterns match a path from the root, without one any name
    xattrs       the attributes that are kept, by name
    drop_xattrs  those of them that are not, even so
    sort_xattrs  whether they are sorted by name, or kept in the system's order
    """

    exclude: Sequence[bytes] = ()
    xattrs: Sequence[bytes] = (b"*",)
    drop_xattrs: Sequence[bytes] = HOST_XATTRS
    sort_xattrs: bool = True


class MtimeRule(NamedTuple):
    """What becomes of modification times; `seconds` since the epoch are the rule's own time."""

    kind: Times
    seconds: int = 0


class Scan(NamedTuple):
    """A scanned tree.

    tree      its tables; no file has chunks yet
    paths     its files' paths from the root, each with a zero byte after it, in order of their inodes
    sources   `records.SOURCE` rows of these files
    notices   what was left out, one sentence each
    snapshot  what a `native.Look` at the tree can be given later
    """

    tree: Tree
    paths: bytes
    sources: bytes
    notices: list[str]
    snapshot: bytes


def scan(
    root: bytes,
    options: ScanOptions,
    mtime: MtimeRule,
    *,
    all_root: bool = False,
    mounts: Sequence[bytes] | None = None,
    horizon: int = 0,
    look: Look | None = None,
) -> Scan:
    """Read the tree below directory `root` (not its files' contents).

    mounts         paths from it on which something is mounted; None to ask the system
    horizon, look  as of `native.scan_tree`
    Raises `UsageError` where `root` is no directory, `SourceError` for what cannot be read.
    """
    root = os.path.realpath(root)
    if not os.path.isdir(root):
        raise UsageError(f"{os.fsdecode(root)}: not a directory")
    exclude, keep, drop, sort = options
    rules = ScanRules(list(exclude), list(keep), list(drop), sort, mtime.kind, mtime.seconds, all_root)
    points = mountinfo.below(root) if mounts is None else mounts
    tree, paths, sources, crossings, snapshot = native.scan_tree(root, points, rules, horizon, look)
    notices = [f"{os.fsdecode(path)}: a mount point, not crossed" for path in crossings]
    return Scan(tree, paths, sources, notices, snapshot)
