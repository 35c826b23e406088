"""Image names: `[oci:]DIR:TAG` or `[oci:]DIR@sha256:HEX`."""

from __future__ import annotations

import os
import re

from puzzlefs.errors import UsageError
from puzzlefs.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
# The reference grammar of the OCI image layout, without "/" so that a directory never looks like a tag.
_TAG = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*\Z")


class ImageName(Value):
    """Where an image is: the path of a layout directory and a tag or manifest digest in it."""

    __slots__ = ("directory", "reference")

    def __init__(self, layout: str | os.PathLike[str], reference: str) -> None:
        self.directory = os.fspath(layout)
        self.reference = reference

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Read a name as a user writes it. Raises `UsageError`."""
        bare = text.removeprefix("oci:")
        directory, at, digest = bare.rpartition("@sha256:")
        if at and "/" not in digest:
            if not directory or not DIGEST.match(f"sha256:{digest}"):
                raise UsageError(f"{text!r} is not an image name: DIR@sha256: and 64 hexadecimal digits are expected")
            return cls(directory, f"sha256:{digest}")
        directory, colon, tag = bare.rpartition(":")
        if not colon or not directory or not _TAG.match(tag):
            raise UsageError(f"{text!r} is not an image name: DIR:TAG or DIR@sha256:HEX is expected")
        return cls(directory, tag)

    @property
    def layout(self) -> Path:
        """The layout directory."""
        from pathlib import Path

        return Path(self.directory)

    @property
    def is_digest(self) -> bool:
        """Whether the reference is a manifest digest rather than a tag."""
        return self.reference.startswith("sha256:")

    def __str__(self) -> str:
        return f"{self.directory}{'@' if self.is_digest else ':'}{self.reference}"


def check_tag(tag: str) -> str:
    """Return `tag` where it may name an image. Raises `UsageError`."""
    if not _TAG.match(tag):
        raise UsageError(f"{tag!r} is not a tag")
    return tag


def parse_verity(text: str) -> bytes:
    """Return the 32 bytes of a fs-verity digest written in hex. Raises `UsageError`."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise UsageError(f"{text!r} is not a fs-verity digest: 64 hexadecimal digits are expected")
    return bytes.fromhex(text)
