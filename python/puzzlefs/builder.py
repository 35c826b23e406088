"""Building an image: scan -> number -> store the stream -> write metadata -> manifest -> tag."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from puzzlefs import constants, records
from puzzlefs._native import StreamWriter, native
from puzzlefs.delta import changed_inodes, number, whole_tree
from puzzlefs.errors import PuzzleFSError, UsageError
from puzzlefs.image import Image
from puzzlefs.names import ImageName, check_tag
from puzzlefs.oci import EMPTY_CONFIG, EMPTY_DESCRIPTOR, Descriptor, Manifest, Platform, canonical
from puzzlefs.records import BlobRecord, Kind, Vector
from puzzlefs.runtime_config import RuntimeConfig, config_document
from puzzlefs.scan import Node, Scan, ScanOptions, scan
from puzzlefs.store import Durability, Store
from puzzlefs.tables import DigestTable, Inode, write_vector

_NANO = 1_000_000_000
_POLL_SECONDS = 0.05


class Profile(StrEnum):
    """OCI is the default; UPSTREAM is byte for byte what the original writes."""

    OCI = "oci"
    UPSTREAM = "upstream"


class Progress(NamedTuple):
    """How far a build is: files and bytes read, chunks cut, bytes in repeated chunks, bytes written."""

    files: int
    bytes: int
    chunks: int
    duplicate_bytes: int
    written_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Everything about a build but what and where.

    base         tag in the same store to build a delta upon
    compression  whether chunks are compressed
    mtime        "auto" (clamp where SOURCE_DATE_EPOCH is set, else keep), "keep", "clamp", "none", or seconds
    scan         what of the tree is taken
    all_root     whether everything belongs to user and group 0
    jobs         worker threads; 0 means one for each CPU
    platform     None means this machine's
    """

    profile: Profile = Profile.OCI
    base: str | None = None
    compression: bool = False
    mtime: str | int = "auto"
    scan: ScanOptions = field(default_factory=ScanOptions)
    all_root: bool = False
    jobs: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    platform: Platform | None = None
    durability: Durability = Durability.COMMIT


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was built.

    digest           fs-verity digest of the manifest in hex, by which the image can be pinned
    manifest         `sha256:HEX` of the manifest
    bytes            sum of file sizes, each inode once
    chunks           chunks in the stream; unique_chunks of them are distinct
    stored_bytes     size of all blobs of the image
    new_bytes        what of it this build added to the store
    duplicate_bytes  bytes in chunks that occurred earlier in the stream
    notices          what the user should know, one sentence each
    """

    digest: str
    manifest: str
    inodes: int
    files: int
    bytes: int
    chunks: int
    unique_chunks: int
    stored_bytes: int
    new_bytes: int
    duplicate_bytes: int
    notices: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the result as `--json` prints it."""
        return asdict(self)


