"""Building an image: scan -> number -> store the stream -> write metadata -> manifest -> tag."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from puzzlefs import allocator, build_cache, constants, rootfs
from puzzlefs._native import native
from puzzlefs.background import Background
from puzzlefs.build_cache import BuildCache
from puzzlefs.durability import Durability
from puzzlefs.errors import UsageError
from puzzlefs.names import ImageName, check_tag, is_digest
from puzzlefs.oci import EMPTY_CONFIG, EMPTY_DESCRIPTOR, Descriptor, Manifest, Platform, canonical
from puzzlefs.order import Arrangement, Order, arrange
from puzzlefs.packages import Owners
from puzzlefs.recall import Memory, Request
from puzzlefs.records import Times
from puzzlefs.rootfs import Base
from puzzlefs.runtime_config import RuntimeConfig, config_document
from puzzlefs.scan import MtimeRule, ScanOptions, scan
from puzzlefs.store import Store
from puzzlefs.stream import (
    FRAME_COMPRESSION,
    NO_COMPRESSION,
    UPSTREAM_COMPRESSION,
    Form,
    Progress,
    Stream,
    store_stream,
    stream_writer,
)


class Profile(StrEnum):
    """OCI is the default; UPSTREAM is byte for byte what the original writes."""

    OCI = "oci"
    UPSTREAM = "upstream"


class BuildOptions(NamedTuple):
    """Everything about a build but what and where.

    base         tag, or digest of a manifest, in the same store to build a delta upon
    reuse        names of images, in any stores, whose chunks are referred to instead of stored again; with
                 packs the base is one of them
    compression  whether blobs are compressed
    pack_size    bytes before compression that a pack of chunks has on average, 256 KiB to 8 MiB; 0 makes
                 each chunk a blob, as the original's profile always does
    frame_size   bytes before compression in a frame of a compressed blob; 0 means 640 KiB in packs, else 64
    order        of the files in the stream; None means `package` where there are packs, else `path`
    first        paths of files, relative to the root, that come first: those read when a program starts
    mtime        "auto" (clamp where SOURCE_DATE_EPOCH is set, else keep), "keep", "clamp", "none", or seconds
    scan         what of the tree is taken; None means all but the host's own attributes, or for the
                 original's profile all
    all_root     whether everything belongs to user and group 0
    jobs         worker threads; 0 means one for each CPU
    platform     None means this machine's
    cache        directory of what builds keep for later ones (`build_cache`); None means to keep nothing
    tagged       whether the image's name is to mean it; without, it is in the store and has only its digest
    """

    profile: Profile = Profile.OCI
    base: str | None = None
    reuse: Sequence[str] = ()
    compression: bool = False
    pack_size: int = constants.PACK_SIZE
    frame_size: int = 0
    order: Order | None = None
    first: Sequence[bytes] = ()
    mtime: str | int = "auto"
    scan: ScanOptions | None = None
    all_root: bool = False
    jobs: int = 0
    annotations: Mapping[str, str] = MappingProxyType({})
    runtime: RuntimeConfig = RuntimeConfig()
    platform: Platform | None = None
    durability: Durability = Durability.COMMIT
    cache: str | os.PathLike[str] | None = None
    tagged: bool = True


class BuildResult(NamedTuple):
    """What was built.

    digest           fs-verity digest of the manifest in hex, by which the image can be pinned
    manifest         `sha256:HEX` of the manifest
    bytes            sum of file sizes, each inode once
    chunks           chunks in the stream; unique_chunks of them are distinct
    blobs            blobs of file data that the manifest names
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
    blobs: int
    stored_bytes: int
    new_bytes: int
    duplicate_bytes: int
    notices: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the result as `--json` prints it."""
        return self._asdict()


def build(
    rootfs: str | os.PathLike[str],
    name: str | ImageName,
    options: BuildOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BuildResult:
    """Build the tree below `rootfs` into an image called `[oci:]DIR:TAG`, making the store if needed.

    progress is called a few times a second. An interrupted or failed build leaves the store valid
    and the tag as it was. Raises `UsageError`, `SourceError`, `SourceChangedError`, `StoreError`.
    """
    parsed = ImageName.parse(name) if isinstance(name, str) else name
    parsed.check_tagged()
    chosen = options or BuildOptions()
    memory = None
    if chosen.cache:
        said = chosen._replace(jobs=0, durability=Durability.COMMIT, cache=None, tagged=True)
        excludes = bool(chosen.scan and chosen.scan.exclude)
        memory = Memory(chosen.cache, parsed, rootfs, Request(repr(said), chosen.base, chosen.reuse, excludes=excludes))
        found = memory.recall(tagged=chosen.tagged, sync=chosen.durability.syncs)
        if found is not None:
            return BuildResult(**found)
    return Build(os.fspath(rootfs), parsed, chosen, progress, memory).run()


class Files(NamedTuple):
    """Files whose contents a build stores; see `scan.Scan`."""

    paths: bytes
    sources: bytes


class Build:
    """One build: `read` and `encode` see to the tree, everything else is the same for trees of any kind.

    rootfs  the directory that the files' paths start from
    memory  what the last build saw of the tree; what this one sees is kept there
    """

    def __init__(
        self,
        rootfs: str,
        name: ImageName,
        options: BuildOptions,
        progress: Callable[[Progress], None] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.memory, self.snapshot = memory, b""
        self.rootfs, self.name, self.options, self.progress = rootfs, name, options, progress
        self.platform = options.platform or Platform.host()
        self.upstream = options.profile is Profile.UPSTREAM
        self.epoch = source_date_epoch()
        self.mtime = mtime_rule("none" if self.upstream else options.mtime, self.epoch)
        self.sync = options.durability is Durability.BLOB
        compressed = UPSTREAM_COMPRESSION if self.upstream else FRAME_COMPRESSION
        self.form = Form(
            compressed if options.compression else NO_COMPRESSION,
            0 if self.upstream else options.pack_size,
            0 if self.upstream else options.frame_size,
        )
        self.cache = options.cache and BuildCache(options.cache, name.directory, rootfs, str(tuple(self.form)))
        self.notices: list[str] = []
        self.inodes = 0

    def run(self) -> BuildResult:
        """Build the image."""
        _check_places(self.rootfs, self.name.directory)
        horizon = self.memory.horizon if self.memory else build_cache.horizon()
        # Mostly Python's work, while the backend reads the tree.
        owners = Background(self.read_owners)
        files = self.read()
        allocator.give_back(self.inodes)
        store = Store.create(self.name.directory)
        base = self.open_base()
        with store.unfinished() as unfinished:
            others = self.open_others()
            arrangement = self.arrangement(files, owners.result())
            stream = self.store_stream(store, unfinished, files, arrangement, horizon, self.offered(base, others))
            new_bytes = self.bring(store, unfinished, stream, others)
            self.keep(stream.trace)
            # Both are long, and of no more use when most memory is needed.
            del files
            stream = stream._replace(trace=b"")
            allocator.give_back(self.inodes)
            blob = self.encode(stream, base)
            layers = self.layers(blob, stream, base)
            manifest, config = self.documents(layers, base)
            new_bytes += self.publish(store, unfinished, [config, blob, manifest])
        result = self.result(stream, layers, manifest, config, new_bytes)
        return self.remember(result, [image.image.descriptor.digest for image in [*filter(None, [base]), *others]])

    def read(self) -> Files:
        """Read the tree, but no contents; set `inodes` to their number."""
        scanned = scan(
            os.fsencode(self.rootfs),
            self.scan_options(),
            self.mtime,
            all_root=self.options.all_root,
            mounts=self.memory.mounts if self.memory else None,
            horizon=self.memory.horizon if self.memory else 0,
            look=self.memory.look if self.memory else None,
        )
        self.snapshot = scanned.snapshot
        self.tree, self.inodes = scanned.tree, scanned.tree.inode_count
        self.notices += scanned.notices
        return Files(scanned.paths, scanned.sources)

    def encode(self, stream: Stream, base: Base | None) -> bytes:
        """Return the rootfs blob of the tree that was read."""
        if base:
            return rootfs.encode_delta(self.tree, stream, base, whole=self.upstream)
        return rootfs.encode(self.tree, stream)

    def scan_options(self) -> ScanOptions:
        if self.options.scan is None and self.upstream:
            return ScanOptions(drop_xattrs=(), sort_xattrs=False)
        return self.options.scan or ScanOptions()

    def open_base(self) -> Base | None:
        if self.options.base is None:
            return None
        from puzzlefs.image import Image

        reference = self.options.base
        if not is_digest(reference):
            check_tag(reference)
        return Base.of(Image.open(ImageName(self.name.directory, reference)))

    def open_others(self) -> list[Base]:
        """Return the images whose chunks may be referred to."""
        if not self.options.reuse:
            return []
        if self.upstream:
            raise UsageError("the original's profile refers to no other image's chunks")
        from puzzlefs.image import Image

        return [Base.of(Image.open(ImageName.parse(name))) for name in self.options.reuse]

    def offered(self, base: Base | None, others: Sequence[Base]) -> tuple[bytes, bytes] | None:
        """Return the chunks that are referred to where they are: with packs those of the base too."""
        images = [*([base] if base and self.form.pack_size else []), *others]
        if not images:
            return None
        from puzzlefs.reuse import offered

        return offered(images, self.options.jobs, self.options.cache)

    def bring(self, store: Store, unfinished: str, stream: Stream, others: Sequence[Base]) -> int:
        """Copy blobs of other stores that the stream refers to; return how many bytes were new."""
        if not others:
            return 0
        from puzzlefs.reuse import bring

        return bring(store, unfinished, stream.blobs, others, sync=self.sync)

    def store_stream(
        self,
        store: Store,
        unfinished: str,
        files: Files,
        arrangement: Arrangement | None,
        horizon: int,
        offered: tuple[bytes, bytes] | None = None,
    ) -> Stream:
        writer = stream_writer(
            os.path.realpath(os.fsencode(self.rootfs)),
            os.fsencode(store.blob_directory),
            os.fsencode(unfinished),
            form=self.form,
            jobs=self.options.jobs,
            sync=self.sync,
        )
        trace = self.cache.load() if self.cache else b""
        return store_stream(writer, files.paths, files.sources, self.progress, trace, horizon, arrangement, offered)

    def read_owners(self) -> Owners | None:
        """Return which package the tree's files belong to, where the order of the stream depends on it."""
        order = self.options.order or (Order.PACKAGE if self.form.pack_size else Order.PATH)
        if self.upstream or order is Order.PATH:
            return None
        return Owners(os.path.realpath(os.fsencode(self.rootfs)))

    def arrangement(self, files: Files, owners: Owners | None) -> Arrangement | None:
        """Return the order of the stream; the original's is always that of the tree."""
        if self.upstream:
            return None
        return arrange(owners, self.options.first, files.paths, files.sources)

    def keep(self, trace: bytes) -> None:
        """Keep the stream's trace; a build is no worse for a cache that cannot be written."""
        if self.cache:
            try:
                self.cache.save(trace)
            except OSError as error:
                self.notices.append(f"nothing is kept for the next build: {error}")

    def layers(self, blob: bytes, stream: Stream, base: Base | None) -> list[Descriptor]:
        verity = {constants.ROOTFS_VERITY: native.verity_digest(blob).hex()}
        described = Descriptor.of(constants.ROOTFS, blob, annotations=verity)
        if self.upstream:
            return [described, *rootfs.every_chunk(stream, compressed=self.options.compression)]
        return [described, *rootfs.every_blob(stream, base)]

    def documents(self, layers: Sequence[Descriptor], base: Base | None) -> tuple[bytes, bytes]:
        """Return the manifest and the config."""
        diff_ids = [layer.digest for layer in layers]
        inherited = base.image.config if base else None
        document = config_document(self.options.runtime, inherited, self.platform, diff_ids, self.epoch)
        config = canonical(document) if document else EMPTY_CONFIG
        described = Descriptor.of(constants.IMAGE_CONFIG, config) if document else EMPTY_DESCRIPTOR
        manifest = Manifest(described, tuple(layers), self.options.annotations)
        return canonical(manifest.document(artifact=not self.upstream)), config

    def publish(self, store: Store, unfinished: str, contents: Sequence[bytes]) -> int:
        """Store blobs, the manifest last, and tag it; return how many bytes were new."""
        new_bytes = sum(len(content) for content in contents if store.put(content, unfinished, self.sync))
        self.manifest = Descriptor.of(constants.MANIFEST, contents[-1], platform=self.platform.document())
        if self.options.tagged:
            store.tag(self.name.reference, self.manifest, sync=self.options.durability.syncs)
        return new_bytes

    def remember(self, result: BuildResult, bases: Sequence[str]) -> BuildResult:
        """Keep what was made for the next build; a build is no worse for a cache that cannot be written."""
        if not self.memory:
            return result
        synced = self.options.tagged and self.options.durability.syncs
        try:
            self.memory.keep(self.snapshot, bases, self.manifest, result.document(), synced=synced)
        except OSError as error:
            notice = f"nothing is kept for the next build: {error}"
            return result._replace(notices=(*result.notices, notice))
        return result

    def result(
        self,
        stream: Stream,
        layers: Sequence[Descriptor],
        manifest: bytes,
        config: bytes,
        new_bytes: int,
    ) -> BuildResult:
        notices = [*self.notices]
        if len(manifest) > constants.MANIFEST_SIZE_WARNING:
            notices.append(f"the manifest has {len(manifest)} bytes: registries refuse more than 4 MiB")
        return BuildResult(
            digest=native.verity_digest(manifest).hex(),
            manifest=self.manifest.digest,
            inodes=self.inodes,
            files=len(stream.counts) // 4,
            bytes=stream.progress.total_bytes,
            chunks=len(stream.order),
            unique_chunks=stream.progress.unique_chunks,
            blobs=len(layers) - 1,
            stored_bytes=sum({layer.digest: layer.size for layer in layers}.values()) + len(manifest) + len(config),
            new_bytes=new_bytes + stream.progress.written_bytes,
            duplicate_bytes=stream.progress.duplicate_bytes,
            notices=tuple(notices),
        )


