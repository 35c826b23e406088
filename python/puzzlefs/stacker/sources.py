"""What a layer begins with, as a PuzzleFS image in the store: converted where it is of another kind.

A converted base gets a tag that is made of what it was converted from and how, so that every later build
finds it there, and a stacker file's layers share it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from puzzlefs.builder import BuildOptions, source_date_epoch
from puzzlefs.convert import ConvertOptions, SourceOptions, convert
from puzzlefs.convert.skopeo import skopeo_manifest
from puzzlefs.errors import CorruptImageError, NotFoundError
from puzzlefs.image import Image
from puzzlefs.names import ImageName
from puzzlefs.oci import Platform, canonical
from puzzlefs.stacker.imports import fetch
from puzzlefs.stacker.layers import Import, Layer, Source
from puzzlefs.store import Store

_TAG = "stacker-base-"


class Bases:
    """The images that layers begin with, in one store.

    options  how they are stored
    report   is told of each conversion
    """

    def __init__(self, store: Store, options: BuildOptions, report: Callable[[str], None]) -> None:
        self.store, self.options, self.report = store, options, report

    def image(self, layer: Layer, built: Mapping[str, Image]) -> Image | None:
        """Return the image that a layer begins with, None for an empty one.

        built  the layers of the file that were built before
        Raises `NotFoundError`, `UnsupportedError`, `TransportError`, or what converting raises.
        """
        source = layer.source
        if source.kind == "scratch":
            return None
        if source.kind == "built":
            return built[source.url]
        if source.kind == "docker":
            url = source.url if source.url.startswith("docker://") else f"docker://{source.url}"
            manifest = skopeo_manifest(url, _tls(source, "--tls-verify"))
            return self.converted(layer, url, f"sha256:{sha256(manifest).hexdigest()}")
        if source.kind == "oci":
            return self.of_layout(layer, ImageName.parse(source.url))
        return self.of_archive(layer, built)

    def of_layout(self, layer: Layer, name: ImageName) -> Image:
        """Return the image of another layout, or of this one, copied or converted where it must be."""
        # Who makes images for this machine need not say so.
        platform = None if layer.platform == Platform.host() else layer.platform
        descriptor = Store.open(name.directory).resolve(name.reference, platform)
        pinned = f"{name.directory}@{descriptor.digest}"
        try:
            image = Image.open(pinned)
        except CorruptImageError:
            # One of layers, which `convert` reads, or damaged, which it says.
            return self.converted(layer, f"oci:{name}", descriptor.digest)
        if os.path.realpath(name.directory) == os.path.realpath(self.store.directory):
            return image
        return self.copied(image)

    def copied(self, image: Image) -> Image:
        """Copy an image's blobs into the store."""
        manifest = image.manifest
        with self.store.unfinished() as unfinished:
            for descriptor in (manifest.config, *manifest.layers, image.descriptor):
                content = image.store.get(descriptor, descriptor.size)
                self.store.put(content, unfinished)
        tag = _TAG + image.descriptor.digest.removeprefix("sha256:")[:16]
        self.store.tag(tag, image.descriptor, sync=self.options.durability.syncs)
        return Image.open(ImageName(self.store.directory, tag))

    def of_archive(self, layer: Layer, built: Mapping[str, Image]) -> Image:
        """Return the image of a tar archive, wherever that is."""
        with tempfile.TemporaryDirectory(prefix="puzzlefs-") as directory:
            fetch(Import(layer.source.url), Path(directory), built)
            (archive,) = (os.path.join(directory, name) for name in os.listdir(directory))
            with open(archive, "rb") as file:
                digest = file_digest(file, "sha256").hexdigest()
            return self.converted(layer, archive, f"sha256:{digest}")

    def converted(self, layer: Layer, source: str, digest: str) -> Image:
        """Return the image that `source`, whose content has a digest, becomes."""
        options = self.options
        how = {
            "digest": digest,
            "platform": layer.platform.document(),
            "form": form_of(options),
        }
        name = ImageName(self.store.directory, _TAG + sha256(canonical(how)).hexdigest()[:16])
        with suppress(NotFoundError):
            return Image.open(name)
        self.report(f"{layer.name}: converting {layer.source.url}")
        chosen = ConvertOptions(
            source=SourceOptions(platform=layer.platform.document(), skopeo=_tls(layer.source, "--src-tls-verify")),
            compression=options.compression,
            pack_size=options.pack_size,
            frame_size=options.frame_size,
            mtime=options.mtime,
            all_root=options.all_root,
            jobs=options.jobs,
            durability=options.durability,
        )
        convert(source, name, chosen)
        return Image.open(name)


def form_of(options: BuildOptions) -> dict[str, Any]:
    """Return all that decides what becomes of a tree."""
    fields = ("compression", "pack_size", "frame_size", "mtime", "all_root")
    return {"epoch": source_date_epoch(), **{name: getattr(options, name) for name in fields}}


def _tls(source: Source, option: str) -> list[str]:
    return [f"{option}=false"] if source.insecure else []
