"""skopeo, which moves images between the places that it calls transports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence

from puzzlefs.errors import TransportError, UnsupportedError

SKOPEO_TRANSPORTS = (
    "containers-storage",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci-archive",
    "ostree",
    "sif",
    "tarball",
)
_POLICIES = ("~/.config/containers/policy.json", "/etc/containers/policy.json")
_MESSAGE = re.compile(r'level=fatal msg="((?:[^"\\]|\\.)*)"')


def skopeo_copy(source: str, destination: str, options: Sequence[str] = (), copy_options: Sequence[str] = ()) -> None:
    """Copy an image. Raises `UnsupportedError` without skopeo, `TransportError` with what skopeo says."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        raise UnsupportedError(f"copying {source} to {destination} needs skopeo, which is not installed")
    # A policy says which signatures are demanded; without one skopeo refuses everything.
    policy = [] if any(os.path.exists(os.path.expanduser(path)) for path in _POLICIES) else ["--insecure-policy"]
    command = [skopeo, *policy, *options, "copy", "--quiet", *copy_options, "--", source, destination]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TransportError(f"{source}: {_reason(done.stderr)}")


def _reason(messages: str) -> str:
    match = _MESSAGE.search(messages)
    if match:
        return match[1].replace('\\"', '"')
    return " ".join(messages.split()) or "skopeo failed and does not say why"
