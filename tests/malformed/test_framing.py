"""docs/format.md, section 9, Framing: each rule with bytes that break it and no other."""

from __future__ import annotations

import struct

import pytest

from puzzlefs._native import Backend
from puzzlefs.constants import ROOTFS_SIZE_LIMIT
from tests.malformed.rules import refused
from tests.malformed.words import framed

BROKEN = [
    ("truncated segment table", b""),
    ("truncated segment table", bytes(7)),
    ("truncated segment table", struct.pack("<II", 1, 0)),
    ("truncated segment table", struct.pack("<II", 2, 0) + bytes(7)),
    ("truncated segment table", struct.pack("<II", 511, 0)),
    ("too many segments", struct.pack("<II", 512, 0)),
    ("too many segments", struct.pack("<II", 0xFFFFFFFF, 0)),
    ("segments do not fill the blob", framed([0, 0])[:-1]),
    ("segments do not fill the blob", framed([0, 0])[:-8]),
    ("segments do not fill the blob", framed([0, 0]) + bytes(1)),
    ("segments do not fill the blob", framed([0, 0]) + bytes(8)),
    ("segments do not fill the blob", struct.pack("<II", 0, 0xFFFFFFFF)),
    ("segments do not fill the blob", struct.pack("<512I", 510, *[0xFFFFFFFF] * 511)),
]


@pytest.mark.parametrize(("text", "blob"), BROKEN, ids=[text for text, _ in BROKEN])
def test_broken_framing_is_refused(backend: Backend, text: str, blob: bytes) -> None:
    """The header's rules."""
    refused(backend, blob, f"rootfs: {text}")


def test_a_blob_above_the_limit_is_refused(backend: Backend) -> None:
    """By its size alone: nothing of it is looked at."""
    refused(backend, bytes(ROOTFS_SIZE_LIMIT + 1), "rootfs: too large")


def test_512_segments_are_accepted(backend: Backend) -> None:
    """The limit itself: the frame is sound, and the empty first segment is the next broken rule."""
    refused(backend, framed(*[[]] * 511, [0]), "rootfs: object out of bounds")


def test_padding_of_the_table_is_not_looked_at(backend: Backend) -> None:
    """Four bytes that fill the table up to a word may hold anything."""
    blob = bytearray(framed([0], []))
    blob[12:16] = b"\xff" * 4
    refused(backend, bytes(blob), "rootfs: manifest version 0 is not 3", unsupported=True)
