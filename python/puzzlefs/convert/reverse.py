"""PuzzleFS images -> OCI images of layers, one for the base and one for each delta."""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from puzzlefs import constants
from puzzlefs._native import native
from puzzlefs.builder import source_date_epoch
from puzzlefs.convert.changes import TreeView, changes
from puzzlefs.convert.config import converted_config
from puzzlefs.convert.skopeo import SKOPEO_TRANSPORTS, skopeo_copy
from puzzlefs.convert.tar_writer import tar_archive
from puzzlefs.durability import Durability
from puzzlefs.errors import UsageError
from puzzlefs.image import CACHE_SIZE, VERIFY_ALWAYS, VERIFY_ONCE, Image
from puzzlefs.names import ImageName, check_tag
from puzzlefs.oci import Descriptor, Platform, canonical
from puzzlefs.rows import Vector
from puzzlefs.runtime_config import RuntimeConfig
from puzzlefs.store import Store, store_error

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LAYER = "application/vnd.oci.image.layer.v1.tar"


class LayerCompression(StrEnum):
    """How layers are compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LayeredImage:
    """An OCI image that was made.

    manifest  `sha256:HEX` of the manifest
    layers    the digests of its layers, lowest first
    diff_ids  those of the layers uncompressed
    bytes     size of all its blobs
    notices   what layers could not hold, one sentence each
    """

    manifest: str
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]
    bytes: int
    notices: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the result as `--json` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ReverseOptions:
    """Everything about a conversion back but what and where.

    compression  of the layers
    runtime      what the image's own runtime config is overridden by
    skopeo       further arguments of `skopeo copy`, where that takes the result to its place
    """

    compression: LayerCompression = LayerCompression.GZIP
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    durability: Durability = Durability.COMMIT
    skopeo: tuple[str, ...] = ()


class _StoredLayer(NamedTuple):
    descriptor: Descriptor
    diff_id: str


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


_COMPRESSORS: dict[LayerCompression, tuple[str, Callable[[], _Compressor]]] = {
    LayerCompression.GZIP: ("+gzip", lambda: zlib.compressobj(wbits=zlib.MAX_WBITS | 16)),
    LayerCompression.ZSTD: ("+zstd", lambda: zstd.ZstdCompressor(constants.ZSTD_LEVEL)),
    LayerCompression.NONE: ("", _Plain),
}


def convert_back(image: Image, destination: str, options: ReverseOptions | None = None) -> LayeredImage:
    """Convert a PuzzleFS image into an OCI image of tar layers: `[oci:]DIR:TAG`, or a name that skopeo knows.

    The same image gives the same bytes. Raises `UsageError`, `UnsupportedError` for what layers
    cannot hold, `IntegrityError`, `TransportError`, `StoreError`.
    """
    options = options or ReverseOptions()
    transport, colon, _ = destination.partition(":")
    if not colon or transport not in (*SKOPEO_TRANSPORTS, "dir"):
        return _convert_into(image, ImageName.parse(destination), options)
    with tempfile.TemporaryDirectory(prefix="puzzlefs-") as directory:
        result = _convert_into(image, ImageName(directory, "image"), options)
        skopeo_copy(f"oci:{directory}:image", destination, copy_options=options.skopeo)
        return result


def _convert_into(image: Image, name: ImageName, options: ReverseOptions) -> LayeredImage:
    if name.is_digest:
        raise UsageError(f"{name}: a conversion needs a tag, not a digest")
    check_tag(name.reference)
    epoch, notices = source_date_epoch(), list[str]()
    store = Store.create(name.layout)
    with store.unfinished() as unfinished:
        archives = _archives(image, notices)
        layers = [_store_layer(archive, store, unfinished, options) for archive in archives]
        platform = {**Platform.host().document(), **(image.descriptor.platform or {})}
        config = canonical(_config(image, layers, platform, options, epoch))
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": constants.MANIFEST,
            "config": Descriptor.of(constants.IMAGE_CONFIG, config).document(),
            "layers": [layer.descriptor.document() for layer in layers],
        }
        if image.manifest.annotations:
            document["annotations"] = dict(image.manifest.annotations)
        manifest = canonical(document)
        for content in (config, manifest):
            store.put(content, unfinished, options.durability is Durability.BLOB)
        described = Descriptor.of(constants.MANIFEST, manifest, platform=platform)
        store.tag(name.reference, described, sync=options.durability.syncs)
    return LayeredImage(
        described.digest,
        tuple(layer.descriptor.digest for layer in layers),
        tuple(layer.diff_id for layer in layers),
        sum(layer.descriptor.size for layer in layers) + len(config) + len(manifest),
        tuple(notices),
    )


def _archives(image: Image, notices: list[str]) -> Iterator[Iterable[bytes]]:
    """Yield the archive of each layer of the image, lowest first."""
    _, digests, verity, tables = native.decode_rootfs(image.rootfs)
    vectors = [Vector(*table) for table in tables]
    lower = None
    for height in reversed(range(len(vectors))):
        index = native.Index(native.encode_rootfs(digests, verity, vectors[height:]))
        upper = TreeView(index)
        level = VERIFY_ALWAYS if image.pinned else VERIFY_ONCE
        reader = native.Reader(index, os.fsencode(image.store.blob_directory), level, CACHE_SIZE)
        yield tar_archive(changes(lower, upper), reader, notices)
        lower = upper


def _store_layer(archive: Iterable[bytes], store: Store, unfinished: str, options: ReverseOptions) -> _StoredLayer:
    suffix, make = _COMPRESSORS[options.compression]
    compressor = make()
    plain, stored, size = sha256(), sha256(), 0
    path = os.path.join(unfinished, "layer")
    try:
        with open(path, "wb") as file:
            for piece in _compressed(archive, compressor, plain.update):
                stored.update(piece)
                size += file.write(piece)
            file.flush()
            if options.durability is Durability.BLOB:
                os.fsync(file.fileno())
    except OSError as error:
        raise store_error(error, path) from error
    store.put_file(path, stored.digest())
    descriptor = Descriptor(_LAYER + suffix, f"sha256:{stored.hexdigest()}", size)
    return _StoredLayer(descriptor, f"sha256:{plain.hexdigest()}")


def _compressed(archive: Iterable[bytes], compressor: _Compressor, measure: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in archive:
        measure(piece)
        yield compressor.compress(piece)
    yield compressor.flush()


def _config(
    image: Image, layers: list[_StoredLayer], platform: dict[str, Any], options: ReverseOptions, epoch: int | None
) -> dict[str, Any]:
    source = image.config or {"config": {}}
    diff_ids = [layer.diff_id for layer in layers]
    config = converted_config(source, options.runtime, platform, diff_ids, epoch) or {}
    made = {key: config[key] for key in ("created",) if key in config}
    steps = [{**made, "created_by": "puzzlefs convert --reverse"} for _ in layers]
    return {**config, "history": [*config.get("history", []), *steps]}
