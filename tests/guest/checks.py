"""What is checked on a kernel with fs-verity, in this order. Each check may return a value for the host to judge."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from puzzlefs import constants
from puzzlefs.errors import BlobError, IntegrityError, StoreError
from puzzlefs.fsverity import VerityResult, enable, enforced
from puzzlefs.image import Image
from puzzlefs.records import VERITY
from puzzlefs.verity_ioctl import enable_file, measure_file
from tests.guest import contents, store, system
from tests.guest.reading import BACKENDS, every_file_is_right, mounted, read, refused, run
from tests.guest.store import blob_paths, copied, digest_of, opened

IO_ERROR = "Input/output error"
EIO = f"cannot be read: {IO_ERROR}"
WRONG = "content does not match the digest"
NOT_THE_PIN = "the manifest's fs-verity digest is not"
# In `noise`, whose first chunk has at least 16 blocks.
GOOD_BLOCK, BAD_BLOCK = 0, 3


def check_measurements_of_all_sizes() -> dict[int, str]:
    """The host compares these with both backends' digests."""
    store.attach()
    system.mount(store.PLAIN_DISK, store.PLAIN, "ext4")
    directory = Path(store.STORE, "sizes")
    directory.mkdir()
    found = {}
    for size in contents.SIZES:
        contents.write_file(directory / str(size), size)
        with open(directory / str(size), "rb") as file:
            assert enable_file(file.fileno())
            found[size] = _measured(directory / str(size))
    return found


def check_the_whole_chain_is_measured() -> None:
    """Manifest, rootfs blob and every chunk: the kernel's digest is the one that the image says."""
    for source in ("raw", "compressed"):
        layout = copied(source, f"chain-{source}")
        image = opened(layout)
        paths = blob_paths(image)
        assert enforced(image) == 0
        assert enable(image, image.verity) == VerityResult(len(paths), 0)
        stated = {blob.hex(): verity.hex() for blob, verity in VERITY.iter_unpack(image.index.blobs())}
        rootfs = image.manifest.rootfs
        stated[rootfs.raw_digest.hex()] = rootfs.annotations[constants.ROOTFS_VERITY]
        stated[image.descriptor.raw_digest.hex()] = digest_of(layout)
        assert {path.name: _measured(path) for path in paths} == stated
        # The manifest is no blob of the manifest.
        assert enforced(image) == len(paths) - 1


def check_blobs_cannot_be_written() -> None:
    for path in blob_paths(_enabled("written")):
        refused(PermissionError, "Operation not permitted", os.open, path, os.O_WRONLY)


def check_pinned_mounts_of_enabled_images() -> None:
    """Every file is right, and `inspect` says that the kernel checks every blob."""
    for source, backend in (("raw", BACKENDS[-1]), ("compressed", BACKENDS[0])):
        image = _enabled(f"mounted-{source}", source)
        status, text = run("inspect", "--json", "-d", image.verity, image.name)
        facts = json.loads(text)
        assert status == 0 and facts["fs_verity_blobs"] == facts["blobs"] > 2, text
        with mounted(image, backend) as mountpoint:
            every_file_is_right(mountpoint)


def check_the_kernel_alone_checks_enabled_blobs() -> None:
    """One bad block in a chunk: the blocks before it are served, which no reader that hashes would do."""
    image = _enabled("flipped-chunk")
    chunk, start = store.chunk_of(image, "noise")
    store.flip_beneath([(chunk, start + BAD_BLOCK * contents.BLOCK + 7)])
    refused(OSError, IO_ERROR, chunk.read_bytes)
    image = opened(Path(store.STORE, "flipped-chunk"))
    for backend in BACKENDS:
        good = read(image, backend, "noise", GOOD_BLOCK)
        assert good == (store.TREE / "noise").read_bytes()[: contents.BLOCK]
        refused(BlobError, EIO, read, image, backend, "noise", BAD_BLOCK)
        with mounted(image, backend) as mountpoint:
            assert (mountpoint / "small").read_bytes() == (store.TREE / "small").read_bytes()
            refused(OSError, IO_ERROR, (mountpoint / "noise").read_bytes)
    assert [problem.text for problem in image.verify().problems] == [EIO]


def check_without_fs_verity_the_reader_hashes() -> None:
    """The same bad block where the kernel does not look: nothing of the chunk is served."""
    image = opened(copied("raw", "flipped-plain"))
    chunk, start = store.chunk_of(image, "noise")
    store.flip_beneath([(chunk, start + BAD_BLOCK * contents.BLOCK + 7)])
    chunk.read_bytes()
    for backend in BACKENDS:
        refused(BlobError, WRONG, read, image, backend, "noise", GOOD_BLOCK)


def check_damage_beneath_manifest_and_rootfs() -> None:
    flipped = {part: _enabled(f"flipped-{part}") for part in ("manifest", "rootfs")}
    manifest, rootfs = blob_paths(flipped["manifest"])[0], blob_paths(flipped["rootfs"])[1]
    store.flip_beneath([(manifest, 100), (rootfs, 100)])
    for path in (manifest, rootfs):
        refused(OSError, IO_ERROR, path.read_bytes)
    refused(BlobError, EIO, opened, flipped["manifest"].name.layout)
    for image in flipped.values():
        status, text = run("mount", "-d", image.verity, image.name, "/tmp")
        assert status == 3 and EIO in text, text


