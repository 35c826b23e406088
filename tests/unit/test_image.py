"""An opened image: the chain of checks from its name to its bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import puzzlefs
from puzzlefs import constants
from puzzlefs.builder import BuildOptions
from puzzlefs.errors import BlobError, IntegrityError
from puzzlefs.image import VERIFY_ONCE, Image
from puzzlefs.oci import Descriptor, canonical
from puzzlefs.records import VERITY
from puzzlefs.store import Store
from tests.images import craft, directory

pytestmark = pytest.mark.usefixtures("chosen")


def test_blob_that_was_replaced_after_its_check_is_not_served(tmp_path: Path) -> None:
    """A blob is checked once, but that holds for one file: after so many others that it was closed, a new one is checked."""
    tree = tmp_path / "tree"
    tree.mkdir()
    source = random.Random(4)
    for number in range(720):
        (tree / f"{number:03}").write_bytes(source.randbytes(constants.CHUNK_AVERAGE))
    puzzlefs.build(tree, f"{tmp_path}/oci:t", BuildOptions(pack_size=0))
    image = Image.open(f"{tmp_path}/oci:t")
    reader = image.reader(VERIFY_ONCE, 0)
    files = [ino for _, ino in image.walk()]
    for ino in files:
        reader.read(ino, 0, constants.MIB)
    digest, _ = next(VERITY.iter_unpack(image.index.blobs()))
    blob = image.blobs / digest.hex()
    content = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(b"#" + content[1:])

    with pytest.raises(BlobError, match="does not match"):
        reader.read(files[0], 0, 1)


def test_pinned_image_trusts_the_index_for_nothing(tmp_path: Path) -> None:
    """A tag moved to another image is refused under the first one's digest."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"x")
    pinned = puzzlefs.build(tmp_path / "a", f"{tmp_path}/oci:t").digest
    assert Image.open(f"{tmp_path}/oci:t", pinned).pinned
    puzzlefs.build(tmp_path / "b", f"{tmp_path}/oci:t")

    with pytest.raises(IntegrityError, match=pinned):
        Image.open(f"{tmp_path}/oci:t", pinned)


def test_pinned_image_is_checked_from_the_disk_every_time(tmp_path: Path) -> None:
    """Bytes that change in place after the first read of a pinned image are refused, not served."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"content")
    pinned = puzzlefs.build(tmp_path / "tree", f"{tmp_path}/oci:t").digest
    image = Image.open(f"{tmp_path}/oci:t", pinned)
    reader = image.reader(cache_size=0)
    ino = image.resolve("file")
    assert reader.read(ino, 0, 9) == b"content"
    digest, _ = next(VERITY.iter_unpack(image.index.blobs()))
    with (image.blobs / digest.hex()).open("r+b") as blob:
        blob.write(b"kontent")

    with pytest.raises(BlobError):
        reader.read(ino, 0, 9)


def replace_rootfs_verity(store: Store, verity: str | None) -> None:
    """Tag `u`: the image `t` with another fs-verity annotation of its rootfs blob, or none."""
    manifest = Image.open(f"{store.path}:t").manifest
    rootfs = manifest.rootfs
    annotations = {} if verity is None else {constants.ROOTFS_VERITY: verity}
    changed = Descriptor(rootfs.media_type, rootfs.digest, rootfs.size, annotations)
    document = manifest.document(artifact=True) | {"layers": [changed.document()]}
    with store.unfinished() as unfinished:
        store.put(canonical(document), unfinished)
    store.tag("u", Descriptor.of(constants.MANIFEST, canonical(document)))


@pytest.mark.parametrize("verity", ["0" * 64, None])
def test_pinned_image_needs_the_rootfs_blobs_digest(tmp_path: Path, verity: str | None) -> None:
    """The chain does not break at the rootfs blob: a wrong annotation is refused, a missing one where it matters."""
    (tmp_path / "tree").mkdir()
    puzzlefs.build(tmp_path / "tree", f"{tmp_path}/oci:t")
    replace_rootfs_verity(Store.open(tmp_path / "oci"), verity)
    image = Image.open(f"{tmp_path}/oci:u")
    with pytest.raises(IntegrityError):
        Image.open(f"{tmp_path}/oci:u", image.verity).index

    if verity is None:
        assert image.index.inode_count == 1
    else:
        with pytest.raises(IntegrityError):
            image.index


def test_the_digest_is_told_before_what_is_malformed(tmp_path: Path) -> None:
    """The tree is decoded while its blob is hashed; bytes of another blob are wrong, whatever they hold."""
    crafted = craft(tmp_path / "oci", [directory(1)], [])
    image = Image.open(crafted.name)
    path = image.blobs / image.manifest.rootfs.digest.removeprefix("sha256:")
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(BlobError, match="content does not match the digest"):
        _ = image.index
