"""docs/format.md, section 9, Values: each rule with a message that breaks it and no other."""

from __future__ import annotations

import pytest

from puzzlefs._native import Backend
from puzzlefs.constants import NAME_LIMIT, SYMLINK_LIMIT, VECTOR_LIMIT, XATTR_KEY_LIMIT, XATTR_VALUE_LIMIT
from tests.malformed.rules import refused
from tests.malformed.words import (
    DIGEST,
    U64,
    Node,
    additional,
    chunk,
    directory,
    file,
    image,
    inode,
    message,
    rootfs,
)

LARGEST = (1 << 63) - 1
FIFO, CHR, DIR, BLK, FILE, LNK, SOCK, WHT = range(1, 9)

UNSUPPORTED = [
    ("required feature bits 0x1 are not known", message(rootfs(features=1))),
    ("required feature bits 0xffffffffffffffff are not known", message(rootfs(features=U64))),
    ("required feature bits 0x8000000000000000 are not known", message(rootfs(features=1 << 63, version=4))),
    ("manifest version 0 is not 3", message(rootfs(version=0))),
    ("manifest version 4 is not 3", message(rootfs(version=4))),
    ("manifest version 18446744073709551615 is not 3", message(rootfs(version=U64))),
    ("lookBelow is set", image(inode(1, DIR, Node([1], [[Node([0], [b""])]])))),
]


def link(target: bytes | None) -> bytes:
    return image(inode(1, LNK, None, additional([], target)))


def attributed(*xattrs: tuple[bytes, bytes]) -> bytes:
    return image(inode(1, SOCK, None, additional(list(xattrs))))


BROKEN = {
    "too many layers": [message(rootfs([[]] * (VECTOR_LIMIT + 1)))],
    "inode number 0": [image(inode(0, SOCK)), image(inode(0, 0)), image(Node([0], []))],
    "inode numbers do not ascend": [
        image(inode(1, SOCK), inode(1, SOCK)),
        image(inode(2, SOCK), inode(1, SOCK)),
        image(inode(U64, SOCK), inode(1, 0)),
    ],
    "unknown inode kind": [image(inode(1, 0)), image(inode(1, 9)), image(inode(1, 0xFFFF, permissions=0xFFFF))],
    "permissions out of range": [image(inode(1, SOCK, permissions=0o10000)), image(inode(1, SOCK, permissions=0xFFFF))],
    "nanoseconds out of range": [
        image(inode(1, SOCK, nanoseconds=1_000_000_000)),
        image(inode(1, DIR, Node([1], []), nanoseconds=0xFFFFFFFF)),
    ],
    "bad entry name": [
        image(directory(1, (name, 2)))
        for name in (b"", b".", b"..", b"a/b", b"/", b"\0", b"a\0", b"n" * (NAME_LIMIT + 1))
    ],
    "bad digest length": [image(file(1, chunk(digest))) for digest in (None, b"", DIGEST[:31], DIGEST + b"x")],
    "file too large": [
        image(file(1, chunk(offset=1, length=LARGEST))),
        image(file(1, chunk(offset=LARGEST, length=1))),
        image(file(1, chunk(offset=U64, length=U64))),
        image(file(1, chunk(offset=1 << 63, length=0))),
        image(file(1, chunk(length=1 << 63))),
        image(file(1, chunk(length=LARGEST), chunk(length=1))),
        image(file(1, chunk(length=LARGEST), chunk(length=LARGEST), chunk(length=2))),
    ],
    "bad attribute key": [attributed((key, b"value")) for key in (b"", b"user\0", b"\0", b"k" * (XATTR_KEY_LIMIT + 1))],
    "bad attribute value": [attributed((b"user.k", bytes(XATTR_VALUE_LIMIT + 1)))],
    "bad link target": [
        image(inode(1, LNK)),
        *[link(target) for target in (None, b"", b"\0", b"a\0b", b"t" * (SYMLINK_LIMIT + 1))],
    ],
    "bad verity entry": [
        message(rootfs([], [Node([], [digest, verity])]))
        for digest, verity in [(None, None), (DIGEST, DIGEST[1:]), (DIGEST + b"x", DIGEST), (None, DIGEST)]
    ],
}
CASES = [(text, blob) for text, blobs in BROKEN.items() for blob in blobs]


