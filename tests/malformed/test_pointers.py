"""docs/format.md, section 9, Pointers: each rule with a message that breaks it and no other.

Most messages put one bad word where the pointer of `metadatas` stands: a Rootfs of one data word and
two pointers at words 1 to 3 of segment 0, so that `metadatas` is word 2 and its target word 4 on.
"""

from __future__ import annotations

import pytest

from puzzlefs._native import Backend
from tests.malformed.rules import refused
from tests.malformed.words import far_pointer, framed, list_pointer, struct_pointer

ROOT = struct_pointer(0, 1, 2)
OTHER_POINTER = 3
ONE_VECTOR = 1 << 2 | 1 << 48
EMPTY_LIST = list_pointer(0, 7, 0)


def with_metadatas(pointer: int, *rest: int, others: list[list[int]] | None = None) -> bytes:
    """Return a message whose metadatas pointer is `pointer`; `rest` are the words from 4 on."""
    return framed([ROOT, 3, pointer, 0, *rest], *(others or []))


def with_name(pointer: int, *rest: int) -> bytes:
    """Return a message with one directory with one entry, whose name pointer is `pointer`.

    The name pointer is word 14; `rest` are the words from 15 on.
    """
    vector = [list_pointer(1, 7, 1), 0, ONE_VECTOR, list_pointer(0, 7, 4), 1 << 2 | 3 << 32 | 1 << 48]
    inode = [1, 3, 0, struct_pointer(0, 0, 1)]
    entries = [list_pointer(0, 7, 2), 1 << 2 | 1 << 32 | 1 << 48, 1, pointer]
    return framed([ROOT, 3, *vector, *inode, *entries, *rest])


FAR_OUT = {
    "no such segment": with_metadatas(far_pointer(1, 0)),
    "segment far beyond": with_metadatas(far_pointer(0xFFFFFFFF, 0)),
    "pad at the end": with_metadatas(far_pointer(1, 1), others=[[0]]),
    "pad far beyond": with_metadatas(far_pointer(1, 0x1FFFFFFF), others=[[0]]),
    "pad of two words at the last": with_metadatas(far_pointer(1, 0, double=True), others=[[far_pointer(0, 4)]]),
    "pad does not begin with a far pointer": with_metadatas(
        far_pointer(1, 0, double=True), others=[[EMPTY_LIST, EMPTY_LIST]]
    ),
    "pad begins with a double far pointer": with_metadatas(
        far_pointer(1, 0, double=True), others=[[far_pointer(0, 4, double=True), EMPTY_LIST]]
    ),
    "object in no segment": with_metadatas(far_pointer(1, 0, double=True), others=[[far_pointer(2, 0), EMPTY_LIST]]),
    "object past its segment": with_metadatas(far_pointer(1, 0, double=True), others=[[far_pointer(1, 3), EMPTY_LIST]]),
    "root": framed([far_pointer(1, 0)]),
    "name": with_name(far_pointer(9, 0)),
}
NESTED = {
    "far to far": with_metadatas(far_pointer(1, 0), others=[[far_pointer(1, 1), EMPTY_LIST, 0]]),
    "far to itself": with_metadatas(far_pointer(0, 2), 0),
    "double far with a far tag": with_metadatas(
        far_pointer(1, 0, double=True), others=[[far_pointer(0, 4), far_pointer(0, 4)]]
    ),
    "root": framed([far_pointer(0, 0), 0]),
}
WRONG_KIND = {
    "root is a list": framed([list_pointer(0, 7, 0), 0]),
    "root is another": framed([OTHER_POINTER]),
    "list is a struct": with_metadatas(struct_pointer(1, 0, 0)),
    "list is another": with_metadatas(OTHER_POINTER),
    "list by way of a null pad": with_metadatas(far_pointer(1, 0), others=[[0]]),
    "struct is a list": with_name(0).replace(
        struct_pointer(0, 0, 1).to_bytes(8, "little") + list_pointer(0, 7, 2).to_bytes(8, "little"),
        list_pointer(0, 7, 0).to_bytes(8, "little") + list_pointer(0, 7, 2).to_bytes(8, "little"),
    ),
    "name is a struct": with_name(struct_pointer(-1, 0, 0)),
    "name is another": with_name(OTHER_POINTER),
    "kind before element code and bounds": with_metadatas(struct_pointer(1000, 5, 5)),
}
WRONG_ELEMENTS = {
    **{f"struct list with code {code}": with_metadatas(list_pointer(1, code, 0), 0) for code in range(7)},
    **{f"name with code {code}": with_name(list_pointer(0, code, 0)) for code in (0, 1, 3, 4, 5, 6, 7)},
    "tag is a list": with_metadatas(list_pointer(1, 7, 0), 1),
    "tag is a far pointer": with_metadatas(list_pointer(1, 7, 0), 2),
    "tag is another": with_metadatas(list_pointer(1, 7, 0), 3),
    "code before bounds": with_metadatas(list_pointer(1000, 2, 5)),
}
OUT_OF_BOUNDS = {
    "no root pointer": framed([]),
    "no root pointer in the first segment": framed([], [ROOT, 3, 0, 0]),
    "struct past the end": framed([struct_pointer(0, 1, 0)]),
    "struct before the start": framed([struct_pointer(-2, 0, 0)]),
    "struct far before the start": framed([struct_pointer(-(1 << 29), 0, 0)]),
    "largest struct": framed([struct_pointer(0, 0xFFFF, 0xFFFF)]),
    "list without its tag": with_metadatas(list_pointer(1, 7, 0)),
    "list past the end": with_metadatas(list_pointer(1, 7, 1), 0),
    "list before the start": with_metadatas(list_pointer(-4, 7, 0)),
    "longest list": with_metadatas(list_pointer(1, 7, 0x1FFFFFFF), 0),
    "tag claims one word too many": with_metadatas(list_pointer(1, 7, 1), 2 << 2 | 1 << 48, 0),
    "tag claims the most": with_metadatas(list_pointer(1, 7, 1), 0xFFFFFFFC | 0xFFFFFFFF << 32, 0),
    "name past the end": with_name(list_pointer(0, 2, 9), 0),
    "name before the start": with_name(list_pointer(-16, 2, 0)),
    "longest name": with_name(list_pointer(0, 2, 0x1FFFFFFF), 0),
    "double far to the end": with_metadatas(far_pointer(1, 0, double=True), others=[[far_pointer(1, 2), EMPTY_LIST]]),
    "bounds before the tag": with_metadatas(list_pointer(1, 7, 5), 1),
}
OVERLAPPING = {
    "root that is its own pointer": framed([struct_pointer(-1, 1, 0)]),
    "list inside the root": with_metadatas(list_pointer(0, 7, 0)),
    "landing pad of one word": with_metadatas(far_pointer(0, 4), list_pointer(-2, 7, 0)),
    "landing pad of two words": with_metadatas(
        far_pointer(1, 0, double=True), others=[[far_pointer(0, 3), EMPTY_LIST]]
    ),
    "far pointer to itself, nothing left": framed([far_pointer(0, 0)]),
    "one element of no size": with_metadatas(list_pointer(1, 7, 0), 1 << 2),
    "many elements of no size": with_metadatas(list_pointer(1, 7, 0), 0xFFFFFFFC),
    "layers that are one another": framed(
        [ROOT, 3, list_pointer(1, 7, 2), 0, 2 << 2 | 1 << 48, list_pointer(1, 7, 0), list_pointer(0, 7, 0), 0]
    ),
    "root over its landing pad": framed([far_pointer(1, 0)], [struct_pointer(-1, 2, 0), 0]),
    "name in the pointers": with_name(list_pointer(-15, 2, 112)),
}
CASES = [
    (text, what, blob)
    for text, cases in {
        "far pointer out of bounds": FAR_OUT,
        "nested far pointer": NESTED,
        "wrong kind of pointer": WRONG_KIND,
        "wrong element size": WRONG_ELEMENTS,
        "object out of bounds": OUT_OF_BOUNDS,
        "objects overlap": OVERLAPPING,
    }.items()
    for what, blob in cases.items()
]


