"""JSON documents: the compiled reader gives what `json.loads` gives, or leaves the document to it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Backends

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = [
    *(b"", b" ", b"null", b'"', b"{}", b"[1,]", b'{"a":1,"a":2}', b"[1] x", b"-0", b"1.0", b"1e400", b"01", b"NaN"),
    *(b"18446744073709551616", b"-9223372036854775809", b'"\\ud800"', b'"\xff"', b'"\x01"', b"\xef\xbb\xbf{}"),
    *("[1]".encode("utf-16"), "{}".encode("utf-32-le"), b"[" * 200 + b"]" * 200, b"[" * 10**6, b'{"a":' * 2000),
]


def outcome(parse: object, data: bytes) -> tuple[str, object]:
    """Return what a parser gives, or which error it raises with which words."""
    try:
        return "value", repr(parse(data))  # type: ignore[operator]
    except (ValueError, RecursionError) as error:
        return type(error).__name__, str(error)


@given(VALUES, st.booleans())
def test_documents_mean_the_same(backends: Backends, value: object, escaped: bool) -> None:
    """Every value that JSON can carry, in both spellings of a string."""
    data = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    for backend in backends:
        assert outcome(backend.parse_json, data) == outcome(json.loads, data)


@pytest.mark.parametrize("data", DOCUMENTS, ids=lambda data: repr(data[:12]))
def test_odd_documents_mean_the_same(backends: Backends, data: bytes) -> None:
    """Other encodings, large numbers, mistakes: the same value or the same error."""
    for backend in backends:
        assert outcome(backend.parse_json, data) == outcome(json.loads, data)
