"""What tests of real mounts share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from puzzlefs import mountinfo
from puzzlefs.image import Image
from puzzlefs.mount import mount
from puzzlefs.unmount import unmount
from tests.conftest import GoldenImage
from tests.support import requires_root

PACKAGES = str(Path(__file__).parents[1] / "python")
NOBODY = 65534


def requires_fuse() -> None:
    """Skip the test where nothing can be mounted."""
    if util.find_spec("pyfuse3") is None:
        pytest.skip("needs pyfuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        pytest.skip("needs root or fusermount3")


@contextmanager
def mounted(name: str, mountpoint: Path, digest: str | None = None, **options: Any) -> Iterator[Path]:
    """Mount an image, pinned where there is a digest, for a while; nothing of it is left after."""
    mountpoint.mkdir(exist_ok=True)
    mount(Image.open(name, digest), mountpoint, **options)
    try:
        yield mountpoint
    finally:
        unmount(mountpoint)
    assert mountinfo.topmost(mountpoint) is None


def layout_of(image: GoldenImage) -> str:
    """Return a golden image's name as a user writes it."""
    return f"{image.blobs.parent.parent}:{image.name.partition(':')[2]}"


def with_open_device(home: Path) -> list[str]:
    """Return what to put before a command so that it has a table of mounts in which everybody may use FUSE."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs a table of mounts of its own, which a chroot has not")
    device = home / "fuse"
    os.mknod(device, 0o20666, os.makedev(10, 229))
    device.chmod(0o666)
    return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /dev/fuse && exec "$@"', str(device)]


def run_as_nobody(home: Path, script: str, image: str, *places: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code as a user without rights, in a table of mounts where everybody may use FUSE.

    The code finds the image and the places, which become that user's, in `sys.argv`.
    """
    requires_root()
    for tool in ("fusermount3", "setpriv", "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    for place in places:
        os.chown(place, NOBODY, NOBODY)
    for ancestor in [home, *home.parents[:2]]:
        ancestor.chmod(0o755)
    # The interpreter may live in a home directory that is closed to others: reading is allowed, nothing else.
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    user += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return subprocess.run(
        [*with_open_device(home), *user, sys.executable, "-c", script, image, *map(str, places)],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
