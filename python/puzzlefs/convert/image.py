"""Images of other formats -> PuzzleFS images, straight from their layers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from puzzlefs import constants, records
from puzzlefs._native import StreamWriter, native
from puzzlefs.builder import mtime_rule, source_date_epoch
from puzzlefs.convert.config import converted_config
from puzzlefs.convert.contents import Contents, ContentWriter
from puzzlefs.convert.manifests import SourceImage
from puzzlefs.convert.transports import SourceOptions, open_source
from puzzlefs.convert.tree import Node, Tree
from puzzlefs.convert.unite import United, unite
from puzzlefs.digests import DigestTable
from puzzlefs.durability import Durability
from puzzlefs.errors import NotFoundError, UsageError
from puzzlefs.names import ImageName, check_tag
from puzzlefs.oci import EMPTY_CONFIG, EMPTY_DESCRIPTOR, Descriptor, Manifest, canonical
from puzzlefs.records import Kind, Times
from puzzlefs.rows import BlobRecord
from puzzlefs.runtime_config import RuntimeConfig
from puzzlefs.scan import MtimeRule
from puzzlefs.store import Store
from puzzlefs.stream import FRAME_COMPRESSION, NO_COMPRESSION, Form, Progress, stream_writer
from puzzlefs.tables import Chunk, Inode, write_vector

_NANO = 1_000_000_000
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """Everything about a conversion but what and where.

    source       how the source is read
    compression, pack_size, frame_size, mtime, all_root, jobs, annotations, durability
                 as of a build (`BuildOptions`)
    runtime      what the image's own runtime config is overridden by
    """

    source: SourceOptions = field(default_factory=SourceOptions)
    compression: bool = False
    pack_size: int = constants.PACK_SIZE
    frame_size: int = 0
    mtime: str | int = "auto"
    all_root: bool = False
    jobs: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    durability: Durability = Durability.COMMIT


@dataclass(frozen=True, slots=True)
class ConvertedImage:
    """An image that was made.

    digest        fs-verity digest of its manifest in hex, by which it can be pinned
    manifest      `sha256:HEX` of the manifest
    platform      what it is for
    layers        how many layers it was made from
    bytes         sum of file sizes, each inode once
    chunks        chunks in the stream; unique_chunks of them are distinct
    stored_bytes  size of all blobs of the image
    new_bytes     what of it was added to the store
    notices       what the user should know, one sentence each
    """

    digest: str
    manifest: str
    platform: dict[str, Any]
    layers: int
    inodes: int
    files: int
    bytes: int
    chunks: int
    unique_chunks: int
    stored_bytes: int
    new_bytes: int
    notices: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the result as `--json` prints it."""
        return asdict(self)