@pytest.mark.parametrize(("text", "blob"), [case[::2] for case in CASES], ids=[": ".join(case[:2]) for case in CASES])
def test_a_bad_pointer_is_refused(backend: Backend, text: str, blob: bytes) -> None:
    """The pointers' rules, each at its bound and far beyond it."""
    refused(backend, blob, f"rootfs: {text}")


SOUND = {
    "empty list": with_metadatas(list_pointer(1, 7, 0), 0),
    "list in another segment": with_metadatas(far_pointer(1, 0), others=[[EMPTY_LIST, 0]]),
    "list of which pad and content lie apart": with_metadatas(
        far_pointer(1, 0, double=True), others=[[far_pointer(2, 0), EMPTY_LIST], [0]]
    ),
    "offset in a double far tag is ignored": with_metadatas(
        far_pointer(1, 0, double=True), others=[[far_pointer(2, 0), list_pointer(-77, 7, 0)], [0]]
    ),
    "list longer than its elements": with_metadatas(list_pointer(1, 7, 3), 0, 5, 5, 5),
    "root in another segment": framed([far_pointer(1, 1)], [0, struct_pointer(0, 1, 0), 3]),
}


@pytest.mark.parametrize("what", SOUND)
def test_an_unusual_but_sound_pointer_is_followed(backend: Backend, what: str) -> None:
    """Rules are not broken by what merely looks odd."""
    assert backend.decode_rootfs(SOUND[what]) == (3, b"", b"", [])


def test_a_null_root_is_an_empty_struct(backend: Backend) -> None:
    """Its version, 0, is the rule that is broken."""
    refused(backend, framed([0]), "rootfs: manifest version 0 is not 3", unsupported=True)


def test_a_name_of_exactly_the_words_left_is_read(backend: Backend) -> None:
    """Data that ends with the segment is inside it."""
    blob = with_name(list_pointer(0, 2, 8), int.from_bytes(b"eight by", "little"))

    assert backend.decode_rootfs(blob)[3][0][4] == b"eight by"
