"""Maps of owners: what the users and groups of an image are called where it is mounted."""

from __future__ import annotations

from collections.abc import Iterable

from puzzlefs.errors import UsageError
from puzzlefs.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from puzzlefs._native import Range

_LIMIT = (1 << 32) - 1


class Owners(Value):
    """Ranges of users and of groups, each (inside, outside, count); without any, numbers stay as they are."""

    __slots__ = ("groups", "users")

    def __init__(self, users: Iterable[Iterable[int]] = (), groups: Iterable[Iterable[int]] = ()) -> None:
        """Raises `UsageError` for ranges that overlap or leave 32 bits."""
        self.users = _checked(users)
        self.groups = _checked(groups)

    def __bool__(self) -> bool:
        return bool(self.users or self.groups)


def parse_range(text: str) -> Range:
    """Read `INSIDE:OUTSIDE:COUNT`. Raises `UsageError`."""
    numbers = text.split(":")
    if len(numbers) != 3 or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise UsageError(f"{text!r} is not a map of owners: INSIDE:OUTSIDE:COUNT is expected")
    inside, outside, count = map(int, numbers)
    return inside, outside, count


def _checked(ranges: Iterable[Iterable[int]]) -> tuple[Range, ...]:
    checked: list[Range] = []
    for inside, outside, count in sorted(map(tuple, ranges)):
        if count < 1 or max(inside, outside) + count > _LIMIT:
            raise UsageError(f"map of owners {inside}:{outside}:{count}: numbers end at {_LIMIT - 1}")
        if checked and inside < checked[-1][0] + checked[-1][2]:
            raise UsageError(f"map of owners {inside}:{outside}:{count}: number {inside} is mapped twice")
        checked.append((inside, outside, count))
    return tuple(checked)
