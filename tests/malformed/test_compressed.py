"""docs/format.md, section 10: each rule with a compressed blob that breaks it and no other."""

from __future__ import annotations

import struct

import pytest

from puzzlefs._fallback import compress
from puzzlefs._native import Backend
from puzzlefs.constants import FRAME_COUNT_LIMIT, FRAME_SIZE_LIMIT, STORED_FRAME_LIMIT
from puzzlefs.errors import CorruptImageError

MAGIC = 0x184D2A5E
FOOTER_MAGIC = 0x8F92EAB1


def frame(content: bytes) -> bytes:
    """Return one Zstandard frame."""
    stored = compress(content, FRAME_SIZE_LIMIT)
    return stored[: len(stored) - 25]


def table(*sizes: tuple[int, ...], descriptor: int = 0, size: int | None = None, count: int | None = None) -> bytes:
    """Return a seek table of (compressed, uncompressed[, checksum]) entries."""
    entries = b"".join(struct.pack(f"<{len(entry)}I", *entry) for entry in sizes)
    header = struct.pack("<II", MAGIC, len(entries) + 9 if size is None else size)
    return header + entries + struct.pack("<IBI", len(sizes) if count is None else count, descriptor, FOOTER_MAGIC)


ONE = frame(b"content")
SOUND = ONE + table((len(ONE), 7))
ZEROS = frame(bytes(5000))

BROKEN = {
    "seek table missing": [
        b"",
        table()[1:],
        bytes(17),
        SOUND[:-1],
        SOUND[:-4] + struct.pack("<I", FOOTER_MAGIC ^ 1),
        SOUND + b"x",
        ONE + table((len(ONE), 7), count=0),
        ONE + table((len(ONE), 7), count=2),
        ONE + table((len(ONE), 7), count=0xFFFFFFFF),
        ONE + table((len(ONE), 7), size=16),
        ONE + table((len(ONE), 7), descriptor=0x80),
        ONE + b"\x5f" + table((len(ONE), 7))[1:],
    ],
    "too many frames": [table(*[(0, 0)] * (FRAME_COUNT_LIMIT + 1))],
    "seek table malformed": [ONE + table((len(ONE), 7), descriptor=1 << bit) for bit in range(2, 7)],
    "seek table does not match the blob": [
        ONE + table((len(ONE) + 1, 7)),
        ONE + table((len(ONE) - 1, 7)),
        ONE + table(),
        b"x" + SOUND,
        table((0xFFFFFFFF, 0xFFFFFFFF)),
        ONE + table((len(ONE), 7), (1, FRAME_SIZE_LIMIT + 1)),
    ],
    "frame too large": [
        ONE + table((len(ONE), FRAME_SIZE_LIMIT + 1)),
        ONE + table((len(ONE), 7), (0, 0xFFFFFFFF)),
        bytes(STORED_FRAME_LIMIT + 1) + table((STORED_FRAME_LIMIT + 1, 7)),
    ],
    "frame damaged": [
        ONE + table((len(ONE), 6)),
        ONE + table((len(ONE), 8)),
        ONE + table((len(ONE), 0)),
        ONE + table((len(ONE), FRAME_SIZE_LIMIT)),
        ONE[:-1] + table((len(ONE) - 1, 7)),
        ONE + b"x" + table((len(ONE) + 1, 7)),
        b"\0" * 9 + table((9, 0)),
        table((0, 1)),
        ZEROS + table((len(ZEROS), 4999)),
        ONE + ONE + table((len(ONE), 7), (len(ONE), 6)),
    ],
}
CASES = [(text, blob) for text, blobs in BROKEN.items() for blob in blobs]


@pytest.mark.parametrize(("text", "blob"), CASES, ids=[text for text, _ in CASES])
def test_a_bad_blob_is_refused(backend: Backend, text: str, blob: bytes) -> None:
    """The codec's rules, in their order."""
    with pytest.raises(CorruptImageError) as caught:
        backend.decompress(blob)
    assert str(caught.value) == text


ACCEPTED = {
    "no frames": (table(), b""),
    "one frame": (SOUND, b"content"),
    "frames of different sizes": (ONE + ZEROS + table((len(ONE), 7), (len(ZEROS), 5000)), b"content" + bytes(5000)),
    "checksums are skipped": (ONE + table((len(ONE), 7, 0xDEADBEEF), descriptor=0x80), b"content"),
    "unused bits of the descriptor": (ONE + table((len(ONE), 7), descriptor=3), b"content"),
    "an entry without bytes": (ONE + table((0, 0), (len(ONE), 7), (0, 0)), b"content"),
    "two frames in one entry": (ONE + ONE + table((2 * len(ONE), 14)), b"contentcontent"),
    "a skippable frame in an entry": (
        struct.pack("<II", MAGIC, 3) + b"abc" + ONE + table((11 + len(ONE), 7)),
        b"content",
    ),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_an_unusual_but_sound_blob_is_read(backend: Backend, what: str) -> None:
    """Any frame size, checksums, and what Zstandard itself passes over."""
    blob, content = ACCEPTED[what]

    assert backend.decompress(blob) == content


def test_a_frame_of_the_largest_size_is_read(backend: Backend) -> None:
    """The limit itself; one byte more is refused though it would decompress."""
    largest = frame(bytes(FRAME_SIZE_LIMIT))
    over = frame(bytes(FRAME_SIZE_LIMIT)) + frame(b"x")

    assert backend.decompress(largest + table((len(largest), FRAME_SIZE_LIMIT))) == bytes(FRAME_SIZE_LIMIT)
    with pytest.raises(CorruptImageError, match="frame too large"):
        backend.decompress(over + table((len(over), FRAME_SIZE_LIMIT + 1)))


def test_a_frame_with_a_window_that_no_reader_has_to_accept(backend: Backend) -> None:
    """A header may ask for a window of gigabytes: the answer is the same, and memory is not taken for it."""
    header = struct.pack("<IBB", 0xFD2FB528, 0, 21 << 3)
    blob = header + bytes([1 | 7 << 3, 0, 0]) + b"content"

    assert backend.decompress(blob + table((len(blob), 7))) == b"content"
