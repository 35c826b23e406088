"""A mount as the kernel has it: options, mounting with privilege or without, read-ahead.

Used where the compiled backend serves; the library under pyfuse3 does the same in its own way.
"""

from __future__ import annotations

import errno
import os
import sys

from puzzlefs.errors import MountError, UnsupportedError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from puzzlefs._native import FuseServer
    from puzzlefs.mountinfo import Mount

_DEVICE = "/dev/fuse"
_HELPER = "fusermount3"
# Bytes of a descriptor that comes through a socket.
_INT = 4
_READ_AHEAD_KIB = 1024

_READ_ONLY = 1
_NO_SUID, _NO_DEV, _NO_EXEC, _SYNC, _DIR_SYNC, _NO_FOLLOW = 2, 4, 8, 16, 128, 256
_NO_ATIME, _NO_DIR_ATIME, _RELATIVE_ATIME, _STRICT_ATIME, _LAZY_TIME = 1 << 10, 1 << 11, 1 << 21, 1 << 24, 1 << 25
# option -> the flags of mount(2) that it sets and those that it clears
_FLAGS = {
    "ro": (_READ_ONLY, 0),
    "suid": (0, _NO_SUID),
    "nosuid": (_NO_SUID, 0),
    "dev": (0, _NO_DEV),
    "nodev": (_NO_DEV, 0),
    "exec": (0, _NO_EXEC),
    "noexec": (_NO_EXEC, 0),
    "async": (0, _SYNC),
    "sync": (_SYNC, 0),
    "dirsync": (_DIR_SYNC, 0),
    "symfollow": (0, _NO_FOLLOW),
    "nosymfollow": (_NO_FOLLOW, 0),
    "atime": (0, _NO_ATIME),
    "noatime": (_NO_ATIME, 0),
    "diratime": (0, _NO_DIR_ATIME),
    "nodiratime": (_NO_DIR_ATIME, 0),
    "relatime": (_RELATIVE_ATIME, 0),
    "norelatime": (0, _RELATIVE_ATIME),
    "strictatime": (_STRICT_ATIME, 0),
    "nostrictatime": (0, _STRICT_ATIME),
    "lazytime": (_LAZY_TIME, 0),
    "nolazytime": (0, _LAZY_TIME),
}
# What the kernel's own filesystem takes.
_PASSED = ("allow_other", "default_permissions")
_PASSED_VALUES = ("max_read", "context", "fscontext", "defcontext", "rootcontext")


def mount(
    server: type[FuseServer], name: str, mountpoint: str, options: Sequence[str] = (), *, allow_other: bool = False
) -> int:
    """Mount the image called `name` on a directory; return the descriptor of the connection to the kernel.

    Raises `MountError` with the reason, also for an option that nobody knows.
    """
    flags, passed = _parse(mountpoint, [*options, "allow_other"] if allow_other else options)
    if os.geteuid() != 0:
        return _mount_by_helper(name, mountpoint, options, passed)
    connection = _open_device()
    try:
        server.mount(connection, os.fsencode(name), os.fsencode(mountpoint), flags, ",".join(passed).encode())
    except OSError as error:
        os.close(connection)
        if error.errno == errno.EPERM and _helper() is not None:
            return _mount_by_helper(name, mountpoint, options, passed)
        raise MountError(f"{mountpoint}: {error.strerror}") from error
    return connection


def is_generic(option: str) -> bool:
    """Whether an option is one of mount(2) itself, for any filesystem."""
    return option in _FLAGS


def is_known(option: str) -> bool:
    """Whether `mount` takes an option."""
    word, _, value = option.partition("=")
    return is_generic(option) or option in _PASSED or (word in _PASSED_VALUES and bool(value))


def flags_of(options: Sequence[str], flags: int = 0) -> int:
    """Return the flags of mount(2) that generic options make of `flags`."""
    for option in options:
        on, off = _FLAGS[option]
        flags = flags & ~off | on
    return flags


def unmount_lazily(server: type[FuseServer], mountpoint: str) -> None:
    """Take a mount of this process out of the tree; who uses it may go on. Errors are of no interest."""
    try:
        server.unmount(os.fsencode(mountpoint), True)
    except OSError:
        helper = _helper()
        if helper is not None:
            _run([helper, "-u", "-z", "-q", "--", mountpoint], os.environ)


def raise_read_ahead(mount: Mount) -> None:
    """Let the kernel read 1 MiB ahead, which quadruples sequential reads; only root may, and none must."""
    try:
        with open(f"/sys/class/bdi/{mount.device}/read_ahead_kb", "wb") as setting:
            setting.write(b"%d\n" % _READ_AHEAD_KIB)
    except OSError:
        pass


def process_name(mount: Mount) -> str:
    """Return what the process that serves a mount is called (its `comm`); at most 15 bytes."""
    return f"puzzlefs:{mount.device.partition(':')[2]}"[:15]


def _parse(mountpoint: str, options: Sequence[str]) -> tuple[int, list[str]]:
    """Return the flags of mount(2), and the options that are the filesystem's own."""
    flags, passed = _READ_ONLY | _NO_SUID | _NO_DEV, ["default_permissions"]
    for option in options:
        if is_generic(option):
            flags = flags_of([option], flags)
        elif is_known(option):
            passed += [option] if option not in passed else []
        else:
            raise MountError(f"{mountpoint}: unknown option {option!r}")
    return flags, passed


def _open_device() -> int:
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        hint = " (is the module `fuse` loaded?)" if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO) else ""
        raise MountError(f"{_DEVICE}: {error.strerror}{hint}") from error


def _helper() -> str | None:
    places = (os.path.join(directory, _HELPER) for directory in os.get_exec_path())
    return next((place for place in places if os.access(place, os.X_OK) and not os.path.isdir(place)), None)


def _mount_by_helper(name: str, mountpoint: str, options: Sequence[str], passed: Sequence[str]) -> int:
    """Mount by the set-user-id program fusermount3, which sends the connection through a socket."""
    if TYPE_CHECKING:
        import socket
    else:
        # The module behind `socket`, without the enumerations.
        import _socket as socket

    helper = _helper()
    if helper is None:
        raise UnsupportedError("mounting without privilege needs fusermount3")
    # A comma ends an option and a backslash protects one.
    source = shown(name).replace("\\", "\\\\").replace(",", "\\,")
    words = ["ro", "nosuid", "nodev", f"fsname={source}", "subtype=puzzlefs", *passed]
    words += [option for option in options if is_generic(option)]
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    try:
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        code, said = _run([helper, "-o", ",".join(words), "--", mountpoint], environment)
        theirs.close()
        _, sent, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(_INT))
    finally:
        ours.close()
        theirs.close()
    if code != 0 or not sent:
        reason = said.decode("utf-8", "replace").strip().replace("\n", "; ")
        raise MountError(f"{mountpoint}: {reason or 'fusermount3 failed'}")
    connection = int.from_bytes(sent[0][2][:_INT], sys.byteorder)
    os.set_inheritable(connection, False)
    return connection


def _run(words: list[str], environment: Mapping[str, str]) -> tuple[int, bytes]:
    """Run a program to its end; return its exit code, and what it said to standard error.

    `subprocess` would do, but takes longer to load than an image.
    """
    reading, writing = os.pipe()
    with open(reading, "rb") as errors:
        try:
            actions: list[tuple[Any, ...]] = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, writing, 2),
            ]
            process = os.posix_spawn(words[0], words, environment, file_actions=actions)
        except OSError as error:
            raise MountError(f"{words[0]}: {error.strerror}") from error
        finally:
            os.close(writing)
        said = errors.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), said
