"""The lines that a container's configuration gets."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence

from puzzlefs.container_process import Process
from puzzlefs.errors import UnsupportedError

SHARE = "/usr/share/lxc"
# An LXC hook's own words, which the shell that runs it fills in.
ROOTFS = '"${LXC_ROOTFS_PATH}"'
_VARIABLE = "PUZZLEFS_COMMAND"


def includes(unprivileged: bool, share: str = SHARE) -> Iterator[str]:
    """Yield the lines that include LXC's own settings, as far as this version has them."""
    names = ["common.conf", "oci.common.conf", *(["userns.conf"] if unprivileged else [])]
    for name in names:
        path = os.path.join(share, "config", name)
        if os.path.exists(path):
            yield f"lxc.include = {path}"


def process_lines(process: Process, has_init: bool) -> Iterator[str]:
    """Yield the lines that start a container's process; with an init and nothing else to start, that."""
    arguments = process.arguments or (() if has_init else ("/bin/sh",))
    if arguments:
        yield from _command_lines(arguments)
        yield f"lxc.signal.halt = {process.stop}"
    yield f"lxc.init.uid = {process.uid}"
    yield f"lxc.init.gid = {process.gid}"
    yield f"lxc.init.cwd = {_checked(process.cwd, 'working directory')}"
    for variable in process.environment:
        yield f"lxc.environment = {_checked(variable, 'environment')}"


def mount_hook(helper: Sequence[str], upper: str, image: str) -> Iterator[str]:
    """Yield the lines by which each start mounts the image, in the container's own table of mounts.

    There it goes with the container, whatever ends it.
    """
    yield "lxc.hook.version = 1"
    yield f"lxc.hook.pre-mount = {shlex.join([*helper, 'mount', '--persist', upper, image])} {ROOTFS}"


def shared_hooks(helper: Sequence[str], upper: str, image: str) -> Iterator[str]:
    """Yield the lines by which containers use one mount of the image, which lies in the host's table of mounts."""
    yield "lxc.hook.version = 1"
    mount = [*helper, "mount", "--share", "--persist", upper, image]
    yield f"lxc.hook.pre-start = {shlex.join(mount)} {ROOTFS}"
    yield f"lxc.hook.post-stop = {shlex.join([*helper, 'umount', '--lazy'])} {ROOTFS}"


def dhcp_lines(share: str = SHARE) -> Iterator[str]:
    """Yield the lines by which the host asks for the container's address. Raises `UnsupportedError`."""
    hook = os.path.join(share, "hooks", "dhclient")
    if not os.path.exists(hook):
        raise UnsupportedError(f"--dhcp needs {hook}, which this LXC has not")
    yield f"lxc.hook.start-host = {hook}"
    yield f"lxc.hook.stop = {hook}"


def _command_lines(arguments: Sequence[str]) -> Iterator[str]:
    words = _checked(" ".join(arguments), "command")
    if words.split() != list(arguments) or set(words) & set("\"'"):
        # LXC splits at every space and knows no quotes, so a shell takes the words from a variable.
        yield f"lxc.environment = {_VARIABLE}=unset {_VARIABLE}; exec {shlex.join(arguments)}"
        words = f'/bin/sh -c eval${{IFS}}"${_VARIABLE}"'
    yield f"lxc.init.cmd = {words}"
    yield f"lxc.execute.cmd = {words}"


def _checked(value: str, what: str) -> str:
    if any(character in value for character in "\n\r\0"):
        raise UnsupportedError(f"LXC cannot be told the {what} {value!r}, which has more than one line")
    return value
