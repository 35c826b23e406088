"""What a call gives, in a form that two backends' answers can be compared in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from puzzlefs.errors import PuzzleFSError


def outcome(call: Callable[..., Any], *arguments: object) -> tuple[str, Any]:
    """Return ("value", result) or (class, text) of one of our own errors; any other error passes."""
    try:
        return "value", call(*arguments)
    except PuzzleFSError as error:
        return type(error).__name__, str(error)


def any_outcome(call: Callable[..., Any], *arguments: object) -> tuple[str, Any]:
    """Return what `outcome` does, and (class, arguments) of any other error."""
    try:
        return outcome(call, *arguments)
    except Exception as error:
        return type(error).__name__, error.args
