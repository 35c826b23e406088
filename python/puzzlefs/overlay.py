"""Overlays: a writable directory over read-only ones, by the kernel or by fuse-overlayfs.

Nothing here knows of images: `writable` lays an overlay over a mounted image, and whoever has lower
directories of another kind may do the same.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress

from puzzlefs import mountinfo
from puzzlefs.errors import MountError, UnsupportedError
from puzzlefs.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from puzzlefs.mountinfo import Mount

KERNEL, HELPER = "overlay", "fuse.fuse-overlayfs"
_SOURCE = "puzzlefs"
# What the kernel does not know among its own marks it shows to nobody.
_BASE = "puzzlefs"
# The inode that the kernel gives the first user namespace, always.
_FIRST_USERS = 0xEFFFFFFD
# mount(2) copies one page of options, the last byte of which ends them.
_DATA_LIMIT = os.sysconf("SC_PAGE_SIZE") - 1
# An upper directory means the same wherever it is mounted next, whatever the kernel's own defaults are:
# names move by copying, content is whole, and it may lie over another image later.
_STABLE = ("index=off", "metacopy=off")


class Overlay(Value):
    """What an overlay is made of; every path is absolute.

    lowers      read-only directories, uppermost first
    upper       where changes go
    work        an empty directory for the kernel's own use, on the filesystem of `upper`
    mountpoint  where all of it is seen
    options     generic mount options, such as `nosuid`
    """

    __slots__ = ("lowers", "mountpoint", "options", "upper", "work")

    def __init__(
        self, lowers: Sequence[str], upper: str, work: str, mountpoint: str, options: Sequence[str] = ()
    ) -> None:
        self.lowers = tuple(lowers)
        self.upper = upper
        self.work = work
        self.mountpoint = mountpoint
        self.options = tuple(options)

    def fields(self) -> dict[str, object]:
        """Return the arguments that make an equal one, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def mount_overlay(overlay: Overlay) -> None:
    """Mount an overlay: with root's rights, in a user namespace too, by the kernel, else by fuse-overlayfs.

    In a user namespace the upper directory's marks are in `user.overlay.` attributes. Raises
    `MountError` with the reason, `UnsupportedError` where the program is missing.
    """
    if user := mount_with_upper(overlay.upper):
        raise MountError(f"{overlay.upper}: in use by the overlay on {os.fsdecode(user.mountpoint)}")
    if os.geteuid() != 0:
        _mount_by_helper(overlay)
        return
    _check_attributes(overlay)
    try:
        _mount_by_kernel(overlay)
    except OSError as error:
        # Before Linux 5.11 a user namespace had no overlays of its own.
        if error.errno != errno.EPERM or _helper() is None:
            raise MountError(f"{overlay.mountpoint}: {_reason(overlay, error)}") from error
        _mount_by_helper(overlay)
    _check_writable(overlay)


def mount_with_upper(upper: str) -> Mount | None:
    """Return an overlay of this table of mounts that writes to a directory, or None."""
    wanted = b"upperdir=" + _escaped(upper)
    return next(
        (mount for mount in mountinfo.mounts() if mount.kind == KERNEL and wanted in split(mount.options)), None
    )


def is_over(mount: Mount, lower: str) -> bool:
    """Whether a mount is an overlay over a directory."""
    return mount.kind == KERNEL and lower in lower_directories(mount.options)


def lower_directories(options: bytes) -> list[str]:
    """Return the lower directories that an overlay's options name, uppermost first."""
    parts: list[bytes] = []
    for option in split(options):
        if option.startswith(b"lowerdir+="):
            parts.append(option.removeprefix(b"lowerdir+="))
        elif option.startswith(b"lowerdir="):
            parts += split(option.removeprefix(b"lowerdir="), b":")
    return [os.fsdecode(_unescaped(part)) for part in parts if part]


def split(text: bytes, separator: bytes = b",") -> list[bytes]:
    """Return the options of an overlay, or what else is separated so, one by one, escapes as they are."""
    parts: list[bytes] = []
    escaped = False
    for part in text.split(separator):
        if escaped:
            parts[-1] += separator + part
        else:
            parts.append(part)
        escaped = (len(part) - len(part.rstrip(b"\\"))) % 2 == 1
    return parts


def in_user_namespace() -> bool:
    """Whether root here is not the machine's root, even where every number is the machine's."""
    return os.stat("/proc/self/ns/user").st_ino != _FIRST_USERS


