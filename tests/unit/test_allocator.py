"""Memory that goes back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

MIB = 1 << 20
FREED = f"""
from puzzlefs.allocator import give_back
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
# Freed, it makes the library keep blocks of up to its size from now on.
del [bytearray({30 * MIB})][0]
blocks = [bytearray(b"x") * {8 * MIB} for _ in range(4)]
above = bytearray(b"x") * {MIB // 2}
del blocks
before = resident()
give_back(10_000)
few = before - resident()
give_back(1_000_000)
print(few, before - resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not the GNU C library")
def test_freed_memory_goes_back_after_a_large_tree() -> None:
    """A small one is left alone: it would take longer than it is worth."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    assert few < MIB
    assert many > 30 * MIB
