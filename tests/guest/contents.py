"""Files of sizes at which an fs-verity digest changes its shape, the same ones on both sides."""

from __future__ import annotations

import os
from pathlib import Path

BLOCK = 4096
# What one block of the hash tree covers.
SPAN = 128 * BLOCK
SIZES = (
    *(0, 1, BLOCK - 1, BLOCK, BLOCK + 1),
    *(SPAN - BLOCK, SPAN - 1, SPAN, SPAN + 1, SPAN + BLOCK),
    *(1 << 20, 300 << 20),
)
_FILLED = 2 << 20


def write_file(path: Path, size: int) -> None:
    """Write a file without a pattern; of a large one, all but the two ends is a hole."""
    content = bytes((n * n * 31 + n // 7) % 251 for n in range(BLOCK))
    with open(path, "wb") as file:
        if size <= _FILLED:
            file.write((content * (size // BLOCK + 1))[:size])
            return
        file.write(content)
        os.truncate(path, size - BLOCK)
        file.seek(size - BLOCK)
        file.write(content)
