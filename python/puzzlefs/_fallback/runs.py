"""The digests of parts of blobs."""

from __future__ import annotations

from hashlib import sha256

from puzzlefs.records import CHUNK, COMPRESSED, VERITY

from .blob import Blob


def digest_runs(directory: bytes, blobs: bytes, runs: bytes, jobs: int) -> bytes:
    """Return the SHA-256 of each run; `puzzlefs._native` says what is promised."""
    del jobs
    if len(blobs) % VERITY.size or len(runs) % CHUNK.size:
        raise ValueError("blobs and runs are not whole rows")
    rows = list(VERITY.iter_unpack(blobs))
    digests = []
    opened: tuple[int, Blob] | None = None
    for row, flags, offset, length in CHUNK.iter_unpack(runs):
        if row >= len(rows):
            raise ValueError("no such blob")
        if opened is None or opened[0] != row:
            digest, verity = rows[row]
            opened = row, Blob(directory, digest, verity, check=True, recheck=False)
        digests.append(sha256(opened[1].content(offset, length, bool(flags & COMPRESSED))).digest())
    return b"".join(digests)
