"""Giving memory back to the system, where there is much of it: the GNU C library keeps what was freed."""

from __future__ import annotations

# From here on the tables of a tree have a few tens of megabytes each.
_MANY_INODES = 100_000
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Less than any table of so many inodes; more than the buffers that are used again and again.
_LARGE = 1 << 20


def give_back(inodes: int) -> None:
    """Give back what is free and, from now on, whatever is large as soon as it is freed: for trees of many inodes."""
    if inodes < _MANY_INODES:
        return
    import ctypes

    libc = ctypes.CDLL(None)
    # Others than the GNU library have no such calls, and give memory back by themselves.
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(_TRIM_THRESHOLD, _LARGE)
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)
        libc.malloc_trim(0)
