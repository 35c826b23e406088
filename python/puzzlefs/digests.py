"""The digest table of an image: which blob a row of a chunk means."""

from __future__ import annotations


class DigestTable:
    """The distinct blob digests of an image, by row."""

    def __init__(self, digests: bytes = b"") -> None:
        self._rows: dict[bytes, int] = {}
        for start in range(0, len(digests), 32):
            self.row(digests[start : start + 32])

    def row(self, digest: bytes) -> int:
        """Return a digest's row, a new one where it is not there yet."""
        return self._rows.setdefault(digest, len(self._rows))

    def digests(self) -> list[bytes]:
        """Return the digests by row."""
        return list(self._rows)

    def packed(self) -> bytes:
        """Return the table as a backend takes it."""
        return b"".join(self._rows)
