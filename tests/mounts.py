"""What tests of real mounts share."""

from __future__ import annotations

import os
import shutil
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
