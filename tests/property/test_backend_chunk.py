"""The three ways to cut a stream agree on any bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from puzzlefs._fallback import chunk
from puzzlefs.constants import CHUNK_MAX, CHUNK_MIN
from tests.conftest import Backends
from tests.strategies import noise, streams


@given(data=streams())
def test_any_stream_is_cut_alike(backends: Backends, data: bytes) -> None:
    """Lengths are the same in both, within bounds, and add up."""
    lengths = backends.rust.cut_lengths(data)

    assert lengths == backends.python.cut_lengths(data)
    assert sum(lengths) == len(data)
    assert all(CHUNK_MIN <= length <= CHUNK_MAX for length in lengths[:-1])
    assert all(0 < length <= CHUNK_MAX for length in lengths)


@given(data=streams(CHUNK_MAX + 10))
def test_the_vector_cut_is_the_scalar_one(data: bytes) -> None:
    """The loop byte by byte is the specification of the one with numpy."""
    view = memoryview(data[:CHUNK_MAX])

    assert chunk.cut_vector(view) == chunk.cut_scalar(view)


@given(size=st.integers(0, 400_000), inserted=st.binary(min_size=1, max_size=40), at=st.integers(0, 20_000))
def test_cuts_move_with_the_content(backends: Backends, size: int, inserted: bytes, at: int) -> None:
    """What is inserted near the start changes few chunks: later cuts fall at the same content."""
    data = noise(11, 500_000 + size)
    changed = data[:at] + inserted + data[at:]

    def ends(lengths: list[int], total: int) -> set[int]:
        return {total - sum(lengths[:row]) for row in range(len(lengths) + 1)}

    before = ends(backends.python.cut_lengths(data), len(data))
    after = ends(backends.python.cut_lengths(changed), len(changed))

    assert len(before - after) <= len(before) // 2
