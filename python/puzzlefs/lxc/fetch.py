"""Getting the image of a container: where it lies, out of the cache, or by skopeo."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from shutil import which

from puzzlefs.errors import MountError, PuzzleFSError, UnsupportedError, UsageError
from puzzlefs.image import Image
from puzzlefs.overlay import in_user_namespace

# What skopeo takes beside `oci:`, which is ours too.
_TRANSPORTS = ("docker", "docker-archive", "docker-daemon", "dir", "oci-archive", "containers-storage", "ostree", "sif")
_SYSTEM_CACHE = "/var/cache/lxc"


class FetchError(PuzzleFSError):
    """An image cannot be had from where it should come."""

    exit_code = 5


def image(url: str, own: tuple[str, str] | None, username: str | None, password: str | None) -> Image:
    """Return the image that a URL names.

    own  the layout and the tag of a copy that is to be made; without it, an image in a local layout is used
         where it lies, and one from elsewhere is kept in LXC's cache

    Raises `FetchError`, `UnsupportedError` where skopeo is missing, or what is wrong with the image.
    """
    if password and not username:
        raise UsageError("a password without a user name")
    local = url.partition(":")[0] not in _TRANSPORTS
    if local and own is None:
        found = Image.open(url)
        found.name.directory = os.path.realpath(found.name.directory)
        return found
    layout, tag = own or _cached(url)
    os.makedirs(layout, exist_ok=True)
    with _credentials(url, username, password) as options:
        source = url if not local or url.startswith("oci:") else f"oci:{url}"
        _skopeo("copy", "--remove-signatures", "--insecure-policy", *options, source, f"oci:{layout}:{tag}")
    return Image.open(f"{os.path.realpath(layout)}:{tag}")


def pinned_name(image: Image) -> str:
    """Return the name of the very manifest, whatever the tag says later."""
    return f"oci:{image.name.directory}@{image.descriptor.digest}"


def tagged_name(image: Image) -> str:
    """Return the image's name for a program that knows tags only. Raises `UsageError`."""
    if image.name.is_digest:
        raise UsageError("--mount-helper needs an image with a tag")
    return f"oci:{image.name}"


def run(words: Sequence[str]) -> None:
    """Run a mount helper. Raises `MountError` with what it says."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise MountError(f"{words[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise MountError(done.stderr.decode("utf-8", "replace").strip() or f"{words[0]} failed")


def _cached(url: str) -> tuple[str, str]:
    """Return the layout and tag under which the cache keeps what a URL names."""
    if os.geteuid() == 0 and not in_user_namespace():
        home = _SYSTEM_CACHE
    else:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lxc")
    return os.path.join(home, "puzzlefs"), hashlib.sha256(url.encode()).hexdigest()[:32]


@contextmanager
def _credentials(url: str, username: str | None, password: str | None) -> Iterator[list[str]]:
    """Give the options by which skopeo knows who asks: in a file, since others may read a command line."""
    if not username:
        yield []
        return
    registry = url.partition("://")[2].partition("/")[0]
    secret = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"auths": {registry: {"auth": secret}}}, file)
        file.flush()
        yield ["--src-authfile", file.name]


def _skopeo(*words: str) -> None:
    skopeo = which("skopeo")
    if skopeo is None:
        raise UnsupportedError("getting an image from elsewhere, or a copy of one, needs skopeo")
    done = subprocess.run([skopeo, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise FetchError(f"skopeo: {lines[-1]}")
