"""The lines that a container's configuration gets."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence

from puzzlefs.container.spec import effective_config
from puzzlefs.container.user import resolve_user
from puzzlefs.errors import UnsupportedError
from puzzlefs.image import Image
from puzzlefs.runtime_config import DEFAULT_ENV, RuntimeConfig

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


def process_lines(image: Image, has_init: bool) -> Iterator[str]:
    """Yield the lines that start what the image's config says; with an init and nothing else to start, that.

    Raises `UsageError` for a malformed config or a user that the image does not know, `UnsupportedError`
    for what LXC cannot be told.
    """
    config = effective_config(image, RuntimeConfig())
    arguments = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if arguments or not has_init:
        yield from _command_lines(arguments or ["/bin/sh"])
        yield f"lxc.signal.halt = {checked(str(config.get('StopSignal') or 'SIGTERM'), 'signal')}"
    user = resolve_user(image, config.get("User") or "")
    yield f"lxc.init.uid = {user.uid}"
    yield f"lxc.init.gid = {user.gid}"
    if user.groups:
        yield f"lxc.init.groups = {','.join(map(str, user.groups))}"
    yield f"lxc.init.cwd = /{checked((config.get('WorkingDir') or '').lstrip('/'), 'working directory')}"
    environment = list(config["Env"])
    names = {variable.partition("=")[0] for variable in environment}
    if "PATH" not in names:
        environment += DEFAULT_ENV
    if user.home and "HOME" not in names:
        environment.append(f"HOME={user.home}")
    for variable in environment:
        yield f"lxc.environment = {checked(variable, 'environment')}"


def mount_hook(helper: Sequence[str], upper: str, image: str) -> Iterator[str]:
    """Yield the lines by which each start mounts the image, in the container's own table of mounts.

    There it goes with the container, whatever ends it.
    """
    yield "lxc.hook.version = 1"
    yield f"lxc.hook.pre-mount = {shlex.join([*helper, 'mount', '--persist', upper, image])} {ROOTFS}"


def shared_hooks(helper: Sequence[str], upper: str, image: str, owners: Sequence[str]) -> Iterator[str]:
    """Yield the lines by which containers use one mount of the image, which lies in the host's table of mounts.

    owners  options of `mount`: outside of the container its users have other numbers
    """
    yield "lxc.hook.version = 1"
    mount = [*helper, "mount", "--share", *owners, "--persist", upper, image]
    yield f"lxc.hook.pre-start = {shlex.join(mount)} {ROOTFS}"
    yield f"lxc.hook.post-stop = {shlex.join([*helper, 'umount', '--lazy'])} {ROOTFS}"


def identity_options(path: str) -> list[str]:
    """Return the options of `mount` that say what the identity maps of a container's configuration say.

    Raises `UnsupportedError` for maps that differ for users and groups.
    """
    maps: dict[str, list[str]] = {"u": [], "g": []}
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            key, _, value = line.partition("=")
            words = value.split()
            if key.strip() == "lxc.idmap" and len(words) == 4:
                for kind in maps if words[0] == "b" else words[0]:
                    maps.setdefault(kind, []).append(":".join(words[1:]))
    if sorted(maps["u"]) != sorted(maps["g"]):
        raise UnsupportedError("--share needs the same map for users and groups")
    return [word for text in maps["u"] for word in ("--idmap", text)]


def dhcp_lines(share: str = SHARE) -> Iterator[str]:
    """Yield the lines by which the host asks for the container's address. Raises `UnsupportedError`."""
    hook = os.path.join(share, "hooks", "dhclient")
    if not os.path.exists(hook):
        raise UnsupportedError(f"--dhcp needs {hook}, which this LXC has not")
    yield f"lxc.hook.start-host = {hook}"
    yield f"lxc.hook.stop = {hook}"


def _command_lines(arguments: Sequence[str]) -> Iterator[str]:
    words = checked(" ".join(arguments), "command")
    if words.split() != list(arguments) or set(words) & set("\"'"):
        # LXC splits at every space and knows no quotes, so a shell takes the words from a variable.
        yield f"lxc.environment = {_VARIABLE}=unset {_VARIABLE}; exec {shlex.join(arguments)}"
        words = f'/bin/sh -c eval${{IFS}}"${_VARIABLE}"'
    yield f"lxc.init.cmd = {words}"
    yield f"lxc.execute.cmd = {words}"


def checked(value: str, what: str) -> str:
    """Return a value for LXC's configuration. Raises `UnsupportedError` where it would be more than one line."""
    if any(character in value for character in "\n\r\0"):
        raise UnsupportedError(f"LXC cannot be told the {what} {value!r}, which has more than one line")
    return value
