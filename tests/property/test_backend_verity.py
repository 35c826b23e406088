"""Both backends give any bytes the same fs-verity digest."""

from __future__ import annotations

from hypothesis import given

from tests.conftest import Backends
from tests.parity.test_verity import plain_digest
from tests.strategies import streams


@given(data=streams())
def test_any_bytes_have_one_digest(backends: Backends, data: bytes) -> None:
    """The definition's."""
    expected = plain_digest(data)

    assert backends.rust.verity_digest(data) == expected
    assert backends.python.verity_digest(data) == expected
