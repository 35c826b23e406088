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

from puzzlefs import constants
from puzzlefs.errors import CorruptImageError, MountError, UsageError
from puzzlefs.image import Image
from puzzlefs.names import ImageName
from puzzlefs.oci import Manifest
from puzzlefs.overlay import in_user_namespace
from puzzlefs.store import Store

_SYSTEM_CACHE = "/var/cache/lxc"


def image(url: str, own: tuple[str, str] | None, username: str | None, password: str | None) -> Image:
    """Return the image that a URL names, converted where it is one of layers.

    own  the layout and the tag of a copy that is to be made; without it, an image in a local layout is used
         where it lies, and one from elsewhere is kept in LXC's cache

    Raises `TransportError`, `UnsupportedError` where skopeo is missing, or what is wrong with the image.
    """
    if password and not username:
        raise UsageError("a password without a user name")
    local = url.startswith("oci:") or os.path.isdir(url.rpartition(":")[0].removesuffix("@sha256"))
    found = _local_image(url) if local else None
    if found is not None and own is None:
        return found
    layout, tag = own or _cached(url)
    os.makedirs(layout, exist_ok=True)
    with _credentials(url, username, password) as file:
        _fetch(f"oci:{url.removeprefix('oci:')}" if local else url, ImageName(layout, tag), file, found is not None)
    return Image.open(ImageName(os.path.realpath(layout), tag))


def _fetch(source: str, name: ImageName, credentials: str | None, is_puzzlefs: bool) -> None:
    """Copy a PuzzleFS image, as one in no layout may be too; convert another."""
    # With all that they need, which an image that is there already does not.
    from puzzlefs.convert.image import ConvertOptions, convert
    from puzzlefs.convert.skopeo import skopeo_copy, skopeo_manifest
    from puzzlefs.convert.transports import SourceOptions

    if not source.startswith("oci:"):
        is_puzzlefs = _is_puzzlefs(skopeo_manifest(source, ["--authfile", credentials] if credentials else []))
    options = ["--src-authfile", credentials] if credentials else []
    if is_puzzlefs:
        skopeo_copy(source, f"oci:{name}", copy_options=["--remove-signatures", *options])
    else:
        convert(source, name, ConvertOptions(SourceOptions(skopeo=options), compression=True))


def _local_image(url: str) -> Image | None:
    """Return the PuzzleFS image in a local layout, or None where it is one of layers."""
    name = ImageName.parse(url)
    name.directory = os.path.realpath(name.directory)
    store = Store.open(name.directory)
    return (
        Image.open(name) if _is_puzzlefs(store.get(store.resolve(name.reference), constants.JSON_SIZE_LIMIT)) else None
    )


def _is_puzzlefs(manifest: bytes) -> bool:
    try:
        Manifest.parse(manifest)
    except CorruptImageError:
        return False
    return True


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
    if chosen := os.environ.get("LXC_CACHE_PATH"):
        home = chosen
    elif os.geteuid() == 0 and not in_user_namespace():
        home = _SYSTEM_CACHE
    else:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lxc")
    return os.path.join(home, "puzzlefs"), hashlib.sha256(url.encode()).hexdigest()[:32]


@contextmanager
def _credentials(url: str, username: str | None, password: str | None) -> Iterator[str | None]:
    """Give a file that tells skopeo who asks: others may read a command line."""
    if not username:
        yield None
        return
    registry = url.partition("://")[2].partition("/")[0]
    secret = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"auths": {registry: {"auth": secret}}}, file)
        file.flush()
        yield file.name
