"""The runtime specification's config.json for an image: what runc and its like are told."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from puzzlefs.container.rootless import check_mapped
from puzzlefs.container.user import User, resolve_user
from puzzlefs.errors import NotFoundError, UsageError
from puzzlefs.image import Image
from puzzlefs.oci import Platform
from puzzlefs.records import Kind
from puzzlefs.runtime_config import RuntimeConfig, config_document

HOST, NONE = "host", "none"
RUNTIME_SPEC = "1.0.2"
# What the container engines leave to a container's root by default.
CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
        *("NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
]
_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug"),
    *("/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"),
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# Where programs expect to write even if the image cannot be written.
_SCRATCH = ("/run", "/tmp", "/var/tmp")


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory or file of the host that a container sees; both paths are absolute."""

    source: str
    destination: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """What of a container the image does not say.

    runtime   what the image's own runtime config is overridden by
    command   takes the place of the image's default arguments
    writable  whether the root filesystem may be written to
    terminal  whether the program gets a terminal of its own
    network   HOST for the host's, NONE for a loopback device alone
    rootless  whether it runs in a user namespace that is there already, without rights over cgroups
    """

    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    command: Sequence[str] = ()
    writable: bool = False
    terminal: bool = False
    network: str = NONE
    hostname: str = "puzzlefs"
    volumes: Sequence[Volume] = ()
    rootless: bool = False


def runtime_spec(image: Image, options: ContainerOptions) -> dict[str, Any]:
    """Return the document, its root filesystem being `rootfs` beside it.

    Raises `UsageError` where nothing says which program to run, or a user is not known.
    """
    config = effective_config(image, options.runtime)
    user = resolve_user(image, config.get("User") or "")
    if options.rootless:
        user = check_mapped(user)
    spec: dict[str, Any] = {
        "ociVersion": RUNTIME_SPEC,
        "process": _process(image, config, user, options),
        "root": {"path": "rootfs", "readonly": not options.writable},
        "hostname": options.hostname,
        "mounts": [*system_mounts(options), *_scratch(image, config, options), *map(_bind, options.volumes)],
        "linux": linux_section(options),
    }
    if image.manifest.annotations:
        spec["annotations"] = dict(image.manifest.annotations)
    return spec


def effective_config(image: Image, runtime: RuntimeConfig) -> Mapping[str, Any]:
    """Return the `config` of an image's config with what overrides it, always with an `Env`.

    Raises `UsageError` where it is malformed.
    """
    document = config_document(runtime, image.config or {"config": {}}, Platform.host(), (), None) or {}
    config: Mapping[str, Any] = document["config"]
    for key, kind in {"User": str, "WorkingDir": str, "Entrypoint": list, "Cmd": list, "Volumes": dict}.items():
        if not isinstance(config.get(key) or kind(), kind):
            raise UsageError(f"{image.name}: the {key} of its config is malformed")
    for key in ("Env", "Entrypoint", "Cmd"):
        if not all(isinstance(word, str) and "\0" not in word for word in config.get(key) or ()):
            raise UsageError(f"{image.name}: the {key} of its config is malformed")
    return config


def _process(image: Image, config: Mapping[str, Any], user: User, options: ContainerOptions) -> dict[str, Any]:
    arguments = [*(config.get("Entrypoint") or ()), *(options.command or config.get("Cmd") or ())]
    if not arguments:
        raise UsageError(f"{image.name}: the image does not say which program to run; give one after --")
    environment = list(config["Env"])
    names = {item.partition("=")[0] for item in environment}
    if options.terminal and "TERM" not in names:
        environment.append(f"TERM={os.environ.get('TERM', 'xterm')}")
    if user.home and "HOME" not in names:
        environment.append(f"HOME={user.home}")
    capabilities = CAPABILITIES if user.uid == 0 else []
    return {
        "terminal": options.terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": arguments,
        "env": environment,
        "cwd": "/" + (config.get("WorkingDir") or "").lstrip("/"),
        "capabilities": {"bounding": CAPABILITIES, "effective": capabilities, "permitted": capabilities},
    }


def system_mounts(options: ContainerOptions) -> list[dict[str, Any]]:
    """Return the mounts of /proc, /dev and /sys."""
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    mounts = [
        mount_entry("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        mount_entry("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount_entry("/dev/pts", "devpts", "devpts", pts if options.rootless else [*pts, "gid=5"]),
        mount_entry("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount_entry("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    ]
    if options.network == HOST:
        # Only who owns a network namespace may mount the devices of it.
        mounts.append(mount_entry("/sys", "none", "/sys", ["rbind", "nosuid", "noexec", "nodev", "ro"]))
    else:
        mounts.append(mount_entry("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]))
    return mounts


def _scratch(image: Image, config: Mapping[str, Any], options: ContainerOptions) -> list[dict[str, Any]]:
    """Return a mount of memory for each place that can be written to in any case."""
    places = [path for path in config.get("Volumes") or () if path.startswith("/")]
    if not options.writable:
        places += [path for path in _SCRATCH if path not in places and _is_directory(image, path)]
    taken = {volume.destination for volume in options.volumes}
    return [
        mount_entry(path, "tmpfs", "tmpfs", ["nosuid", "nodev", "mode=1777" if path in _SCRATCH[1:] else "mode=755"])
        for path in places
        if path not in taken
    ]


def _is_directory(image: Image, path: str) -> bool:
    try:
        return image.index.stat(image.resolve(path, follow=False))[1] == Kind.DIR
    except NotFoundError:
        return False


def _bind(volume: Volume) -> dict[str, Any]:
    return mount_entry(volume.destination, "bind", volume.source, ["rbind", "ro" if volume.read_only else "rw"])


def mount_entry(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    """Return a mount as the document has it."""
    return {"destination": destination, "type": kind, "source": source, "options": options}


def linux_section(options: ContainerOptions) -> dict[str, Any]:
    """Return the part of the document that is about Linux alone."""
    namespaces = ["pid", "ipc", "uts", "mount", *([] if options.network == HOST else ["network"])]
    linux: dict[str, Any] = {
        "namespaces": [{"type": name} for name in namespaces],
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    if not options.rootless:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return linux
