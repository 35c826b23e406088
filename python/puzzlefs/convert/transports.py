"""What a source is called, and how its blobs get here: in place, or through skopeo."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from typing import NamedTuple

from puzzlefs import constants
from puzzlefs.convert.blobs import BlobSource, open_input, plain_layer
from puzzlefs.convert.manifests import INDEXES, MANIFESTS, SourceImage, find_images
from puzzlefs.convert.skopeo import SKOPEO_TRANSPORTS, skopeo_copy
from puzzlefs.errors import CorruptImageError, NotFoundError, StoreError, UsageError
from puzzlefs.names import ImageName
from puzzlefs.oci import Descriptor, Platform, parse_object
from puzzlefs.store import Store


class SourceOptions(NamedTuple):
    """How a source is read.

    platform    os, architecture and perhaps variant of the image; None means this machine's
    every       the images for all platforms
    size_limit  most bytes that a layer may unpack to (`LayerStream`)
    skopeo      further arguments of `skopeo copy`
    """

    platform: Mapping[str, str] | None = None
    every: bool = False
    size_limit: int | None = None
    skopeo: Sequence[str] = ()


@contextmanager
def open_source(source: str, options: SourceOptions) -> Iterator[list[SourceImage]]:
    """Give the images that a source is: `-` or a file is a tar archive, `[oci:]DIR[:TAG]` an image layout,
    `dir:DIR` a directory of skopeo's; other transports go through skopeo."""
    transport, colon, rest = source.partition(":")
    if source == "-":
        with open(0, "rb", closefd=False) as file:
            yield [_archive(file, "standard input", options)]
    elif colon and transport in SKOPEO_TRANSPORTS:
        with _fetched(source, options) as directory:
            yield _directory_images(directory, options)
    elif colon and transport == "dir":
        yield _directory_images(rest, options)
    elif os.path.exists(source) and not os.path.isdir(source):
        with _opened(source) as file:
            yield [_archive(file, os.path.basename(source), options)]
    else:
        yield _layout_images(source, options)


def _opened(path: str) -> BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise StoreError(os.fsencode(path), error.errno or errno.EIO) from error


def _archive(file: BufferedReader, what: str, options: SourceOptions) -> SourceImage:
    platform = options.platform or Platform.host().document()
    return SourceImage(platform, None, [plain_layer(file, what, options.size_limit)], {})


def _layout_images(source: str, options: SourceOptions) -> list[SourceImage]:
    bare = source.removeprefix("oci:")
    if os.path.isdir(bare):
        directory, reference = bare, None
    elif ":" not in bare and "@" not in bare:
        raise NotFoundError(f"{source}: no such file or image layout, and no transport is named (oci:, docker://, ...)")
    else:
        name = ImageName.parse(source)
        directory, reference = name.directory, name.reference
    store = Store.open(directory)
    entries = [Descriptor.parse(entry) for entry in store.index()["manifests"]]
    if reference is None:
        roots = entries
        if len({entry.annotations.get(constants.REF_NAME) for entry in entries}) > 1:
            raise UsageError(f"{source}: which of its images? {directory}:TAG is expected")
    elif reference.startswith("sha256:"):
        roots = [entry for entry in entries if entry.digest == reference]
    else:
        roots = [entry for entry in entries if entry.annotations.get(constants.REF_NAME) == reference]
    if not roots:
        raise NotFoundError(f"{source}: no such image in the layout")
    return _found(BlobSource(store.blob_directory, "", options.size_limit), roots, options)


def _directory_images(directory: str, options: SourceOptions) -> list[SourceImage]:
    try:
        with open_input(os.path.join(directory, "manifest.json")) as file:
            content = file.read(constants.JSON_SIZE_LIMIT)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{directory}: no manifest.json of an image") from error
    except OSError as error:
        raise StoreError(os.fsencode(directory), error.errno or errno.EIO) from error
    document = parse_object(content, "manifest")
    kind = document.get("mediaType") or (INDEXES if "manifests" in document else MANIFESTS)[0]
    if not isinstance(kind, str):
        raise CorruptImageError("manifest: its media type is not a string")
    root = Descriptor.of(kind, content)
    return _found(_Directory(directory, content, options.size_limit), [root], options)


def _found(blobs: BlobSource, roots: Sequence[Descriptor], options: SourceOptions) -> list[SourceImage]:
    return find_images(blobs, roots, options.platform, every=options.every)


class _Directory(BlobSource):
    """skopeo's `dir:`, where the first manifest has a name of its own."""

    def __init__(self, directory: str, content: bytes, size_limit: int | None) -> None:
        super().__init__(directory, ".manifest.json", size_limit)
        self._content = content

    def manifest(self, descriptor: Descriptor) -> bytes:
        if descriptor == Descriptor.of(descriptor.media_type, self._content):
            return self._content
        return super().manifest(descriptor)


@contextmanager
def _fetched(source: str, options: SourceOptions) -> Iterator[str]:
    """Have skopeo copy an image, its documents and blobs as they are, into a temporary directory."""
    overrides = [f"--override-{_OVERRIDES[key]}={value}" for key, value in (options.platform or {}).items()]
    everything = ["--all"] if options.every else []
    with tempfile.TemporaryDirectory(prefix="puzzlefs-") as directory:
        skopeo_copy(source, f"dir:{directory}", overrides, [*everything, *options.skopeo])
        yield directory


_OVERRIDES = {"os": "os", "architecture": "arch", "variant": "variant"}
