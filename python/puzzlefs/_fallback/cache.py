"""Decoded frames kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock


class FrameCache:
    """Frames by (blob, frame); the least recently used go where more than `limit` bytes are kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._frames: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[int, int]) -> bytes | None:
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
            return self._frames.get(key)

    def put(self, key: tuple[int, int], frame: bytes) -> None:
        with self._lock:
            self._size += len(frame) - len(self._frames.pop(key, b""))
            self._frames[key] = frame
            while self._size > self._limit:
                self._size -= len(self._frames.popitem(last=False)[1])
