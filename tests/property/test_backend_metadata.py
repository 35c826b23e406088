"""Tables round-trip through a rootfs blob, in both backends and in an independent implementation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from puzzlefs import _fallback
from puzzlefs.records import COMPRESSED, Kind
from tests.conftest import Backends, GoldenImage
from tests.parity.outcome import outcome
from tests.strategies import Image, Node, images, pack

SCHEMA = Path(__file__).parent.parent.parent / "schema" / "metadata.capnp"
TAGS = ["unknown", "fifo", "chr", "dir", "blk", "file", "lnk", "sock", "wht"]
NO_LIMIT = {"traversal_limit_in_words": 1 << 40}


@pytest.fixture(scope="module")
def schema() -> Any:
    """The wire format as pycapnp, which shares no code with either backend, understands it."""
    return pytest.importorskip("capnp", reason="pycapnp is not installed").load(str(SCHEMA))


@given(image=images())
def test_any_tables_round_trip(backends: Backends, image: Image) -> None:
    """Both write the same bytes, and both read back what was written."""
    tables = pack(image)
    blob = backends.rust.encode_rootfs(*tables)

    assert blob == backends.python.encode_rootfs(*tables)
    assert [backend.decode_rootfs(blob) for backend in backends] == [(3, *tables)] * 2


@given(image=images())
def test_any_tree_or_none_is_one_answer(backends: Backends, image: Image) -> None:
    """Tables that form no tree break the same rule in both; those that do have the same inodes."""
    blob = backends.rust.encode_rootfs(*pack(image))
    rust, python = [outcome(lambda backend: backend.Index(blob).inodes(), backend) for backend in backends]

    assert rust == python


def read_node(inode: Any) -> Node:
    """Return what pycapnp reads of an inode."""
    kind = TAGS.index(inode.mode.which())
    details: dict[str, Any] = {}
    if kind in (Kind.CHR, Kind.BLK):
        device = getattr(inode.mode, TAGS[kind])
        details["device"] = (device.major, device.minor)
    if kind == Kind.DIR:
        assert not inode.mode.dir.lookBelow
        details["entries"] = [(bytes(entry.name), entry.ino) for entry in inode.mode.dir.entries]
    if kind == Kind.FILE:
        rows = [(chunk.blob, chunk.len) for chunk in inode.mode.file]
        details["chunks"] = [
            (bytes(blob.digest), COMPRESSED if blob.compressed else 0, blob.offset, length) for blob, length in rows
        ]
    extra = inode.additional
    return Node(
        inode.ino,
        kind,
        inode.permissions,
        (inode.uid, inode.gid),
        (inode.mtimeSec, inode.mtimeNsec),
        xattrs=[(bytes(xattr.key), bytes(xattr.val)) for xattr in extra.xattrs],
        link=bytes(extra.symlinkTarget),
        additional=inode._has("additional"),
        **details,
    )


def read_image(schema: Any, blob: bytes) -> Image:
    """Return what pycapnp reads of a rootfs blob."""
    with schema.Rootfs.from_bytes(blob, **NO_LIMIT) as rootfs:
        assert (rootfs.manifestVersion, rootfs.requiredFeatures) == (3, 0)
        layers = [[read_node(inode) for inode in layer.inodes] for layer in rootfs.metadatas]
        return Image(layers, [(bytes(entry.digest), bytes(entry.verity)) for entry in rootfs.fsVerityData])


def write_node(inode: Any, node: Node) -> None:
    """Fill an inode of a pycapnp message."""
    inode.ino, inode.permissions = node.ino, node.permissions
    inode.uid, inode.gid = node.owner
    inode.mtimeSec, inode.mtimeNsec = node.mtime
    if node.kind in (Kind.CHR, Kind.BLK):
        device = inode.mode.init(TAGS[node.kind])
        device.major, device.minor = node.device
    elif node.kind == Kind.DIR:
        entries = inode.mode.init("dir").init("entries", len(node.entries))
        for entry, (name, ino) in zip(entries, node.entries, strict=True):
            entry.name, entry.ino = name, ino
    elif node.kind == Kind.FILE:
        chunks = inode.mode.init("file", len(node.chunks))
        for chunk, (digest, flags, offset, length) in zip(chunks, node.chunks, strict=True):
            chunk.len, blob = length, chunk.init("blob")
            blob.digest, blob.compressed, blob.offset = digest, bool(flags), offset
    else:
        setattr(inode.mode, TAGS[node.kind], None)
    if node.additional or node.xattrs or node.link:
        extra = inode.init("additional")
        for xattr, (key, value) in zip(extra.init("xattrs", len(node.xattrs)), node.xattrs, strict=True):
            xattr.key, xattr.val = key, value
        if node.link:
            extra.symlinkTarget = node.link


def write_image(schema: Any, image: Image) -> bytes:
    """Return a message that pycapnp built."""
    rootfs = schema.Rootfs.new_message(manifestVersion=3)
    layers = rootfs.init("metadatas", len(image.layers))
    for layer, nodes in zip(layers, image.layers, strict=True):
        for inode, node in zip(layer.init("inodes", len(nodes)), nodes, strict=True):
            write_node(inode, node)
    for entry, (digest, verity) in zip(rootfs.init("fsVerityData", len(image.verity)), image.verity, strict=True):
        entry.digest, entry.verity = digest, verity
    message: bytes = rootfs.to_bytes()
    return message


def normal(image: Image) -> Image:
    """Return an image with `additional` set where there is something additional."""

    def settled(node: Node) -> Node:
        return replace(node, additional=bool(node.additional or node.xattrs or node.link))

    return Image([[settled(node) for node in layer] for layer in image.layers], image.verity)


@given(image=images())
def test_pycapnp_reads_what_we_write(backends: Backends, schema: Any, image: Image) -> None:
    """Every value of a blob of ours arrives."""
    assert read_image(schema, backends.python.encode_rootfs(*pack(image))) == normal(image)


@given(image=images())
def test_we_read_what_pycapnp_writes(backends: Backends, schema: Any, image: Image) -> None:
    """A message laid out by another implementation gives the same tables in both backends."""
    blob = write_image(schema, image)

    assert [backend.decode_rootfs(blob) for backend in backends] == [(3, *pack(image))] * 2


def test_pycapnp_reads_golden_images_as_we_do(schema: Any, golden: dict[str, GoldenImage]) -> None:
    """Every value of every golden image, the empty attribute lists that the original writes too."""
    for image in golden.values():
        _, *tables = _fallback.decode_rootfs(image.rootfs)

        assert list(pack(read_image(schema, image.rootfs))) == tables
