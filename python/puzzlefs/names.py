"""Image names: `[oci:]DIR:TAG` or `[oci:]DIR@sha256:HEX`."""

from __future__ import annotations

import os

from puzzlefs.errors import UsageError
from puzzlefs.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

_HEX = frozenset("0123456789abcdef")
_VERITY_LENGTH = 64


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
        # What is left is a tag alone: a layout may be called `oci`, too.
        bare = bare if ":" in bare else text
        directory, at, digest = bare.rpartition("@sha256:")
        if at and "/" not in digest:
            if not directory or not is_digest(f"sha256:{digest}"):
                raise UsageError(f"{text!r} is not an image name: DIR@sha256: and 64 hexadecimal digits are expected")
            return cls(directory, f"sha256:{digest}")
        directory, colon, tag = bare.rpartition(":")
        if not colon or not directory or not is_tag(tag):
            raise UsageError(f"{text!r} is not an image name: DIR:TAG or DIR@sha256:HEX is expected")
        return cls(directory, tag)

    @classmethod
    def to_build(cls, text: str) -> ImageName:
        """Read the name of an image that is to be built. Raises `UsageError`."""
        name = cls.parse(text)
        name.check_tagged()
        return name

    def check_tagged(self) -> None:
        """Raise `UsageError` where no image can be built under this name."""
        if self.is_digest:
            raise UsageError(f"{self}: a build needs a tag, not a digest")
        check_tag(self.reference)

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


def is_digest(text: str) -> bool:
    """Tell whether `text` is `sha256:` and 64 hexadecimal digits in lower case."""
    digits = text.removeprefix("sha256:")
    return len(text) == len("sha256:") + 64 and len(digits) == 64 and _HEX.issuperset(digits)


def is_tag(text: str) -> bool:
    """Tell whether `text` may name an image.

    The grammar is that of references in the OCI image layout, `alnum+ (sep alnum+)*` where sep is one of
    `-._:@+` or `--`, without "/" so that a directory never looks like a tag.
    """
    words = text.replace("--", "-")
    for separator in "._:@+":
        words = words.replace(separator, "-")
    return text.isascii() and all(word.isalnum() for word in words.split("-"))


def check_tag(tag: str) -> str:
    """Return `tag` where it may name an image. Raises `UsageError`."""
    if not is_tag(tag):
        raise UsageError(f"{tag!r} is not a tag")
    return tag


def parse_verity(text: str) -> bytes:
    """Return the 32 bytes of a fs-verity digest written in hex. Raises `UsageError`."""
    if len(text) != _VERITY_LENGTH or not _HEX.issuperset(text.lower()):
        raise UsageError(f"{text!r} is not a fs-verity digest: 64 hexadecimal digits are expected")
    return bytes.fromhex(text)
