"""The public API as a type checker sees it. Never run: mypy --strict reads it, and so tests the types."""

from __future__ import annotations

import io
from typing import Any, assert_type

import puzzlefs
from puzzlefs import BuildOptions, BuildResult, Image, PuzzleFSError, build
from puzzlefs._native import Index, Reader
from puzzlefs.builder import Profile
from puzzlefs.extract import ExtractResult
from puzzlefs.oci import Manifest, Platform
from puzzlefs.stream import Progress
from puzzlefs.verify import VerifyReport


def building() -> None:
    def show(progress: Progress) -> None:
        assert_type(progress.total_bytes, int)

    options = BuildOptions(profile=Profile.UPSTREAM, compression=True, platform=Platform("linux", "arm64"))
    result = build("rootfs", "store:tag", options, show)
    assert_type(result, BuildResult)
    assert_type(result.digest, str)
    assert_type(result.notices, tuple[str, ...])
    build("rootfs", 1)  # type: ignore[arg-type]


def reading() -> None:
    image = Image.open("store:tag")
    assert_type(image, Image)
    assert_type(image.open("etc/passwd"), io.BufferedReader)
    assert_type(image.manifest, Manifest)
    assert_type(image.verity, str)
    assert_type(image.index, Index)
    assert_type(image.reader(), Reader)
    assert_type(image.config, dict[str, Any] | None)
    assert_type(image.resolve(b"etc"), int)
    assert_type(image.verify(), VerifyReport)
    assert_type(image.extract("directory", same_owner=False), ExtractResult)
    for path, ino in image.walk():
        assert_type(path, bytes)
        assert_type(ino, int)


def failing(error: PuzzleFSError) -> None:
    assert_type(error.errno, int)
    assert_type(error.exit_code, int)


assert_type(puzzlefs.__version__, str)
assert_type(puzzlefs.backend, str)
