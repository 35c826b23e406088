"""Both backends cut a stream alike, and as the original does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from puzzlefs._fallback import chunk
from puzzlefs._native import Backend
from puzzlefs.constants import CHUNK_MAX, CHUNK_MIN
from tests.conftest import Backends
from tests.strategies import holes, noise, repeated

FROZEN = "dc18dc192b7dae620abd43c0f0b0a297be27130db6b838852d5f3f066674544d"
SIZES = [0, 1, CHUNK_MIN - 1, CHUNK_MIN, CHUNK_MIN + 1, 65535, 65536, 65537, CHUNK_MAX - 1, CHUNK_MAX, CHUNK_MAX + 1]


@pytest.mark.parametrize("make", [noise, repeated, holes])
def test_backends_cut_alike(backends: Backends, make: Callable[[int, int], bytes]) -> None:
    """At every size around a bound, and in a long stream, the cuts are the same."""
    for seed, size in enumerate([*SIZES, 3_000_001]):
        data = make(seed, size)

        assert backends.rust.cut_lengths(data) == backends.python.cut_lengths(data), size


def test_cuts_are_frozen(backend: Backend) -> None:
    """The cuts of a fixed stream never change: every stored image depends on them."""
    lengths = backend.cut_lengths(noise(1, 4_000_000))
    digest = hashlib.sha256(",".join(map(str, lengths)).encode()).hexdigest()

    assert (len(lengths), sum(lengths), digest) == (53, 4_000_000, FROZEN)


@pytest.mark.parametrize(("seed", "length"), [(626, 65562), (722, 65574), (926, 65576), (2230, 65558)])
def test_a_cut_just_after_the_average(backends: Backends, seed: int, length: int) -> None:
    """Where the mask changes, the hash still knows the bytes before."""
    data = noise(seed, 65600)

    assert [backend.cut_lengths(data)[0] for backend in backends] == [length] * 2
    assert chunk.cut_scalar(memoryview(data)) == length


@pytest.mark.parametrize("seed", range(16))
def test_an_odd_last_byte_is_never_a_cut(backends: Backends, seed: int) -> None:
    """Bytes are taken in pairs: a cut before the last of an odd number of bytes does not happen."""
    data = noise(seed, CHUNK_MAX)
    cut = chunk.cut_scalar(memoryview(data))
    lengths = [cut, 1] if cut % 2 else [cut + 1]

    assert [backend.cut_lengths(data[: cut + 1]) for backend in backends] == [lengths] * 2


def test_zeros_are_cut_at_the_maximum(backend: Backend) -> None:
    """Where no position is a cut, a chunk is as long as it may be."""
    assert backend.cut_lengths(bytes(2 * CHUNK_MAX + 5)) == [CHUNK_MAX, CHUNK_MAX, 5]


def test_gear_is_the_published_table() -> None:
    """The first and last numbers of the table of the fastcdc crate."""
    assert chunk.GEAR[:4] == [0x3B5D3C7D207E37DC, 0x784D68BA91123086, 0xCD52880F882E7298, 0xEACF8E4E19FDCCA7]
    assert chunk.GEAR[255] == 0xAABD2B2A451504E1


def test_a_stream_in_pieces_is_cut_like_a_whole_one() -> None:
    """How a stream arrives does not matter."""
    data = noise(7, 2_000_003)
    for size in (999_999, 300_000, 70_001):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]

        assert [len(one) for one in chunk.chunks(pieces)] == chunk.cut_lengths(data)
        assert b"".join(chunk.chunks(pieces)) == data