def check_a_replaced_chunk() -> None:
    """Even one that the kernel vouches for, too: its measurement is not the image's."""
    for source in ("raw", "compressed"):
        image = _enabled(f"replaced-chunk-{source}", source)
        chunk, _ = store.chunk_of(image, "noise")
        _replace(chunk)
        for backend in BACKENDS:
            refused(BlobError, WRONG, read, image, backend, "noise", GOOD_BLOCK)
        with mounted(image, BACKENDS[0]) as mountpoint:
            refused(OSError, IO_ERROR, (mountpoint / "noise").read_bytes)
        refused(BlobError, "the kernel measures", enable, image, image.verity)
        assert enforced(image) == len(blob_paths(image)) - 2


def check_a_replaced_manifest_or_rootfs_blob() -> None:
    for number, part in enumerate(("manifest", "rootfs")):
        image = _enabled(f"replaced-{part}")
        _replace(blob_paths(image)[number])
        status, text = run("mount", "-d", image.verity, image.name, "/tmp")
        assert status == 3 and WRONG in text, text


def check_a_replaced_index_or_a_wrong_digest() -> None:
    """A tag may be made to say anything: the pin still means one manifest."""
    image = _enabled("replaced-index")
    other = opened(image.name.layout, "other")
    image.store.tag("v", other.descriptor)
    assert Image.open(image.name).content == other.content
    refused(IntegrityError, NOT_THE_PIN, opened, image.name.layout)
    for tag, digest in (("v", image.verity), ("other", "ab" * 32)):
        for verb, after in (("mount", ["/tmp"]), ("inspect", [])):
            status, text = run(verb, "-d", digest, f"{image.name.layout}:{tag}", *after)
            assert status == 3 and NOT_THE_PIN in text, text


def check_enabling_again_and_partly() -> None:
    image = opened(copied("raw", "partly"))
    paths = blob_paths(image)
    for path in paths[2:4]:
        with open(path, "rb") as file:
            assert enable_file(file.fileno())
    assert enforced(image) == 2
    assert enable(image, image.verity) == VerityResult(len(paths), 2)
    assert enable(image, image.verity) == VerityResult(len(paths), len(paths))


def check_enabling_images_that_share_blobs() -> None:
    """A second tag's image, a delta, and the delta's base after it."""
    for first, second in (("v", "other"), ("delta", "v")):
        layout = copied("raw", f"shared-{first}")
        images = [opened(layout, tag) for tag in (first, second)]
        sets = [set(blob_paths(image)) for image in images]
        assert len(sets[0] & sets[1]) > 1
        assert enable(images[0], images[0].verity) == VerityResult(len(sets[0]), 0)
        assert enable(images[1], images[1].verity) == VerityResult(len(sets[1]), len(sets[0] & sets[1]))
        assert all(enforced(image) == len(paths) - 1 for image, paths in zip(images, sets, strict=True))


def check_a_store_of_packs_chunks_and_the_originals_form() -> None:
    """Images of each form, and a delta in packs upon one in single chunks, enabled one after the other."""
    layout = copied("mixed", "mixed-enabled")
    enabled: set[Path] = set()
    for number, tag in enumerate(("v", "delta", "original")):
        image = opened(layout, tag)
        paths = {*blob_paths(image)}
        assert enable(image, image.verity) == VerityResult(len(paths), len(paths & enabled))
        enabled |= paths
        assert enforced(image) == len(paths) - 1
        with mounted(image, BACKENDS[number % len(BACKENDS)]) as mountpoint:
            every_file_is_right(mountpoint)


def check_building_upon_an_enabled_store() -> None:
    """Blobs under fs-verity are used again, and stay under it."""
    image = _enabled("built-upon")
    status, text = run("build", "--pack-size", "0", store.TREE, f"{image.name.layout}:again")
    assert status == 0, text
    again = Image.open(f"{image.name.layout}:again")
    assert again.verify().ok
    assert enforced(again) >= len(again.manifest.layers) - 1


def check_enabling_on_a_read_only_filesystem() -> None:
    enabled, other = _enabled("read-only"), opened(copied("raw", "read-only-other"))
    count = len(blob_paths(enabled))
    store.detach()
    store.attach(read_only=True)
    try:
        assert enable(enabled, enabled.verity) == VerityResult(count, count)
        refused(StoreError, "Read-only file system", enable, other, other.verity)
    finally:
        store.detach()
        store.attach()


def check_enabling_what_is_being_written() -> None:
    image = opened(copied("raw", "busy"))
    with open(blob_paths(image)[2], "r+b"):
        refused(StoreError, "Text file busy", enable, image, image.verity)
    assert enable(image, image.verity).already == 2


def check_filesystems_without_fs_verity() -> dict[str, str]:
    """One sentence each, which the host compares; the image is served all the same, checked here."""
    sentences = {}
    for kind, parent in (("tmpfs", "/tmp"), ("ext4", store.PLAIN)):
        image = opened(copied("raw", "image", parent))
        status, text = run("enable-fs-verity", image.name, image.verity)
        assert status == 7, text
        sentences[kind] = text
        assert enforced(image) == 0
        with mounted(image, BACKENDS[0]) as mountpoint:
            every_file_is_right(mountpoint)
        shutil.rmtree(image.name.layout)
    return sentences


def _enabled(name: str, source: str = "raw") -> Image:
    """Return a pinned image in a layout of its own, all its blobs under fs-verity."""
    image = opened(copied(source, name))
    enable(image, image.verity)
    return image


def _measured(path: Path) -> str:
    with open(path, "rb") as file:
        digest = measure_file(file.fileno())
    assert digest is not None, path
    return digest.hex()


def _replace(path: Path) -> None:
    """Put another file, itself under fs-verity, where a blob was: as long, one bit different."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    with open(path, "rb") as file:
        assert enable_file(file.fileno())
