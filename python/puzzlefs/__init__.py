"""PuzzleFS: an immutable container filesystem of content-defined chunks in an OCI image layout."""

from __future__ import annotations

__version__ = "0.1.0"

# The name that type checkers know; importing `typing` would be a tenth of a command's start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from puzzlefs._native import backend as backend
    from puzzlefs.builder import BuildOptions as BuildOptions
    from puzzlefs.builder import BuildResult as BuildResult
    from puzzlefs.builder import build as build
    from puzzlefs.errors import PuzzleFSError as PuzzleFSError
    from puzzlefs.image import Image as Image

# Loaded on first use: start-up time is part of every command.
_LAZY = {
    "backend": "puzzlefs._native",
    "BuildOptions": "puzzlefs.builder",
    "BuildResult": "puzzlefs.builder",
    "build": "puzzlefs.builder",
    "PuzzleFSError": "puzzlefs.errors",
    "Image": "puzzlefs.image",
}

__all__ = ["BuildOptions", "BuildResult", "Image", "PuzzleFSError", "__version__", "backend", "build"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'puzzlefs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
