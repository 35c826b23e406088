"""Frames round-trip, and damaged ones are one error in both backends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzlefs import _fallback
from puzzlefs.constants import FRAME_SIZE_LIMIT
from tests.conftest import Backends
from tests.parity.outcome import outcome
from tests.strategies import damaged, noise, repeated, streams

frame_sizes = st.one_of(st.integers(64, 5000), st.sampled_from([1 << 16, FRAME_SIZE_LIMIT]))


@given(data=streams(40_000), frame_size=frame_sizes)
def test_frames_round_trip(backends: Backends, data: bytes, frame_size: int) -> None:
    """Any content in frames of any size is the same bytes in both, and comes back in either."""
    stored = backends.rust.compress(data, frame_size)

    assert stored == backends.python.compress(data, frame_size)
    assert [backend.decompress(stored) for backend in backends] == [data, data]


@given(data=streams(40_000))
def test_upstream_frames_round_trip(backends: Backends, data: bytes) -> None:
    """The original's frames are the same bytes in both, and come back in either."""
    stored = backends.rust.compress_upstream(data)

    assert stored == backends.python.compress_upstream(data)
    assert [backend.decompress(stored) for backend in backends] == [data, data]


BLOBS = {
    "small": _fallback.compress(b"content of a small blob", 7),
    "frames": _fallback.compress(repeated(3, 3000) + noise(1, 500), 512),
    "upstream": _fallback.compress_upstream(repeated(5, 9000)),
    "empty": _fallback.compress(b"", 4096),
}


@pytest.mark.parametrize("name", BLOBS)
@given(data=st.data())
def test_damage_is_one_error(backends: Backends, name: str, data: st.DataObject) -> None:
    """A changed, cut or shuffled blob gives the same content or the same text in both."""
    blob = data.draw(damaged(BLOBS[name]))
    rust, python = [outcome(backend.decompress, blob) for backend in backends]

    assert rust == python


@given(blob=st.binary(max_size=60))
def test_any_bytes_are_one_error(backends: Backends, blob: bytes) -> None:
    """Bytes that never were a blob give the same text in both."""
    rust, python = [outcome(backend.decompress, blob) for backend in backends]

    assert rust == python