def build(
    rootfs: str | Path,
    name: str | ImageName,
    options: BuildOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BuildResult:
    """Build the tree below `rootfs` into an image called `[oci:]DIR:TAG`, making the store if needed.

    progress is called a few times a second. An interrupted or failed build leaves the store valid
    and the tag as it was. Raises `UsageError`, `SourceError`, `SourceChangedError`, `StoreError`.
    """
    parsed = ImageName.parse(name) if isinstance(name, str) else name
    if parsed.is_digest:
        raise UsageError(f"{parsed}: a build needs a tag, not a digest")
    check_tag(parsed.reference)
    return _Build(Path(rootfs), parsed, options or BuildOptions(), progress).run()


class _Stream(NamedTuple):
    """What the stream writer stored, as objects."""

    blobs: list[BlobRecord]
    chunks: dict[int, tuple[tuple[bytes, int, int, int], ...]]
    order: array[int]


class _Build:
    def __init__(
        self, rootfs: Path, name: ImageName, options: BuildOptions, progress: Callable[[Progress], None] | None
    ) -> None:
        self.rootfs, self.name, self.options, self.progress = rootfs, name, options, progress
        self.platform = options.platform or Platform.host()
        self.upstream = options.profile is Profile.UPSTREAM
        self.epoch = source_date_epoch()
        self.mtime = _mtime_rule(options.mtime, self.epoch, self.upstream)

    def run(self) -> BuildResult:
        _refuse_nested_store(self.rootfs, self.name.layout)
        if not self.rootfs.is_dir():
            raise UsageError(f"{self.rootfs}: not a directory")
        store = Store.create(self.name.layout)
        base = Image.open(ImageName(self.name.layout, self.options.base)) if self.options.base else None
        tree = scan(os.fsencode(self.rootfs), self.options.scan)
        numbering = number(tree, base.index if base else None)
        files = [node for node in tree.nodes() if node.kind == Kind.FILE]
        with store.unfinished() as unfinished:
            stream, written = self.store_stream(store, unfinished, files)
            inodes = [self.inode(node, stream) for node in tree.nodes()]
            rootfs = self.encode(inodes, stream, base, numbering)
            return self.commit(store, unfinished, rootfs, stream, base, tree, files, written)

    # The stream

    def store_stream(self, store: Store, unfinished: Path, files: Sequence[Node]) -> tuple[_Stream, Progress]:
        compression = (1 if self.upstream else 2) if self.options.compression else 0
        jobs = self.options.jobs or len(os.sched_getaffinity(0))
        sync = self.options.durability is Durability.BLOB
        writer = native.StreamWriter(
            os.path.realpath(os.fsencode(self.rootfs)),
            os.fsencode(store.blobs),
            os.fsencode(unfinished),
            compression,
            constants.FRAME_SIZE,
            jobs,
            sync,
        )
        sources = b"".join(_source_row(node) for node in files)
        total = sum(node.status.st_size for node in files)
        blobs, chunks, counts, order = self.watch(writer, [node.path for node in files], sources, total)
        return _unpack_stream(files, blobs, chunks, counts, order), Progress(*writer.progress(), total)

    def watch(
        self, writer: StreamWriter, paths: Sequence[bytes], sources: bytes, total: int
    ) -> tuple[bytes, bytes, bytes, bytes]:
        """Run the writer in a thread of its own, so that an interrupt is heard at once."""
        outcome: list[tuple[bytes, bytes, bytes, bytes] | BaseException] = []

        def work() -> None:
            try:
                outcome.append(writer.run(paths, sources))
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=work, name="puzzlefs-build")
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
                if self.progress:
                    self.progress(Progress(*writer.progress(), total))
        except BaseException:
            writer.cancel()
            thread.join()
            raise
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    # Metadata

    def inode(self, node: Node, stream: _Stream) -> Inode:
        status = node.status
        device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if node.kind in (Kind.CHR, Kind.BLK) else (0, 0)
        return Inode(
            node.ino,
            node.kind,
            status.st_mode & 0o7777,
            0 if self.options.all_root else status.st_uid,
            0 if self.options.all_root else status.st_gid,
            self.mtime(status.st_mtime_ns),
            device,
            tuple((name, child.ino) for name, child in node.entries),
            stream.chunks.get(node.ino, ()),
            tuple(node.xattrs),
            node.target,
        )

    def encode(self, inodes: list[Inode], stream: _Stream, base: Image | None, numbering: Any) -> bytes:
        verity = {blob.digest: blob.verity for blob in stream.blobs}
        digests, below = DigestTable(), list[Vector]()
        if base:
            _, packed, known, vectors = native.decode_rootfs(base.rootfs)
            digests, below = DigestTable(packed), [Vector(*vector) for vector in vectors]
            verity = dict(records.VERITY.iter_unpack(known)) | verity
        if base and self.upstream:
            inodes = whole_tree(inodes, numbering.hidden)
        elif base:
            inodes = changed_inodes(inodes, base.index, numbering.unused)
        inodes.sort(key=lambda inode: inode.ino)
        vector = write_vector(inodes, digests)
        rows = b"".join(records.VERITY.pack(*pair) for pair in sorted(verity.items()))
        if not below:
            return native.encode_rootfs(digests.packed(), rows, [vector])
        rootfs = native.encode_rootfs(digests.packed(), rows, [vector, *below])
        return rootfs if inodes and not self.repeats(rootfs) else native.encode_rootfs(digests.packed(), rows, below)

    @staticmethod
    def repeats(rootfs: bytes) -> bool:
        """Whether the first vector says the same as one below it."""
        vectors = native.decode_rootfs(rootfs)[3]
        return vectors[0] in vectors[1:]

    # Documents

    def commit(
        self,
        store: Store,
        unfinished: Path,
        rootfs: bytes,
        stream: _Stream,
        base: Image | None,
        tree: Scan,
        files: Sequence[Node],
        written: Progress,
    ) -> BuildResult:
        descriptor = Descriptor.of(
            constants.ROOTFS, rootfs, annotations={constants.ROOTFS_VERITY: native.verity_digest(rootfs).hex()}
        )
        layers = [descriptor, *self.filedata(stream, base, rootfs)]
        config = self.config(base, layers)
        document = Manifest(
            Descriptor.of(constants.IMAGE_CONFIG, config) if config else EMPTY_DESCRIPTOR,
            tuple(layers),
            self.options.annotations,
        ).document(artifact=not self.upstream)
        manifest = canonical(document)
        new_bytes = written.written_bytes
        sync = self.options.durability is Durability.BLOB
        for content in (config or EMPTY_CONFIG, rootfs, manifest):
            new_bytes += len(content) * store.put(content, unfinished, sync)
        tagged = Descriptor.of(constants.MANIFEST, manifest, platform=self.platform.document())
        store.tag(self.name.reference, tagged, self.options.durability)
        notices = list(tree.notices)
        if len(manifest) > constants.MANIFEST_SIZE_WARNING:
            notices.append(f"the manifest has {len(manifest)} bytes: registries refuse more than 4 MiB")
        blobs = {layer.digest: layer.size for layer in layers} | {tagged.digest: tagged.size}
        blobs[document["config"]["digest"]] = document["config"]["size"]
        return BuildResult(
            digest=native.verity_digest(manifest).hex(),
            manifest=tagged.digest,
            inodes=sum(1 for _ in tree.nodes()),
            files=len(files),
            bytes=written.total_bytes,
            chunks=len(stream.order),
            unique_chunks=len(stream.blobs),
            stored_bytes=sum(blobs.values()),
            new_bytes=new_bytes,
            duplicate_bytes=written.duplicate_bytes,
            notices=tuple(notices),
        )

    def filedata(self, stream: _Stream, base: Image | None, rootfs: bytes) -> Iterator[Descriptor]:
        """Yield the descriptors of the chunks: all of the stream's for the original's profile, else each
        blob that the image names, once."""
        if self.upstream:
            media_type = constants.FILEDATA_ZSTD if self.options.compression else constants.FILEDATA
            for row in stream.order:
                blob = stream.blobs[row]
                yield Descriptor(media_type, f"sha256:{blob.digest.hex()}", blob.size)
            return
        listed = set()
        for blob in stream.blobs:
            if blob.digest not in listed:
                listed.add(blob.digest)
                yield _filedata(blob.digest, blob.size, blob.flags)
        if base:
            yield from _base_filedata(base, rootfs, listed)

    def config(self, base: Image | None, layers: Sequence[Descriptor]) -> bytes | None:
        inherited = base.config if base else None
        document = config_document(
            self.options.runtime, inherited, self.platform, [layer.digest for layer in layers], self.epoch
        )
        return canonical(document) if document else None


