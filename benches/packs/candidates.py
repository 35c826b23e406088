"""What the series is built with: packs of each average size and frames, one blob a chunk, and other programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from benches.known import Casync, Erofs, KernelSquashfs, Ours, Tar
from benches.peer import Peer, Words
from benches.rows import KIB, MIB
from puzzlefs._native import native

AVERAGES = (MIB // 4, MIB // 2, MIB, 2 * MIB, 4 * MIB, 8 * MIB)
# The most that a frame may have: whole packs, but for those of 8 MiB that are longest.
WHOLE = 16 * MIB
FRAMES = (128 * KIB, 256 * KIB, 512 * KIB, 640 * KIB, MIB, WHOLE)
TAG = "bench"


def short(size: int) -> str:
    """Return a size as KiB or MiB: 512K, 2M."""
    return f"{size // MIB}M" if size % MIB == 0 else f"{size // KIB}K"


def policy(frames: int) -> str:
    """Return what is compressed together, in words."""
    return "in one frame each" if frames == WHOLE else f"frames of {short(frames)}"


class Images(Ours):
    """Our images, built with certain options.

    average  bytes of a pack; 0 for one blob a chunk
    frames   most bytes of a frame, or None for the default
    order    of the stream, or None for the default
    reuse    whether the image that the store has under the tag may be referred to
    """

    def __init__(
        self, average: int, frames: int | None = None, order: str | None = None, *, reuse: bool = False
    ) -> None:
        self.average, self.frames, self.order, self.reuse = average, frames, order, reuse
        self.name = short(average) if average else "chunks"
        self.title = f"packs of {short(average)}" if average else "one blob a chunk"
        if frames:
            self.name, self.title = f"{self.name}-{short(frames)}", f"{self.title}, {policy(frames)}"
        if order:
            self.name, self.title = f"{self.name}-{order}", f"{self.title}, by {order}"
        if reuse:
            self.name, self.title = f"{self.name}-reuse", f"{self.title}, reuse"

    def options(self, place: Path) -> Words:
        """Return the options of a build into `place`."""
        words = ["--pack-size", str(self.average)]
        if self.frames is not None:
            words += ["--frame-size", str(self.frames)]
        if self.order is not None:
            words += ["--order", self.order]
        if self.reuse and (place / "oci/index.json").exists():
            words += ["--reuse", f"{place}/oci:{TAG}"]
        return words

    def build_command(self, tree: Path, place: Path, *, raw: bool) -> Words:
        compress = [] if raw else ["-c"]
        return [*self.command, "build", *compress, *self.options(place), str(tree), f"{place}/oci:{TAG}"]


CHUNKS = Images(0)
CHOSEN = Images(2 * MIB, 640 * KIB)
# For much data: the time that skopeo takes grows faster than the number of blobs.
LARGE = Images(8 * MIB, 640 * KIB)


def grid() -> Iterator[Images]:
    """Yield every average with every size of frames."""
    for average in AVERAGES:
        for frames in FRAMES:
            yield Images(average, frames)


def variants() -> Iterator[Images]:
    """Yield what else is tried: orders of the stream, and reuse."""
    yield Images(CHOSEN.average, CHOSEN.frames, "path")
    yield from (Images(average, 512 * KIB, "path") for average in AVERAGES)
    yield Images(CHOSEN.average, CHOSEN.frames, reuse=True)


OTHERS: tuple[Peer, ...] = (KernelSquashfs(), Erofs(), Tar(), Casync())
CANDIDATES: dict[str, Peer] = {peer.name: peer for peer in (CHUNKS, *grid(), *variants(), *OTHERS)}


def manifest(place: Path) -> tuple[int, int]:
    """Return the size of the manifest of the image in `place`, and how many blobs it lists besides the rootfs."""
    content = _manifest(place)
    return len(content), len(json.loads(content)["layers"]) - 1


def pinned(place: Path) -> str:
    """Return the digest by which the image in `place` can be pinned."""
    return native.verity_digest(_manifest(place)).hex()


def _manifest(place: Path) -> bytes:
    index = json.loads((place / "oci/index.json").read_bytes())
    (digest,) = (
        str(entry["digest"])
        for entry in index["manifests"]
        if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == TAG
    )
    return (place / "oci/blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
