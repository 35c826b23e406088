"""How much of what a writer stores is on stable storage when it returns."""

from __future__ import annotations

from enum import StrEnum


class Durability(StrEnum):
    """What is on stable storage when a writer returns.

    NONE leaves it to the system, COMMIT syncs the store once before the index names the image,
    BLOB also syncs every blob before it gets its name.
    """

    NONE = "none"
    COMMIT = "commit"
    BLOB = "blob"

    @property
    def syncs(self) -> bool:
        """Whether the store is synced before its index names what was written."""
        return self is not Durability.NONE
