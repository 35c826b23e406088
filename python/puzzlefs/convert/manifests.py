"""Manifests of OCI and Docker (schema 2), and indexes of them for several platforms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from puzzlefs import constants
from puzzlefs.convert.blobs import BlobSource
from puzzlefs.convert.unite import Layer
from puzzlefs.errors import CorruptImageError, NotFoundError, UnsupportedError
from puzzlefs.names import is_digest
from puzzlefs.oci import Descriptor, Platform, parse_object

INDEXES = (constants.INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = (constants.MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_CONFIGS = (constants.IMAGE_CONFIG, "application/vnd.docker.container.image.v1+json")
_NESTING_LIMIT = 4


class SourceImage(NamedTuple):
    """An image to convert, of one platform.

    platform     what it is for: os, architecture, perhaps variant and more
    config       its image config, None where it has none
    layers       lowest first
    annotations  of its manifest
    """

    platform: Mapping[str, Any]
    config: Mapping[str, Any] | None
    layers: Sequence[Layer]
    annotations: Mapping[str, str]


def parse_platform(text: str) -> dict[str, str] | None:
    """Return the parts of OS/ARCH[/VARIANT], None for anything else."""
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        return None
    return dict(zip(("os", "architecture", "variant"), parts, strict=False))


def find_images(
    blobs: BlobSource, roots: Sequence[Descriptor], wanted: Mapping[str, str] | None, *, every: bool
) -> list[SourceImage]:
    """Return the image for a platform (None: this machine's), or with `every` that for each.

    roots are descriptors of manifests and indexes. Raises `NotFoundError` where no image is for the
    platform, `UnsupportedError` for documents of other kinds.
    """
    found = list(_leaves(blobs, roots, 0))
    if every:
        return [_image(blobs, leaf) for leaf in found]
    host: Mapping[str, str] = Platform.host().document()
    for leaf in found:
        if leaf.platform and _suits(leaf.platform, wanted or host):
            return [_image(blobs, leaf)]
    platforms = [leaf.platform for leaf in found if leaf.platform]
    if len(found) == 1 and (wanted is None or not platforms):
        image = _image(blobs, found[0])
        if wanted is None or _suits(image.platform, wanted):
            return [image]
        platforms = [image.platform]
    known = ", ".join("/".join(_parts(platform)) for platform in platforms) or "none"
    raise NotFoundError(f"no image for {'/'.join(_parts(wanted or host))}, only for: {known}")


def _leaves(blobs: BlobSource, descriptors: Sequence[Descriptor], depth: int) -> Iterator[Descriptor]:
    """Yield the descriptors of manifests, those inside indexes included."""
    if depth > _NESTING_LIMIT:
        raise CorruptImageError("index: indexes are nested too deep")
    for descriptor in descriptors:
        if descriptor.media_type in INDEXES:
            document = _parse(blobs.manifest(descriptor), "index")
            entries = document.get("manifests")
            if not isinstance(entries, list):
                raise CorruptImageError("index: manifests are not a list")
            yield from _leaves(blobs, [Descriptor.parse(entry) for entry in entries], depth + 1)
        elif (descriptor.platform or {}).get("os") != "unknown":
            # Attestations stand beside images and are for the unknown platform.
            yield descriptor


def _suits(platform: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return all(platform.get(key) == value for key, value in wanted.items())


def _parts(platform: Mapping[str, Any]) -> list[str]:
    return [str(platform[key]) for key in ("os", "architecture", "variant") if platform.get(key)]


def _image(blobs: BlobSource, descriptor: Descriptor) -> SourceImage:
    if descriptor.media_type not in MANIFESTS:
        raise UnsupportedError(f"{descriptor.digest} is of unknown media type {descriptor.media_type!r}")
    document = _parse(blobs.manifest(descriptor), "manifest")
    layers = document.get("layers")
    if document.get("schemaVersion") != 2 or not isinstance(layers, list):
        raise CorruptImageError(f"manifest {descriptor.digest}: not of schema version 2 with a list of layers")
    described = [Descriptor.parse(layer) for layer in layers]
    if described and described[0].media_type == constants.ROOTFS:
        raise UnsupportedError(f"manifest {descriptor.digest} is a PuzzleFS image already")
    config = _config(blobs, Descriptor.parse(document.get("config")))
    diff_ids = _diff_ids(config, len(described))
    annotations = document.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise CorruptImageError("manifest: annotations are not an object of strings")
    return SourceImage(
        {**Platform.host().document(), **(descriptor.platform or _platform_of(config or {}))},
        config,
        [blobs.layer(layer, diff_id) for layer, diff_id in zip(described, diff_ids, strict=True)],
        annotations,
    )


def _config(blobs: BlobSource, descriptor: Descriptor) -> dict[str, Any] | None:
    if descriptor.media_type not in _CONFIGS:
        return None
    document = _parse(blobs.config(descriptor), "image config")
    config = document.get("config") or {}
    if not isinstance(config, dict):
        raise CorruptImageError("image config: its config is not an object")
    environment = config.get("Env") or []
    if not isinstance(environment, list) or not all(isinstance(variable, str) for variable in environment):
        raise CorruptImageError("image config: its environment is not a list of strings")
    if not isinstance(config.get("Labels") or {}, dict):
        raise CorruptImageError("image config: its labels are not an object")
    return document


def _parse(content: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in `content`, which can be written again. Raises `CorruptImageError`."""
    document = parse_object(content, what)
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise CorruptImageError(f"{what}: not JSON") from error
    return document


def _diff_ids(config: Mapping[str, Any] | None, count: int) -> list[str | None]:
    """Return what the config promises of each layer's uncompressed bytes."""
    rootfs = (config or {}).get("rootfs")
    if rootfs is None:
        return [None] * count
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(isinstance(text, str) and is_digest(text) for text in diff_ids):
        raise CorruptImageError("image config: diff_ids are not a list of digests")
    if len(diff_ids) != count:
        raise CorruptImageError(f"image config: {len(diff_ids)} diff_ids for {count} layers")
    return list(diff_ids)


def _platform_of(config: Mapping[str, Any]) -> dict[str, str]:
    parts = {key: config.get(key) for key in ("os", "architecture", "variant")}
    return {key: value for key, value in parts.items() if isinstance(value, str) and value}
