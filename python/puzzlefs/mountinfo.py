"""The kernel's table of mounts, /proc/self/mountinfo."""

from __future__ import annotations

import os

from puzzlefs.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = "/proc/self/mountinfo"
_OCTAL = frozenset(b"01234567")
_ESCAPE_LENGTH = 3


class Mount(Value):
    """One line of the table, later lines lying over earlier ones.

    device      "major:minor" as /sys names it
    options     the filesystem's own options
    """

    __slots__ = ("device", "ident", "kind", "mountpoint", "options", "parent", "root", "source")

    def __init__(
        self,
        ident: int,
        parent: int,
        device: str,
        root: bytes,
        mountpoint: bytes,
        kind: str,
        source: bytes,
        options: bytes,
    ) -> None:
        self.ident = ident
        self.parent = parent
        self.device = device
        self.root = root
        self.mountpoint = mountpoint
        self.kind = kind
        self.source = source
        self.options = options

    @property
    def is_ours(self) -> bool:
        """Whether this may be a PuzzleFS mount; the original's has the bare type."""
        return self.kind in ("fuse.puzzlefs", "fuse")

    @property
    def is_overlay(self) -> bool:
        """Whether this is an overlay, the kernel's or one of fuse-overlayfs."""
        return self.kind in ("overlay", "fuse.fuse-overlayfs")


def mounts() -> list[Mount]:
    """Return every mount of this process's namespace, in the order of the table."""
    with open(TABLE, "rb") as table:
        return parse(table.read())


def all_tables() -> Iterator[list[Mount]]:
    """Yield the table of each namespace that has a process of which this one may know."""
    seen = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            namespace = os.stat(f"/proc/{name}/ns/mnt").st_ino
            if namespace in seen:
                continue
            with open(f"/proc/{name}/mountinfo", "rb") as table:
                content = table.read()
        except OSError:
            continue
        seen.add(namespace)
        yield parse(content)


def parse(table: bytes) -> list[Mount]:
    """Read a table as proc_pid_mountinfo(5) describes it; lines it does not describe are left out."""
    found = []
    for line in table.splitlines():
        fields = line.split(b" ")
        if b"-" not in fields[6:]:
            continue
        separator = fields.index(b"-", 6)
        kind, source, options = [*fields[separator + 1 :], b"", b"", b""][:3]
        found.append(
            Mount(
                int(fields[0]),
                int(fields[1]),
                fields[2].decode("ascii"),
                unescape(fields[3]),
                unescape(fields[4]),
                kind.decode("ascii", "replace"),
                unescape(source),
                unescape(options),
            )
        )
    return found


def topmost(path: str | os.PathLike[str]) -> Mount | None:
    """Return the mount that is seen at `path` itself, or None where nothing is mounted there.

    The path's last component is never touched, so that a dead filesystem there does no harm; only
    where nothing is mounted under that name is a symbolic link in its place followed.
    """
    table = mounts()
    absolute = os.path.abspath(path)
    beside = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
    return _last(table, beside) or _last(table, os.path.realpath(absolute))


def _last(table: list[Mount], path: str) -> Mount | None:
    wanted = os.fsencode(path)
    at_path = [mount for mount in table if mount.mountpoint == wanted]
    return at_path[-1] if at_path else None


def below(root: bytes) -> list[bytes]:
    """Return the paths, relative to the directory `root` (links resolved), on which something is mounted."""
    prefix = root.rstrip(b"/") + b"/"
    try:
        points = {mount.mountpoint for mount in mounts()}
    except OSError:
        return []
    return sorted(point[len(prefix) :] for point in points if point.startswith(prefix) and point != prefix)


def holding(path: bytes) -> Mount | None:
    """Return the mount that a path (absolute, links resolved) is on."""
    whole = path.rstrip(b"/") + b"/"
    found = [mount for mount in mounts() if whole.startswith(mount.mountpoint.rstrip(b"/") + b"/")]
    # Of two at the same place the later one lies above.
    return max(reversed(found), key=lambda mount: len(mount.mountpoint), default=None)


def of_device(device: int) -> Mount | None:
    """Return a mount of the filesystem that stat(2) calls `device`."""
    name = f"{os.major(device)}:{os.minor(device)}"
    return next((mount for mount in mounts() if mount.device == name), None)


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return the type of the filesystem that a path is on, "unknown" where the table does not say."""
    device = os.stat(path).st_dev
    mount = of_device(device)
    return mount.kind if mount is not None else "unknown"


def unescape(field: bytes) -> bytes:
    """Undo the octal escapes of space, tab, newline and backslash."""
    start, *parts = field.split(b"\\")
    return start + b"".join(map(_unescaped, parts))


def _unescaped(part: bytes) -> bytes:
    """Return what stands for a backslash and `part`, which has none."""
    digits, rest = part[:_ESCAPE_LENGTH], part[_ESCAPE_LENGTH:]
    if len(digits) < _ESCAPE_LENGTH or not _OCTAL.issuperset(digits):
        return b"\\" + part
    return bytes([int(digits, 8) & 0xFF]) + rest