@pytest.mark.parametrize(("text", "blob"), CASES, ids=[text for text, _ in CASES])
def test_a_bad_value_is_refused(backend: Backend, text: str, blob: bytes) -> None:
    """The values' rules, each at its bound and far beyond it."""
    refused(backend, blob, f"rootfs: {text}")


@pytest.mark.parametrize(("text", "blob"), UNSUPPORTED, ids=[text for text, _ in UNSUPPORTED])
def test_what_is_not_known_is_unsupported(backend: Backend, text: str, blob: bytes) -> None:
    """Versions and features of the future are no damage."""
    refused(backend, blob, f"rootfs: {text}", unsupported=True)


SOUND = [
    message(rootfs([[]] * VECTOR_LIMIT)),
    image(inode(U64, SOCK, permissions=0o7777, nanoseconds=999_999_999)),
    image(directory(1, (b"n" * NAME_LIMIT, 0), (b"...", U64), (b"\xff\n", 1))),
    image(file(1, chunk(offset=0, length=LARGEST), chunk(offset=LARGEST, length=0))),
    attributed((b"k" * XATTR_KEY_LIMIT, bytes(XATTR_VALUE_LIMIT)), (b"k", b"")),
    link(b"t" * SYMLINK_LIMIT),
    image(inode(1, SOCK, None, additional([], b"\0" * 5000))),
    image(inode(1, WHT, Node([1], []))),
]


@pytest.mark.parametrize("blob", SOUND, ids=range(len(SOUND)))
def test_values_at_their_bounds_are_read(backend: Backend, blob: bytes) -> None:
    """The largest values that are allowed, and what belongs to another kind."""
    assert backend.decode_rootfs(blob)[0] == 3


# (what a reader comes upon first, the message): two broken rules in one message.
FIRST = [
    ("too many layers", message(rootfs([[inode(0, SOCK)]] * (VECTOR_LIMIT + 1), [Node([], [])]))),
    ("inode number 0", message(rootfs([[inode(0, 99)]], [Node([], [])]))),
    ("unknown inode kind", image(inode(1, 99, permissions=0xFFFF, nanoseconds=U64 >> 32))),
    ("permissions out of range", image(inode(1, SOCK, permissions=0xFFFF, nanoseconds=U64 >> 32))),
    ("bad entry name", image(inode(1, DIR, Node([0], [[Node([1], [b""])]]), additional([(b"", b"")])))),
    ("bad digest length", image(file(1, chunk(b"", offset=U64), chunk(offset=U64)))),
    ("file too large", image(file(1, chunk(offset=U64), chunk(b"")))),
    ("bad attribute key", image(inode(1, LNK, None, additional([(b"", bytes(XATTR_VALUE_LIMIT + 1))], b"")))),
    ("bad attribute value", image(inode(1, LNK, None, additional([(b"k", bytes(XATTR_VALUE_LIMIT + 1))], b"")))),
    ("bad link target", message(rootfs([[inode(1, LNK), inode(0, SOCK)]], [Node([], [])]))),
    ("inode number 0", message(rootfs([[], [inode(0, SOCK)]], [Node([], [])]))),
    ("bad verity entry", message(rootfs([[directory(1, (b"a", 7))]], [Node([], [None])]))),
]


@pytest.mark.parametrize(("text", "blob"), FIRST, ids=[text for text, _ in FIRST])
def test_the_first_broken_rule_is_reported(backend: Backend, text: str, blob: bytes) -> None:
    """Fields are read in the order of the specification."""
    refused(backend, blob, f"rootfs: {text}")
