"""The guest's disks: images on a filesystem that knows fs-verity, and the bytes beneath it."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from struct import Struct

from puzzlefs.image import Image
from puzzlefs.records import CHUNK, VERITY
from tests.guest import system
from tests.guest.contents import BLOCK

DISK, STORE = "/dev/vda", "/store"
# A filesystem of the same kind, made without the feature.
PLAIN_DISK, PLAIN = "/dev/vdb", "/plain"
TREE = Path(STORE, "tree")
_FIBMAP = 1
_NUMBER = Struct("i")


def attach(*, read_only: bool = False) -> None:
    """Mount the disk."""
    system.mount(DISK, STORE, "ext4", system.READ_ONLY if read_only else 0)


def detach() -> None:
    """Unmount the disk; nothing of it stays in memory."""
    # Readers that wait to be collected hold their files open.
    gc.collect()
    system.unmount(STORE)
    Path("/proc/sys/vm/drop_caches").write_text("3")


def copied(source: str, name: str, parent: str = STORE) -> Path:
    """Copy a layout that came with the disk; return the copy."""
    return Path(shutil.copytree(Path(STORE, source), Path(parent, name)))


def digest_of(layout: Path, tag: str = "v") -> str:
    """Return the digest that building the image printed, on the host."""
    return (layout / f"{tag}.digest").read_text()


def opened(layout: Path, tag: str = "v") -> Image:
    """Open an image, pinned."""
    return Image.open(f"{layout}:{tag}", digest_of(layout, tag))


def blob_paths(image: Image) -> list[Path]:
    """Return the files of the manifest, of the rootfs blob and of every chunk, in this order."""
    digests = [image.descriptor.raw_digest, *(layer.raw_digest for layer in image.manifest.layers)]
    return [image.blobs / digest.hex() for digest in dict.fromkeys(digests)]


def chunk_of(image: Image, path: str) -> tuple[Path, int]:
    """Return the blob of a file's first chunk, and where in it the chunk starts."""
    row, _, start, _ = next(CHUNK.iter_unpack(image.index.chunks(image.resolve(path))))
    digest, _ = list(VERITY.iter_unpack(image.index.blobs()))[row]
    return image.blobs / digest.hex(), start


def flip_beneath(places: Iterable[tuple[Path, int]]) -> None:
    """Flip a bit of each byte (file, offset) on the disk itself, while its filesystem is not mounted."""
    os.sync()
    positions = [_position(path, offset) for path, offset in places]
    detach()
    disk = os.open(DISK, os.O_RDWR)
    for position in positions:
        (byte,) = os.pread(disk, 1, position)
        os.pwrite(disk, bytes([byte ^ 1]), position)
    os.fsync(disk)
    os.close(disk)
    attach()


def _position(path: Path, offset: int) -> int:
    with open(path, "rb") as file:
        (block,) = _NUMBER.unpack(fcntl.ioctl(file, _FIBMAP, _NUMBER.pack(offset // BLOCK)))
    assert block, f"{path} has no block at {offset}"
    return int(block) * BLOCK + offset % BLOCK
