"""No bytes whatever make the backends differ, or raise anything but our own errors."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from puzzlefs import _fallback
from puzzlefs._native import Backend
from puzzlefs.records import Kind
from tests.conftest import Backends
from tests.parity.outcome import outcome
from tests.parity.test_index import facts
from tests.strategies import Image, Node, damaged, noise, pack


def same_answers(backends: Backends, blob: bytes) -> None:
    """Decode a blob and build its tree in both backends, and compare."""
    rust, python = [outcome(backend.decode_rootfs, blob) for backend in backends]
    assert rust == python
    rust, python = [outcome(tree_of, backend, blob) for backend in backends]
    assert rust == python


def tree_of(backend: Backend, blob: bytes) -> list[Any]:
    """Return everything that the blob's index says."""
    return list(facts(backend.Index(blob)))


@cache
def small() -> bytes:
    """A rootfs blob of one segment that has an object of every kind."""
    layer = [
        Node(1, Kind.DIR, entries=[(b"file", 2), (b"link", 3), (b"dev", 4), (b"sub", 5), (b"gone", 6)]),
        Node(2, Kind.FILE, chunks=[(noise(1, 32), 1, 0, 10), (noise(2, 32), 0, 3, 4)], xattrs=[(b"user.k", b"v")]),
        Node(3, Kind.LNK, link=b"file"),
        Node(4, Kind.CHR, device=(1, 3), mtime=(5, 6)),
        Node(5, Kind.DIR, entries=[(b"hard", 2)]),
        Node(6, Kind.WHT),
    ]
    return _fallback.encode_rootfs(*pack(Image([layer, [Node(6, Kind.FIFO)]], [(noise(1, 32), noise(3, 32))])))


@cache
def segmented() -> bytes:
    """A rootfs blob of several segments, with far pointers."""
    layer = [Node(1, Kind.DIR, entries=[(b"%d" % ino, ino) for ino in range(2, 400)])]
    layer += [Node(ino, Kind.SOCK) for ino in range(2, 400)]
    return _fallback.encode_rootfs(*pack(Image([layer])))


@given(blob=st.binary(max_size=200))
@example(b"")
def test_any_bytes_get_one_answer(backends: Backends, blob: bytes) -> None:
    """Random bytes."""
    same_answers(backends, blob)


@given(words=st.lists(st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, 64)), min_size=1, max_size=24))
def test_any_words_get_one_answer(backends: Backends, words: list[int]) -> None:
    """Random words in a sound frame, so that the pointers are looked at."""
    body = b"".join(word.to_bytes(8, "little") for word in words)

    same_answers(backends, bytes(4) + len(words).to_bytes(4, "little") + body)


@pytest.mark.parametrize("make", [small, segmented])
@given(data=st.data())
def test_damage_gets_one_answer(backends: Backends, make: Any, data: st.DataObject) -> None:
    """Flipped bits, foreign words, swapped words and cuts."""
    same_answers(backends, data.draw(damaged(make())))


def test_every_bit_of_a_small_blob_matters_alike(backends: Backends) -> None:
    """Each bit of a blob flipped, one at a time: the same tables or the same broken rule."""
    blob = small()
    for bit in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        rust, python = [outcome(backend.decode_rootfs, bytes(changed)) for backend in backends]

        assert rust == python, bit


def test_every_cut_of_a_small_blob_is_refused_alike(backends: Backends) -> None:
    """Each prefix of a blob is an error, and the same one."""
    blob = small()
    for size in range(len(blob)):
        rust, python = [outcome(backend.decode_rootfs, blob[:size]) for backend in backends]

        assert rust == python
        assert rust[0] == "CorruptImageError"


GOLDEN = ["vi-delta:delta", "vi-kinds:v", "vi-wide:v", "vic-text:v"]


@pytest.mark.parametrize("name", GOLDEN)
@given(data=st.data())
def test_damaged_golden_blobs_get_one_answer(backends: Backends, golden: Any, name: str, data: st.DataObject) -> None:
    """The original's blobs, damaged."""
    blob = data.draw(damaged(golden[name].rootfs))
    rust, python = [outcome(backend.decode_rootfs, blob) for backend in backends]

    assert rust == python