def marks() -> str:
    """Return how the attributes begin that overlays mounted by this process keep their marks in."""
    return "user.overlay." if os.geteuid() != 0 or in_user_namespace() else "trusted.overlay."


def record_base(upper: str, image: str) -> None:
    """Note in an upper directory over which image it is, where its filesystem can."""
    with suppress(OSError):
        os.setxattr(upper, marks() + _BASE, os.fsencode(image))


def recorded_base(upper: str) -> str | None:
    """Return the image that was noted last, `DIR@sha256:HEX`."""
    for prefix in ("trusted.overlay.", "user.overlay."):
        with suppress(OSError):
            return os.fsdecode(os.getxattr(upper, prefix + _BASE))
    return None


def upper_directory(options: bytes) -> str | None:
    """Return the upper directory that an overlay's options name."""
    found = [option for option in split(options) if option.startswith(b"upperdir=")]
    return os.fsdecode(_unescaped(found[-1].removeprefix(b"upperdir="))) if found else None


def _check_attributes(overlay: Overlay) -> None:
    """Refuse a filesystem that keeps no attributes: the kernel mounts, and fails later, when it has to mark something."""
    name = f"{'user' if in_user_namespace() else 'trusted'}.overlay.puzzlefs"
    try:
        os.setxattr(overlay.work, name, b"")
        os.removexattr(overlay.work, name)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EROFS):
            raise _cannot_hold(overlay) from error


def _mount_by_kernel(overlay: Overlay) -> None:
    from puzzlefs.kernel_mount import flags_of
    from puzzlefs.syscalls import mount

    # Marks that users may write must not lead the kernel to other directories.
    marks = ("userxattr", "redirect_dir=nofollow") if in_user_namespace() else ("redirect_dir=off", "xino=on")
    data = b",".join([*_directories(overlay), *(word.encode() for word in (*_STABLE, *marks))])
    if len(data) > _DATA_LIMIT:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    mount(_SOURCE, overlay.mountpoint, KERNEL, flags_of(overlay.options), data)


def _directories(overlay: Overlay) -> list[bytes]:
    lowers = b":".join(map(_escaped, overlay.lowers))
    return [b"lowerdir=" + lowers, b"upperdir=" + _escaped(overlay.upper), b"workdir=" + _escaped(overlay.work)]


def _escaped(path: str) -> bytes:
    raw = os.fsencode(path)
    for character in (b"\\", b",", b":"):
        raw = raw.replace(character, b"\\" + character)
    return raw


def _unescaped(text: bytes) -> bytes:
    return b"\\".join(part.replace(b"\\", b"") for part in text.split(b"\\\\"))


def _reason(overlay: Overlay, error: OSError) -> str:
    if error.errno == errno.EINVAL:
        kind = mountinfo.kind_of(overlay.upper)
        return f"the kernel takes no overlay here: is {overlay.upper} on a filesystem ({kind}) that can hold changes?"
    if error.errno == errno.ENODEV:
        return "this kernel has no overlays (is the module `overlay` loaded?)"
    if error.errno == errno.EPERM:
        return "overlays are not permitted here; fuse-overlayfs, which needs no permission, is not installed"
    return f"cannot mount the overlay: {error.strerror}"


def _check_writable(overlay: Overlay) -> None:
    """Take an overlay down that the kernel mounted but cannot write to, for which it has but a message in its log."""
    if os.statvfs(overlay.mountpoint).f_flag & os.ST_RDONLY and "ro" not in overlay.options:
        from puzzlefs.syscalls import unmount

        unmount(overlay.mountpoint, lazy=True)
        raise _cannot_hold(overlay)


def _cannot_hold(overlay: Overlay) -> MountError:
    return MountError(f"{overlay.upper}: its filesystem ({mountinfo.kind_of(overlay.upper)}) cannot hold changes")


def _helper() -> str | None:
    import shutil

    return shutil.which("fuse-overlayfs")


def _mount_by_helper(overlay: Overlay) -> None:
    import subprocess

    helper = _helper()
    if helper is None:
        raise UnsupportedError("a writable mount needs root, a user namespace (unshare -Urm) or fuse-overlayfs")
    words = [*map(os.fsdecode, _directories(overlay)), *overlay.options]
    done = subprocess.run(
        [helper, "-o", ",".join(words), overlay.mountpoint],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().replace("\n", "; ")
        raise MountError(f"{overlay.mountpoint}: {reason or 'fuse-overlayfs failed'}")
