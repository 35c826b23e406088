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
    _skopeo(f"copying {source} to {destination}", source, [*options, "copy", "--quiet", *copy_options], destination)


def skopeo_manifest(source: str, inspect_options: Sequence[str] = ()) -> bytes:
    """Return the manifest of an image, or the index of several, as it is. Raises as `skopeo_copy` does."""
    return _skopeo(f"reading {source}", source, ["inspect", "--raw", *inspect_options])


def _skopeo(doing: str, source: str, words: Sequence[str], *destination: str) -> bytes:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        raise UnsupportedError(f"{doing} needs skopeo, which is not installed")
    # A policy says which signatures are demanded; without one skopeo refuses everything.
    policy = [] if any(os.path.exists(os.path.expanduser(path)) for path in _POLICIES) else ["--insecure-policy"]
    done = subprocess.run([skopeo, *policy, *words, "--", source, *destination], capture_output=True, check=False)
    if done.returncode:
        raise TransportError(f"{source}: {_reason(done.stderr.decode(errors='replace'))}")
    return done.stdout


def _reason(messages: str) -> str:
    match = _MESSAGE.search(messages)
    if match:
        return match[1].replace('\\"', '"')
    return " ".join(messages.split()) or "skopeo failed and does not say why"
