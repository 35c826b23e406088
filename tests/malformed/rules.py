"""How a broken rule shows."""

from __future__ import annotations

import pytest

from puzzlefs._native import Backend
from puzzlefs.errors import CorruptImageError, UnsupportedError


def refused(backend: Backend, blob: bytes, text: str, unsupported: bool = False) -> None:
    """Assert that a rootfs blob breaks the rule of this text, as tables and as an index."""
    kind = UnsupportedError if unsupported else CorruptImageError
    for read in (backend.decode_rootfs, backend.Index):
        with pytest.raises(kind) as caught:
            read(blob)
        assert type(caught.value) is kind
        assert str(caught.value) == text, str(caught.value)
