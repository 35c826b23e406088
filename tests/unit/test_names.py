"""Image names."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzlefs.errors import UsageError
from puzzlefs.names import ImageName, check_tag, parse_verity

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "layout", "reference"),
    [
        ("dir:tag", "dir", "tag"),
        ("oci:dir:tag", "dir", "tag"),
        ("oci:tag", "oci", "tag"),
        ("/a:b/c:v1.2", "/a:b/c", "v1.2"),
        ("/lxc/c1/../oci:c1:c1", "/lxc/c1/../oci:c1", "c1"),
        (f"dir@sha256:{HEX}", "dir", f"sha256:{HEX}"),
        (f"oci:/a:b@sha256:{HEX}", "/a:b", f"sha256:{HEX}"),
    ],
)
def test_name_splits_at_the_last_colon_or_at_a_digest(text: str, layout: str, reference: str) -> None:
    """A name is a directory and, after the last colon or @sha256:, what to open in it."""
    assert ImageName.parse(text) == ImageName(Path(layout), reference)


@pytest.mark.parametrize(
    "text", ["", "dir", ":tag", "dir:", "/a:b/c", "dir:t ag", "dir:a/b", "dir:-x", f"@sha256:{HEX}"]
)
def test_malformed_name_is_a_usage_error(text: str) -> None:
    """What names no directory or no proper tag is refused."""
    with pytest.raises(UsageError):
        ImageName.parse(text)


def test_short_digest_is_refused() -> None:
    """A digest of another length than 64 digits names nothing."""
    with pytest.raises(UsageError):
        ImageName.parse("dir@sha256:abc")


def test_tag_with_newline_is_refused() -> None:
    """A trailing newline does not slip through the tag's grammar."""
    with pytest.raises(UsageError):
        check_tag("v\n")


@pytest.mark.parametrize("text", ["", "ab", HEX[:-1], HEX + "0", "g" * 64, HEX + "\n"])
def test_verity_digest_must_be_64_digits(text: str) -> None:
    """A pinned digest is 32 bytes of hex or refused."""
    with pytest.raises(UsageError):
        parse_verity(text)
