"""Plain values: what a frozen dataclass is, without the cost of importing `dataclasses`."""

from __future__ import annotations


class Value:
    """A value whose fields are its `__slots__`: equal to one of the same class with equal fields.

    By convention nobody changes a field once it is made.
    """

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        fields = zip(self.__slots__, self._fields(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in fields)})"

    def _fields(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)
