"""Running a step's script with a directory as its root: by bubblewrap, or by runc where that is there instead."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from puzzlefs.container.spec import (
    CAPABILITIES,
    HOST,
    RUNTIME_SPEC,
    ContainerOptions,
    linux_section,
    mount_entry,
    system_mounts,
)
from puzzlefs.errors import BuildError, UnsupportedError

_RESOLVER = "/etc/resolv.conf"
# What a host's name may have.
_NAME_LIMIT = 63


@dataclass(frozen=True, slots=True)
class Script:
    """What to run; every path is absolute.

    name         of the layer, which is the host's name there
    place        a directory for what a program needs
    root         the directory that is the script's root
    text         the script, its first line naming the interpreter
    seen         where it is in the root
    resolver     the file in the root that says whom to ask for addresses
    environment  all of its variables
    """

    name: str
    place: str
    root: str
    text: str
    seen: str
    resolver: str
    environment: Mapping[str, str]


def run_script(script: Script) -> None:
    """Run a script; its output goes to standard error.

    Raises `BuildError` where it fails, `UnsupportedError` with neither bubblewrap nor runc.
    """
    path = os.path.join(script.place, "script")
    with open(path, "w", encoding="utf-8") as file:
        file.write(script.text)
    os.chmod(path, 0o700)
    if program := shutil.which("bwrap"):
        words = _bubblewrap(program, script, path)
    elif program := shutil.which("runc"):
        words = _runc(program, script, path)
    else:
        raise UnsupportedError("running a step needs bubblewrap or runc: install the package 'bubblewrap'")
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode < 0:
        raise BuildError(f"{script.name}: the script was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode > 0:
        raise BuildError(f"{script.name}: the script failed with exit code {done.returncode}")


def _bubblewrap(program: str, script: Script, path: str) -> list[str]:
    words = [program, "--bind", script.root, "/", "--dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys"]
    words += [
        "--die-with-parent",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--hostname",
        script.name[:_NAME_LIMIT],
    ]
    words += ["--ro-bind-try", _RESOLVER, script.resolver, "--ro-bind", path, script.seen]
    words += ["--chdir", "/", "--clearenv"]
    for name, value in script.environment.items():
        words += ["--setenv", name, value]
    return [*words, script.seen]


def _runc(program: str, script: Script, path: str) -> list[str]:
    bundle = os.path.join(script.place, "bundle")
    os.mkdir(bundle)
    with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as file:
        json.dump(_spec(script, path), file)
    # Rights over control groups are the host's.
    words = [program, "--root", os.path.join(script.place, "state"), "--rootless", "true"]
    return [*words, "run", "--bundle", bundle, "step"]


def _spec(script: Script, path: str) -> dict[str, Any]:
    options = ContainerOptions(network=HOST, rootless=True)
    binds = {script.seen: path}
    if os.path.exists(_RESOLVER):
        binds[script.resolver] = _RESOLVER
    return {
        "ociVersion": RUNTIME_SPEC,
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [script.seen],
            "env": [f"{name}={value}" for name, value in script.environment.items()],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        },
        "root": {"path": script.root},
        "hostname": script.name[:_NAME_LIMIT],
        "mounts": [
            *system_mounts(options),
            *(mount_entry(place, "bind", source, ["bind", "ro"]) for place, source in binds.items()),
        ],
        "linux": linux_section(options),
    }
