"""Both backends measure as the kernel does."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from puzzlefs._native import Backend
from puzzlefs.constants import MIB
from tests.conftest import Backends
from tests.strategies import noise

BLOCK = 4096
SIZES = [0, 1, 4095, 4096, 4097, 128 * BLOCK - 1, 128 * BLOCK, 128 * BLOCK + 1, MIB, 129 * 128 * BLOCK + 5]

# Zeros of these lengths, as docs/format.md gives them; fsverity-utils gives the same.
ZEROS = {
    0: "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
    1: "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551",
    4096: "babc284ee4ffe7f449377fbf6692715b43aec7bc39c094a95878904d34bac97e",
    4097: "093756e4ea9683329106d4a16982682ed182c14bf076463a9e7f97305cbac743",
    524288: "2d15bd7832895de85aa3d5bdfb57251e27bbec75ff467408340ab3eba858a2e1",
    524289: "e4143a5705610b7ad2eb85482cfc033c7062a89b9faf9118603f592d53fd10e0",
}


def plain_digest(data: bytes) -> bytes:
    """Compute the digest level by level, with nothing kept back: the definition itself."""

    def level(content: bytes) -> bytes:
        blocks = [content[start : start + BLOCK] for start in range(0, len(content), BLOCK)]
        return b"".join(hashlib.sha256(block.ljust(BLOCK, b"\0")).digest() for block in blocks)

    hashes = level(data)
    while len(hashes) > 32:
        hashes = level(hashes)
    header = bytes([1, 1, 12, 0]) + bytes(4) + len(data).to_bytes(8, "little")
    return hashlib.sha256((header + hashes).ljust(256, b"\0")).digest()


@pytest.mark.parametrize("size", SIZES)
def test_digest_is_the_definitions(backend: Backend, size: int) -> None:
    """Sizes around a block and around a full tree block give what the definition gives."""
    data = noise(size, size)

    assert backend.verity_digest(data) == plain_digest(data)
    assert backend.hash_bytes(data) == (hashlib.sha256(data).digest(), plain_digest(data))


@pytest.mark.parametrize(("size", "expected"), ZEROS.items())
def test_zeros_have_the_kernels_digest(backend: Backend, size: int, expected: str) -> None:
    """Known digests of zeros."""
    assert backend.verity_digest(bytes(size)).hex() == expected


@pytest.mark.parametrize("size", SIZES)
def test_hash_file_reads_from_the_start(backend: Backend, tmp_path: Path, size: int) -> None:
    """A file gives its size and both digests wherever its descriptor stands."""
    path, data = tmp_path / "file", noise(size, size)
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        os.lseek(fd, size // 2, os.SEEK_SET)

        assert backend.hash_file(fd) == (size, hashlib.sha256(data).digest(), plain_digest(data))
        assert os.lseek(fd, 0, os.SEEK_CUR) == size // 2
    finally:
        os.close(fd)


def test_hash_file_reports_the_systems_error(backends: Backends, tmp_path: Path) -> None:
    """A directory cannot be read; both say so with the system's number."""
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for backend in backends:
            with pytest.raises(IsADirectoryError):
                backend.hash_file(fd)
    finally:
        os.close(fd)
