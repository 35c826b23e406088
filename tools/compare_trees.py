"""Compare two directory trees inode by inode and byte by byte.

The first tree is the truth. Links are counted inside it, so a file with further names elsewhere on
the host compares equal with a copy that has only those of the tree.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

BLOCK = 1 << 20
FIELDS = frozenset(
    ["type", "mode", "uid", "gid", "size", "mtime_ns", "rdev", "nlink", "links", "target", "xattrs", "content"]
)
# Attributes that belong to the host, not to a tree.
HOST_XATTRS = ("security.selinux", "security.SMACK64", "security.apparmor", "security.ima", "security.evm", "trusted.")


class Difference(NamedTuple):
    """One field of one path (relative, b"" is the root) that is not as it should be."""

    path: bytes
    field: str
    expected: object
    actual: object

    def __str__(self) -> str:
        path = os.fsdecode(self.path or b".").encode("unicode_escape").decode()
        return f"{path}: {self.field} is {self.actual!r}, not {self.expected!r}"


def differences(
    expected: str | os.PathLike[str], actual: str | os.PathLike[str], ignore: Collection[str] = ()
) -> list[Difference]:
    """Return every difference between two trees, by path; no difference is an empty list.

    ignore  which of FIELDS not to look at; a name that only one tree has is always a difference ("name")
    Symbolic links are never followed.
    """
    left, right = os.fsencode(expected), os.fsencode(actual)
    wanted, found = dict(_walk(left)), dict(_walk(right))
    differing = [Difference(path, "name", "there", "missing") for path in wanted.keys() - found.keys()]
    differing += [Difference(path, "name", "missing", "there") for path in found.keys() - wanted.keys()]
    both = sorted(wanted.keys() & found.keys())
    # Which name stands for an inode, and how many it has: equal where hard links are equal.
    first_wanted, first_found = _first_names(wanted, both), _first_names(found, both)
    names = Counter(_identity(status) for status in wanted.values())
    for path in both:
        status = wanted[path]
        one = _fields(left, path, status) | {"nlink": _links(status, names), "links": first_wanted[_identity(status)]}
        other = _fields(right, path, found[path])
        other |= {"nlink": found[path].st_nlink, "links": first_found[_identity(found[path])]}
        if stat.S_ISDIR(status.st_mode) and 1 in (one["nlink"], other["nlink"]):
            del one["nlink"]  # a filesystem that does not count subdirectories
        for field in one.keys() - set(ignore):
            if one[field] != other.get(field):
                differing.append(Difference(path, field, one[field], other.get(field)))
        if stat.S_ISREG(status.st_mode) and stat.S_ISREG(found[path].st_mode) and "content" not in ignore:
            differing += _content(left, right, path)
    return sorted(differing, key=lambda difference: difference[:2])


def _walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    yield b"", os.lstat(root)
    pending = [b""]
    while pending:
        directory = pending.pop()
        with os.scandir(os.path.join(root, directory)) as entries:
            for entry in entries:
                path = os.path.join(directory, entry.name)
                yield path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _first_names(tree: dict[bytes, os.stat_result], paths: list[bytes]) -> dict[tuple[int, int], bytes]:
    return {_identity(tree[path]): path for path in reversed(paths)}


def _links(status: os.stat_result, names: Counter[tuple[int, int]]) -> int:
    return status.st_nlink if stat.S_ISDIR(status.st_mode) else names[_identity(status)]


def _fields(root: bytes, path: bytes, status: os.stat_result) -> dict[str, Any]:
    full = os.path.join(root, path)
    fields: dict[str, Any] = {
        "type": stat.S_IFMT(status.st_mode),
        "mode": oct(stat.S_IMODE(status.st_mode)),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mtime_ns": status.st_mtime_ns,
        "xattrs": _xattrs(full),
    }
    if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
        fields["size"] = status.st_size
    if stat.S_ISLNK(status.st_mode):
        fields["target"] = os.readlink(full)
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        fields["rdev"] = status.st_rdev
    return fields


def _xattrs(path: bytes) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}  # a filesystem without attributes, or a mount of an image without any
        raise
    kept = sorted(name for name in names if not name.startswith(HOST_XATTRS))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in kept}


def _content(left: bytes, right: bytes, path: bytes) -> Iterator[Difference]:
    """Yield the first difference of two files' bytes, or the error that reading either raised."""
    try:
        with open(os.path.join(left, path), "rb", 0) as one, open(os.path.join(right, path), "rb", 0) as other:
            offset = 0
            while True:
                expected, actual = _block(one), _block(other)
                if expected != actual:
                    at = _first_difference(expected, actual)
                    shown = f"{actual[at : at + 16]!r} at {offset + at}"
                    yield Difference(path, "content", expected[at : at + 16], shown)
                if expected != actual or not expected:
                    return
                offset += len(expected)
    except OSError as error:
        yield Difference(path, "content", "readable", os.strerror(error.errno or 0))


def _first_difference(one: bytes, other: bytes) -> int:
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _block(file: Any) -> bytes:
    """Return the next BLOCK bytes; fewer only at the end."""
    parts = bytearray()
    while len(parts) < BLOCK and (part := file.read(BLOCK - len(parts))):
        parts += part
    return bytes(parts)


def main(expected: str, actual: str) -> int:
    """Print the differences; 1 if there are any."""
    found = differences(expected, actual)
    for difference in found:
        print(difference)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