def convert(
    source: str,
    name: str | ImageName,
    options: ConvertOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[ConvertedImage]:
    """Convert the image `source` (`open_source`) into one called `[oci:]DIR:TAG`, making the store if needed.

    With `source.every` there is one for each platform, and the tag names an index of them. A failed
    conversion leaves the store valid and the tag as it was. `progress` is called a few times a second;
    its bytes are those of the layers as they are stored. Raises `UsageError`, `NotFoundError`,
    `IntegrityError`, `UnsupportedError`, `TransportError`, `StoreError`.
    """
    parsed = ImageName.parse(name) if isinstance(name, str) else name
    if parsed.is_digest:
        raise UsageError(f"{parsed}: a conversion needs a tag, not a digest")
    check_tag(parsed.reference)
    options = options or ConvertOptions()
    epoch = source_date_epoch()
    with ExitStack() as stack:
        images = stack.enter_context(open_source(source, options.source))
        if not images:
            raise NotFoundError(f"{source}: no image")
        store = Store.create(parsed.layout)
        unfinished = stack.enter_context(store.unfinished())
        made = [_Conversion(image, store, unfinished, options, epoch).run(progress) for image in images]
        descriptors = [descriptor for _, descriptor in made]
        if options.source.every:
            descriptors = [_put_index(descriptors, store, unfinished, options)]
        store.tag(parsed.reference, descriptors[0], sync=options.durability.syncs)
    return [image for image, _ in made]


def _put_index(manifests: Sequence[Descriptor], store: Store, unfinished: str, options: ConvertOptions) -> Descriptor:
    document = {
        "schemaVersion": 2,
        "mediaType": constants.INDEX,
        "manifests": [manifest.document() for manifest in manifests],
    }
    content = canonical(document)
    store.put(content, unfinished, options.durability is Durability.BLOB)
    return Descriptor.of(constants.INDEX, content)


class _Watch:
    """Tells how far a conversion is, a few times a second."""

    def __init__(self, writer: StreamWriter, total: int, report: Callable[[Progress], None] | None) -> None:
        self._writer, self._total, self._report = writer, total, report
        self._next = 0.0

    def progress(self, stored: int) -> Progress:
        """Return the progress where so many bytes of the layers were read."""
        files, content, chunks, duplicate, written, unique = self._writer.progress()
        # Bytes of the layers, as the total is: theirs may be fewer than those of the files.
        return Progress(files, stored, chunks, duplicate * stored // (content or 1), written, unique, self._total)

    def tell(self, stored: int) -> None:
        if self._report and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PAUSE_SECONDS
            self._report(self.progress(stored))


class _Conversion:
    """The conversion of one platform's image."""

    def __init__(
        self, image: SourceImage, store: Store, unfinished: str, options: ConvertOptions, epoch: int | None
    ) -> None:
        self.image, self.store, self.unfinished, self.options, self.epoch = image, store, unfinished, options, epoch
        self.mtime = mtime_rule(options.mtime, epoch)
        self.sync = options.durability is Durability.BLOB

    def run(self, progress: Callable[[Progress], None] | None) -> tuple[ConvertedImage, Descriptor]:
        writer = self.stream_writer()
        watch = _Watch(writer, sum(layer.size for layer in self.image.layers), progress)
        with ContentWriter(writer) as content_writer:
            united = unite(self.image.layers, content_writer, watch.tell)
            contents = content_writer.finish()
        nodes = united.tree.number()
        rootfs, blobs = self.encode(nodes, united, contents)
        layers = [_rootfs_descriptor(rootfs), *map(_data_descriptor, blobs)]
        config, manifest = self.documents(layers)
        put = [content for content in (config, rootfs, manifest) if self.store.put(content, self.unfinished, self.sync)]
        result = ConvertedImage(
            digest=native.verity_digest(manifest).hex(),
            manifest=Descriptor.of(constants.MANIFEST, manifest).digest,
            platform=dict(self.image.platform),
            layers=len(self.image.layers),
            inodes=len(nodes),
            files=sum(1 for node in nodes if node.entry.kind == Kind.FILE),
            bytes=sum(node.entry.size for node in nodes),
            chunks=contents.chunks,
            unique_chunks=watch.progress(0).unique_chunks,
            stored_bytes=sum(layer.size for layer in layers) + len(manifest) + len(config),
            new_bytes=watch.progress(0).written_bytes + sum(map(len, put)),
            notices=tuple(_notices(united.tree, manifest)),
        )
        return result, Descriptor.of(constants.MANIFEST, manifest, platform=self.image.platform)

    def stream_writer(self) -> StreamWriter:
        compression = FRAME_COMPRESSION if self.options.compression else NO_COMPRESSION
        return stream_writer(
            b"",
            os.fsencode(self.store.blob_directory),
            os.fsencode(self.unfinished),
            form=Form(compression, self.options.pack_size, self.options.frame_size),
            jobs=self.options.jobs,
            sync=self.sync,
        )

    def encode(self, nodes: Sequence[Node], united: United, contents: Contents) -> tuple[bytes, list[BlobRecord]]:
        """Return the rootfs blob and the blobs that it names: contents that no file shows may be in others."""
        digests = DigestTable()
        vector = write_vector((self.describe(node, _chunks(node, united, contents)) for node in nodes), digests)
        used = set(digests.digests())
        blobs = {blob.digest: blob for blob in reversed(contents.blobs) if blob.digest in used}
        verity = b"".join(records.VERITY.pack(digest, blobs[digest].verity) for digest in sorted(blobs))
        return native.encode_rootfs(digests.packed(), verity, [vector]), list(reversed(blobs.values()))

    def describe(self, node: Node, chunks: tuple[Chunk, ...]) -> Inode:
        entry = node.entry
        assert entry.kind is not None
        return Inode(
            node.ino,
            entry.kind,
            entry.permissions,
            0 if self.options.all_root else entry.uid,
            0 if self.options.all_root else entry.gid,
            _time(entry.mtime, self.mtime),
            entry.device,
            tuple((name, child.ino) for name, child in sorted(node.children.items())),
            chunks,
            entry.xattrs,
            entry.target,
        )

    def documents(self, layers: Sequence[Descriptor]) -> tuple[bytes, bytes]:
        """Return the config and the manifest."""
        diff_ids = [layer.digest for layer in layers]
        image, runtime = self.image, self.options.runtime
        document = converted_config(image.config, runtime, image.platform, diff_ids, self.epoch)
        config = canonical(document) if document else EMPTY_CONFIG
        described = Descriptor.of(constants.IMAGE_CONFIG, config) if document else EMPTY_DESCRIPTOR
        annotations = {**self.image.annotations, **self.options.annotations}
        manifest = Manifest(described, tuple(layers), annotations)
        return config, canonical(manifest.document(artifact=True))


def _notices(tree: Tree, manifest: bytes) -> Iterator[str]:
    if len(manifest) > constants.MANIFEST_SIZE_WARNING:
        yield f"the manifest has {len(manifest)} bytes: registries refuse more than 4 MiB"
    for name, transport in {b"oci-layout": "oci-archive", b"manifest.json": "docker-archive"}.items():
        if name in tree.root.children:
            yield f"the tree has a file {name.decode()}: if the source is an archive of an image, say {transport}:FILE"


def _time(nanoseconds: int, rule: MtimeRule) -> tuple[int, int]:
    """Return what a rule makes of a time: (seconds, nanoseconds)."""
    if rule.kind == Times.EXACTLY:
        return rule.seconds, 0
    return divmod(min(nanoseconds, rule.seconds * _NANO) if rule.kind == Times.AT_MOST else nanoseconds, _NANO)


def _chunks(node: Node, united: United, contents: Contents) -> tuple[Chunk, ...]:
    entry = node.entry
    return contents.of(united.places[node.layer][entry.number]) if entry.size else ()


def _rootfs_descriptor(rootfs: bytes) -> Descriptor:
    verity = {constants.ROOTFS_VERITY: native.verity_digest(rootfs).hex()}
    return Descriptor.of(constants.ROOTFS, rootfs, annotations=verity)


def _data_descriptor(blob: BlobRecord) -> Descriptor:
    media_type = constants.FILEDATA_ZSTD if blob.flags & records.COMPRESSED else constants.FILEDATA
    return Descriptor(media_type, f"sha256:{blob.digest.hex()}", blob.size)
