"""Unmounting, as far as it needs no mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzlefs.errors import MountError
from puzzlefs.overlay import lower_directories
from puzzlefs.unmount import unmount


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (b"rw,lowerdir=/a,upperdir=/u,workdir=/w", ["/a"]),
        (b"rw,lowerdir=/a:/b:/c", ["/a", "/b", "/c"]),
        (rb"lowerdir=/a\:b:/c\,d,upperdir=/u", ["/a:b", "/c,d"]),
        (rb"lowerdir=/a\\:/b\\\\\:c\\,x", ["/a\\", "/b\\\\:c\\"]),
        (b"rw,lowerdir+=/a,lowerdir+=/b,workdir=/w", ["/a", "/b"]),
        (b"rw", []),
    ],
)
def test_lower_directories_of_an_overlay(options: bytes, found: list[str]) -> None:
    assert lower_directories(options) == found


def test_what_is_not_mounted_cannot_be_unmounted(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="not mounted"):
        unmount(tmp_path)


def test_what_is_not_ours_is_left_alone() -> None:
    with pytest.raises(MountError, match="of type proc"):
        unmount("/proc")
