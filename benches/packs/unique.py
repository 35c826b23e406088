"""Much data, none of it twice, in one image: built, verified, mounted, and through a registry and back.

One file of four is noise, the others have two bits of chance in each byte. What a step no longer needs it
removes: there may be no room for the tree, the image and two copies.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from benches.mounts import mounted
from benches.packs.candidates import LARGE, TAG, manifest, pinned
from benches.packs.kept import Kept
from benches.process import measured
from benches.rows import MIB
from tools.registry import serving

FILE = 16 * MIB
SIZE = 10_000_000_000
TWO_BITS = bytes(33 + byte % 4 for byte in range(256))
COPY = ("skopeo", "--insecure-policy", "copy")


class Place:
    """Where the tree, its image, the registry and the copy from there are.

    size  bytes of all files, rounded down to whole files
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.tree, self.store, self.registry, self.copy = (
            path / name for name in ("tree", "store", "registry", "copy")
        )
        self.digests, self.pin = path / "digests.json", path / "pin"

    def make(self) -> None:
        """Make the tree, and note the digest of each file."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.tree.mkdir(parents=True)
        found = {}
        for number in range(self.size // FILE):
            content = random.Random(number).randbytes(FILE)
            if number % 4:
                content = content.translate(TWO_BITS)
            (self.tree / f"{number:05}").write_bytes(content)
            found[f"{number:05}"] = hashlib.sha256(content).hexdigest()
        self.digests.write_text(json.dumps(found))

    def differing(self, root: Path) -> Iterator[str]:
        """Yield the files below `root` that are not as they were made."""
        for name, digest in json.loads(self.digests.read_text()).items():
            with open(root / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    yield name


def make(place: Place) -> dict[str, float]:
    """Make the tree."""
    place.make()
    return {"files": place.size // FILE, "content": place.size // FILE * FILE}


def build(place: Place) -> dict[str, float]:
    """Build; then the tree is removed."""
    place.store.mkdir()
    usage = LARGE.build(place.tree, place.store, raw=False)
    size, blobs = manifest(place.store)
    place.pin.write_text(pinned(place.store))
    shutil.rmtree(place.tree)
    return {
        "build": usage.seconds,
        "build, memory": usage.peak,
        "stored": LARGE.stored(place.store),
        "blobs": blobs,
        "manifest": size,
    }


def verify(place: Place) -> dict[str, float]:
    """Verify every digest of the image."""
    return {"verify": check(place, place.store)}


def check(place: Place, store: Path) -> float:
    """Return the seconds that verifying the pinned image in a store takes."""
    words = ["verify", "--digest", place.pin.read_text(), f"{store}/oci:{TAG}"]
    return measured([*LARGE.command, *words], LARGE.environment(store)).seconds


def read(place: Place) -> dict[str, float]:
    """Mount, and compare every file."""
    return {"mount": compare(place, place.store)}


def compare(place: Place, store: Path) -> float:
    """Mount the image in a store and compare every file; return the seconds until the mount answered."""
    with mounted(LARGE, store) as (mountpoint, seconds):
        if found := list(place.differing(mountpoint)):
            raise ValueError(f"{len(found)} files read wrong: {found[0]}")
    return seconds


def push(place: Place) -> dict[str, float]:
    """Copy the image to a registry; then the store is removed."""
    place.registry.mkdir()
    with serving(place.registry) as address:
        target = f"docker://{address}/image:{TAG}"
        usage = measured([*COPY, "--dest-tls-verify=false", f"oci:{place.store}/oci:{TAG}", target])
    shutil.rmtree(place.store)
    return {"push": usage.seconds}


def pull(place: Place) -> dict[str, float]:
    """Copy the image from the registry, which is then removed."""
    place.copy.mkdir()
    with serving(place.registry) as address:
        source = f"docker://{address}/image:{TAG}"
        usage = measured([*COPY, "--src-tls-verify=false", source, f"oci:{place.copy}/oci:{TAG}"])
    shutil.rmtree(place.registry)
    return {"pull": usage.seconds}


def read_copy(place: Place) -> dict[str, float]:
    """Verify and mount what came back, and compare every file; then it is removed."""
    values = {"verify the copy": check(place, place.copy), "mount the copy": compare(place, place.copy)}
    shutil.rmtree(place.copy)
    return values


STEPS: dict[str, Callable[[Place], dict[str, float]]] = {
    "make": make,
    "build": build,
    "verify": verify,
    "mount": read,
    "push": push,
    "pull": pull,
    "copy": read_copy,
}


def measure(place: Place, steps: list[str], kept: Kept) -> None:
    """Take the image through steps, each of which needs the one before."""
    for step in steps:
        values = STEPS[step](place)
        print(f"{step}: {values}", flush=True)
        known = {} if step == "make" else kept.topics["unique"].get(LARGE.name, {})
        kept.put("unique", LARGE.name, known | {what: [value] for what, value in values.items()})
