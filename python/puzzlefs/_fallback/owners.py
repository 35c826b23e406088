"""Owners as another place numbers them: what a container calls user 0 is some user of the host."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

Range = tuple[int, int, int]
"""(inside, outside, count): numbers inside .. inside + count are outside .. elsewhere."""

UNMAPPED: Final = 65534
"""What the kernel shows for a number that has no other."""

_LAST: Final = (1 << 32) - 1
_ACLS: Final = (b"system.posix_acl_access", b"system.posix_acl_default")
_ACL_HEADER: Final = 4
_ACL_ENTRY: Final = Struct("<HHI")
_ACL_USER, _ACL_GROUP = 2, 8

_CAPABILITY: Final = b"security.capability"
_WORD: Final = Struct("<I")
_REVISION_MASK: Final = 0xFF000000
_REVISION_2, _REVISION_3 = 0x02000000, 0x03000000
_REVISION_2_SIZE: Final = 20


class Owners:
    """Ranges of users and of groups; an empty list leaves numbers as they are."""

    def __init__(self, users: Sequence[Range], groups: Sequence[Range]) -> None:
        self._users, self._groups = users, groups

    def user(self, number: int) -> int:
        return _shifted(self._users, number)

    def group(self, number: int) -> int:
        return _shifted(self._groups, number)

    def attribute(self, key: bytes, value: bytes) -> bytes:
        """Return an extended attribute's value with the owners that are shown; another than these as it is."""
        if key == _CAPABILITY:
            return self._capability(value)
        return self._acl(value) if key in _ACLS else value

    def _acl(self, value: bytes) -> bytes:
        entries = value[_ACL_HEADER:]
        if len(value) < _ACL_HEADER or len(entries) % _ACL_ENTRY.size:
            return value
        maps = {_ACL_USER: self.user, _ACL_GROUP: self.group}
        rows = ((tag, bits, maps.get(tag, int)(number)) for tag, bits, number in _ACL_ENTRY.iter_unpack(entries))
        return value[:_ACL_HEADER] + b"".join(_ACL_ENTRY.pack(*row) for row in rows)

    def _capability(self, value: bytes) -> bytes:
        """A capability counts for the root of one user namespace, which the third revision names."""
        if len(value) < _WORD.size or not self._users:
            return value
        (magic,) = _WORD.unpack_from(value)
        revision = magic & _REVISION_MASK
        if revision == _REVISION_2 and len(value) == _REVISION_2_SIZE:
            bits, root = value[_WORD.size :], 0
        elif revision == _REVISION_3 and len(value) >= 2 * _WORD.size:
            bits, (root,) = value[_WORD.size : -_WORD.size], _WORD.unpack(value[-_WORD.size :])
        else:
            return value
        magic = magic & ~_REVISION_MASK | _REVISION_3
        return _WORD.pack(magic) + bits + _WORD.pack(self.user(root))


def _shifted(ranges: Sequence[Range], number: int) -> int:
    """Return the number that is shown for one in the image."""
    for inside, outside, count in ranges:
        if inside <= number < inside + count and outside + number - inside <= _LAST:
            return outside + number - inside
    return UNMAPPED if ranges else number