def _filedata(digest: bytes, size: int, flags: int) -> Descriptor:
    media_type = constants.FILEDATA_ZSTD if flags & records.COMPRESSED else constants.FILEDATA
    return Descriptor(media_type, f"sha256:{digest.hex()}", size)


def _base_filedata(base: Image, rootfs: bytes, listed: set[bytes]) -> Iterator[Descriptor]:
    """Yield the blobs that only the layers below name, hidden inodes included."""
    _, digests, _, vectors = native.decode_rootfs(rootfs)
    sizes = {layer.digest: layer.size for layer in base.manifest.layers}
    for vector in vectors:
        for row, flags, _, _ in records.CHUNK.iter_unpack(vector[2]):
            digest = digests[32 * row : 32 * row + 32]
            if digest in listed:
                continue
            listed.add(digest)
            size = sizes.get(f"sha256:{digest.hex()}")
            if size is None:
                size = (base.blobs / digest.hex()).stat().st_size
            yield _filedata(digest, size, flags)


def _source_row(node: Node) -> bytes:
    status = node.status
    return records.SOURCE.pack(
        status.st_size, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
    )


def _unpack_stream(files: Sequence[Node], blobs: bytes, chunks: bytes, counts: bytes, order: bytes) -> _Stream:
    table = [BlobRecord(*row) for row in records.BLOB.iter_unpack(blobs)]
    rows = [(table[row].digest, flags, offset, length) for row, flags, offset, length in records.CHUNK.iter_unpack(chunks)]
    by_file, start = {}, 0
    for node, count in zip(files, array("I", counts), strict=True):
        by_file[node.ino] = tuple(rows[start : start + count])
        start += count
    return _Stream(table, by_file, array("I", order))


def source_date_epoch() -> int | None:
    """Return SOURCE_DATE_EPOCH, None where it is unset or empty. Raises `UsageError` if it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise UsageError(f"SOURCE_DATE_EPOCH is {text!r}: not a number of seconds")
    return int(text)


def _mtime_rule(mode: str | int, epoch: int | None, upstream: bool) -> Callable[[int], tuple[int, int]]:
    """Return the function from a file's time in nanoseconds to the image's (seconds, nanoseconds)."""
    if upstream or mode == "none":
        return lambda _: (0, 0)
    if isinstance(mode, int):
        return lambda _: (mode, 0)
    if mode == "clamp" and epoch is None:
        raise UsageError("clamping times needs SOURCE_DATE_EPOCH")
    if mode not in ("auto", "keep", "clamp"):
        raise UsageError(f"{mode!r} is not a time rule: keep, clamp, none or seconds")
    if epoch is None or mode == "keep":
        return lambda nanoseconds: divmod(nanoseconds, _NANO)
    limit = epoch * _NANO
    return lambda nanoseconds: divmod(min(nanoseconds, limit), _NANO)


def _refuse_nested_store(rootfs: Path, layout: Path) -> None:
    root, store = os.path.realpath(rootfs), os.path.realpath(layout)
    if os.path.commonpath([root, store]) == root:
        raise UsageError(f"{layout}: the store is inside the root filesystem {rootfs}")
