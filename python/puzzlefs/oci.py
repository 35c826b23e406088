"""The OCI documents an image consists of: descriptors, manifests, canonical JSON."""

from __future__ import annotations

import os

from puzzlefs import constants
from puzzlefs._native import native
from puzzlefs.errors import CorruptImageError
from puzzlefs.names import is_digest
from puzzlefs.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_GOARCH = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i386": "386",
    "i686": "386",
    "loongarch64": "loong64",
}


class Platform(Value):
    """The operating system and architecture an image is for, in Go's names."""

    __slots__ = ("architecture", "os")

    def __init__(self, os: str = "linux", architecture: str = "amd64") -> None:
        self.os = os
        self.architecture = architecture

    @classmethod
    def host(cls) -> Platform:
        """Return this machine's platform."""
        machine = os.uname().machine.lower()
        return cls(os.uname().sysname.lower(), _GOARCH.get(machine, machine))

    def document(self) -> dict[str, str]:
        """Return the platform as a descriptor has it."""
        return {"architecture": self.architecture, "os": self.os}


class Descriptor(Value):
    """A blob's media type, digest (`sha256:HEX`) and size in bytes."""

    __slots__ = ("annotations", "data", "digest", "media_type", "platform", "size")

    def __init__(
        self,
        media_type: str,
        digest: str,
        size: int,
        annotations: Mapping[str, str] | None = None,
        data: str | None = None,
        platform: Mapping[str, Any] | None = None,
    ) -> None:
        self.media_type = media_type
        self.digest = digest
        self.size = size
        self.annotations: Mapping[str, str] = annotations or {}
        self.data = data
        self.platform = platform

    @classmethod
    def of(cls, media_type: str, content: bytes, **fields: Any) -> Descriptor:
        """Describe `content`."""
        return cls(media_type, f"sha256:{native.hash_bytes(content)[0].hex()}", len(content), **fields)

    @classmethod
    def parse(cls, document: object) -> Descriptor:
        """Read a descriptor. Raises `CorruptImageError` for one that is malformed."""
        if not isinstance(document, dict):
            raise CorruptImageError("descriptor: not an object")
        media_type, digest, size = document.get("mediaType"), document.get("digest"), document.get("size")
        platform = document.get("platform")
        if not isinstance(media_type, str):
            raise CorruptImageError("descriptor: no media type")
        if not isinstance(digest, str) or not is_digest(digest):
            raise CorruptImageError("descriptor: digest is not sha256:HEX")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= constants.FILE_SIZE_LIMIT:
            raise CorruptImageError("descriptor: size out of range")
        if platform is not None and not isinstance(platform, dict):
            raise CorruptImageError("descriptor: platform is not an object")
        return cls(media_type, digest, size, _annotations(document, "descriptor"), None, platform)

    @property
    def raw_digest(self) -> bytes:
        """The 32 bytes of the digest."""
        return bytes.fromhex(self.digest.removeprefix("sha256:"))

    def document(self) -> dict[str, Any]:
        """Return the descriptor as JSON has it."""
        document: dict[str, Any] = {"digest": self.digest, "mediaType": self.media_type, "size": self.size}
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.data is not None:
            document["data"] = self.data
        if self.platform is not None:
            document["platform"] = dict(self.platform)
        return document


def _annotations(document: Mapping[str, Any], what: str) -> Mapping[str, str]:
    annotations = document.get("annotations")
    if annotations is None:
        return {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise CorruptImageError(f"{what}: annotations are not an object of strings")
    return annotations


EMPTY_CONFIG = b"{}"
_EMPTY_DIGEST = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
EMPTY_DESCRIPTOR = Descriptor(constants.EMPTY, _EMPTY_DIGEST, len(EMPTY_CONFIG), data="e30=")


class Manifest:
    """A PuzzleFS manifest: layers[0] is the rootfs blob, the rest is file data."""

    def __init__(
        self, config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.rootfs = layers[0]
        self.annotations: Mapping[str, str] = annotations or {}
        self._layers = tuple(layers)
        # Layers as the document has them: there are thousands, and reading files needs none of them.
        self._unread: Sequence[object] = ()

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """Read a manifest. Raises `CorruptImageError` where it is malformed or no PuzzleFS image.

        File-data layers are read when `layers` is first asked for, and may then raise the same.
        """
        document = parse_object(content, "manifest")
        if document.get("schemaVersion") != 2:
            raise CorruptImageError("manifest: schema version is not 2")
        layers = document.get("layers")
        if not isinstance(layers, list) or not layers:
            raise CorruptImageError("manifest: no layers")
        rootfs = Descriptor.parse(layers[0])
        if rootfs.media_type != constants.ROOTFS:
            raise CorruptImageError(f"manifest: not a PuzzleFS image, its first layer is {rootfs.media_type!r}")
        config = Descriptor.parse(document.get("config"))
        manifest = cls(config, (rootfs,), _annotations(document, "manifest"))
        manifest._unread = layers[1:]
        return manifest

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """Every layer. Raises `CorruptImageError` where one is malformed."""
        if self._unread:
            self._layers += tuple(map(Descriptor.parse, self._unread))
            self._unread = ()
        return self._layers

    def document(self, artifact: bool) -> dict[str, Any]:
        """Return the manifest as JSON has it; with `artifact` its media and artifact types are named."""
        document: dict[str, Any] = {
            "config": self.config.document(),
            "layers": [layer.document() for layer in self.layers],
            "schemaVersion": 2,
        }
        if artifact:
            document |= {"mediaType": constants.MANIFEST, "artifactType": constants.ARTIFACT}
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


def canonical(document: Any) -> bytes:
    """Return a document as canonical JSON: keys sorted, no white space, no final newline."""
    import json

    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_object(content: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in `content`. Raises `CorruptImageError`, calling it `what`."""
    try:
        document = native.parse_json(content)
    except (ValueError, RecursionError) as error:
        raise CorruptImageError(f"{what}: not JSON") from error
    if not isinstance(document, dict):
        raise CorruptImageError(f"{what}: not a JSON object")
    return document