def source_date_epoch() -> int | None:
    """Return SOURCE_DATE_EPOCH, None where it is unset or empty. Raises `UsageError` if it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise UsageError(f"SOURCE_DATE_EPOCH is {text!r}: not a number of seconds")
    return int(text)


def mtime_rule(mode: str | int, epoch: int | None) -> MtimeRule:
    """Return what becomes of modification times; see `BuildOptions.mtime`. Raises `UsageError`."""
    if mode == "none":
        return MtimeRule(Times.EXACTLY)
    if isinstance(mode, int):
        if not -(1 << 63) <= mode < 1 << 63:
            raise UsageError(f"a time of {mode} seconds is out of range")
        return MtimeRule(Times.EXACTLY, mode)
    if mode not in ("auto", "keep", "clamp"):
        raise UsageError(f"{mode!r} is not a rule for times: keep, clamp, none or seconds")
    if epoch is None and mode == "clamp":
        raise UsageError("clamping times needs SOURCE_DATE_EPOCH")
    return MtimeRule(Times.KEEP) if epoch is None or mode == "keep" else MtimeRule(Times.AT_MOST, epoch)


def _check_places(tree: str, layout: str) -> None:
    if not os.path.isdir(tree):
        raise UsageError(f"{tree}: not a directory")
    root, store = os.path.realpath(tree), os.path.realpath(layout)
    if os.path.commonpath([root, store]) == root:
        raise UsageError(f"{layout}: the store is inside the root filesystem {tree}")
