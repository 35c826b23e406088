"""Both backends compress to the same bytes and read each other's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from puzzlefs._native import Backend
from puzzlefs.constants import FRAME_SIZE_LIMIT, KIB
from tests.conftest import Backends, GoldenImage
from tests.parity.outcome import any_outcome
from tests.strategies import holes, noise, repeated

SIZES = [0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 200_000]
FRAMES = [1024, 4096, 64 * KIB, 100_000, FRAME_SIZE_LIMIT]


def prose(seed: int, size: int) -> bytes:
    """Return bytes that compress to about half, so that all stages of the compressor have work."""
    words = [noise(word, 3 + word) for word in range(11)]
    return b" ".join(words[pick % 11] for pick in noise(seed, size // 4 + 1))[:size]


MAKERS = [noise, repeated, holes, prose]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("frame_size", FRAMES)
def test_frames_are_the_same_bytes(backends: Backends, make: Callable[[int, int], bytes], frame_size: int) -> None:
    """Every frame size and kind of content gives one answer, which either backend reads."""
    for size in SIZES:
        data = make(size, size)
        stored = backends.rust.compress(data, frame_size)

        assert stored == backends.python.compress(data, frame_size)
        assert backends.python.decompress(stored) == backends.rust.decompress(stored) == data


@pytest.mark.parametrize("make", MAKERS)
def test_upstream_frames_are_the_same_bytes(backends: Backends, make: Callable[[int, int], bytes]) -> None:
    """The original's way of compressing gives one answer, which either backend reads."""
    for size in SIZES:
        data = make(size, size)
        stored = backends.rust.compress_upstream(data)

        assert stored == backends.python.compress_upstream(data)
        assert backends.python.decompress(stored) == backends.rust.decompress(stored) == data


def test_frames_are_checked_as_far_as_is_asked(backends: Backends, tmp_path: Path) -> None:
    """The size is told, damage is found where it is not beyond, and what is no blob is refused alike."""
    stored = bytearray(backends.python.compress(prose(1, 10_000), KIB))
    half = len(stored) // 2
    stored[half : half + 1000] = bytes(1000)
    samples = [bytes(stored), bytes(stored[:-1]), b"", b"short", bytes(20)]
    for number, sample in enumerate(samples):
        path = tmp_path / str(number)
        path.write_bytes(sample)
        for end in (0, 1, 10_000, 1 << 63):
            with path.open("rb") as file:
                said = [any_outcome(backend.check_frames, file.fileno(), end) for backend in backends]
            assert said[0] == said[1]
            assert (said[0] == ("value", 10_000)) == (number == 0 and end <= 1)


def test_golden_chunks_are_read_and_made_again(backend: Backend, golden: dict[str, GoldenImage]) -> None:
    """Every compressed chunk of the golden images decompresses, and compresses to the same bytes."""
    image = golden["vic-text:v"]
    stored = [(image.blobs / name).read_bytes() for name in image.chunks]
    compressed = [blob for blob in stored if blob.endswith(bytes.fromhex("b1ea928f"))]

    assert len(compressed) > 10
    for blob in compressed:
        assert backend.compress_upstream(backend.decompress(blob)) == blob


@pytest.mark.parametrize("frame_size", [-1, 0, FRAME_SIZE_LIMIT + 1])
def test_a_frame_size_out_of_range_is_refused(backends: Backends, frame_size: int) -> None:
    """Both backends say the same of a frame size that they do not take."""
    said = [any_outcome(backend.compress, b"data", frame_size) for backend in backends]

    assert said[0] == said[1]
    assert said[0][0] == "ValueError"
