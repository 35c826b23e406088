"""How each row is measured: one call, one peer, one round."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benches import rows, trees, user
from benches.mounts import mounted
from benches.peer import Peer
from benches.process import CommandError, measured, settle
from benches.rows import KIB, MIB, Row
from benches.stage import Stage
from tools.compare_trees import FIELDS, differences

Values = dict[str, float]
# What every program here keeps. The original keeps no times and says that links have no size.
COMPARED = {"type", "mode", "target", "content"}
RANDOM_FILES = 1000
# Files changed just before a build are not trusted by it: their times may not show the next change.
RACE = 2.5
PYTHON = "import json, http.client, asyncio, sqlite3"
FIO_SECONDS = 4  # at most
# Name: block, bytes to read in all, order.
FIO = {
    "4k": (4 * KIB, 16 * MIB, "randread"),
    "64k": (64 * KIB, 64 * MIB, "randread"),
    "seq": (MIB, trees.LARGE, "read"),
}


class Scenario(NamedTuple):
    """Rows that are measured together. `able` says which peers have them; `rounds` is the most."""

    rows: tuple[Row, ...]
    run: Callable[[Stage, Peer, bool], Values]
    able: Callable[[Peer], bool]
    raw: bool = False
    rounds: int = 1000

    @property
    def name(self) -> str:
        """Return what its results are kept under: the name of its first row."""
        return self.rows[0].name

    @property
    def reads(self) -> bool:
        """Whether it needs an image that is there."""
        return self.run is not build


def compare(tree: Path, copy: Path) -> None:
    """Raise `ValueError` where a copy differs from the tree in what every format keeps."""
    if found := differences(tree, copy, ignore=FIELDS - COMPARED):
        raise ValueError(f"reads wrong, {len(found)} times: {found[0]}")


def build(stage: Stage, peer: Peer, raw: bool) -> Values:
    """Build an image; for those who profit, again, and twice with a tenth of the files changed, anywhere and of packages."""
    if peer.incremental:
        time.sleep(max(0.0, stage.edited + RACE - time.monotonic()))
    place = stage.work / "built"
    place.mkdir()
    try:
        settle()
        first = peer.build(stage.changing, place, raw=raw)
        values = {"build": first.seconds, "memory": first.peak, "size": peer.stored(place)}
        if peer.incremental:
            settle()
            values["rebuild"] = peer.build(stage.changing, place, raw=raw).seconds
            stage.edit()
            settle()
            values["change"] = peer.build(stage.changing, place, raw=raw).seconds
            if stage.edit_packages():
                settle()
                values["upgrade"] = peer.build(stage.changing, place, raw=raw).seconds
    finally:
        shutil.rmtree(place)
    return values


def walk(stage: Stage, peer: Peer, raw: bool) -> Values:
    """Mount, list, then walk."""
    with mounted(peer, stage.image(peer, raw=raw)) as (mountpoint, seconds):
        return {"mount": seconds, "find": measured(["find", str(mountpoint), "-ls"]).seconds}


def read(stage: Stage, peer: Peer, raw: bool) -> Values:
    """Read everything, twice. tar does not read what goes to /dev/null itself."""
    script = 'tar -C "$0" -cf - . | cat > /dev/null'
    with mounted(peer, stage.image(peer, raw=raw)) as (mountpoint, _):
        command = ["bash", "-o", "pipefail", "-c", script, str(mountpoint)]
        return {name: measured(command).seconds for name in ("tar", "again")}


def read_random(stage: Stage, peer: Peer, raw: bool) -> Values:
    """Read some files whole, in any order."""
    chosen = random.Random(stage.round).sample(stage.files, min(RANDOM_FILES, len(stage.files)))
    with mounted(peer, stage.image(peer, raw=raw)) as (mountpoint, _):
        paths = [os.fsencode(mountpoint / name) for name in chosen]
        start = time.perf_counter()
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            while os.read(descriptor, MIB):
                pass
            os.close(descriptor)
        return {"random": time.perf_counter() - start}


def chroot(stage: Stage, peer: Peer, raw: bool) -> Values:
    """Start a program that reads many small files."""
    with mounted(peer, stage.image(peer, raw=raw)) as (mountpoint, _):
        command = ["chroot", str(mountpoint), "/usr/bin/python3", "-c", PYTHON]
        return {"chroot": measured(command).seconds}


def extract(stage: Stage, peer: Peer, raw: bool) -> Values:
    """Unpack everything; the first time, compare what came out."""
    directory = stage.work / "extracted"
    settle()
    try:
        seconds = peer.extract(stage.image(peer, raw=raw), directory).seconds
        if stage.round == 0:
            compare(stage.tree, directory)
        return {"extract": seconds}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def fio(stage: Stage, peer: Peer, _raw: bool) -> Values:
    """Read the large file, cold, by one job and by four, each in its own quarter; no block twice."""
    values = {}
    for name, (block, amount, order) in FIO.items():
        for jobs in (1, 4):
            with mounted(peer, stage.large_image(peer)) as (mountpoint, _):
                part = (mountpoint / "data").stat().st_size // jobs // MIB * MIB
                command = [
                    *("fio", "--name=read", f"--filename={mountpoint}/data", "--readonly", f"--rw={order}"),
                    *(f"--bs={block}", f"--numjobs={jobs}", "--thread", "--group_reporting", "--ioengine=psync"),
                    *(f"--size={part}", f"--offset_increment={part}", f"--io_size={min(amount // jobs, part)}"),
                    *(f"--randseed={stage.round + 1}", f"--runtime={FIO_SECONDS}", "--output-format=json"),
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise CommandError(f"fio: {done.stderr.strip()[-200:]}")
            values[f"fio-{name}-{jobs}"] = float(json.loads(done.stdout)["jobs"][0]["read"]["bw_bytes"])
    return values


def mounts(peer: Peer) -> bool:
    return peer.mounts


def mounts_raw(peer: Peer) -> bool:
    return peer.mounts and peer.raw


SCENARIOS = (
    Scenario(rows.BUILD, build, lambda peer: peer.builds),
    Scenario(rows.BUILD_RAW, build, lambda peer: peer.builds and peer.raw, raw=True),
    Scenario(rows.WALK, walk, mounts),
    Scenario(rows.READ, read, mounts),
    Scenario(rows.RANDOM, read_random, mounts),
    Scenario(rows.CHROOT, chroot, mounts),
    Scenario(rows.USER, user.walk, lambda peer: peer.for_users),
    Scenario(rows.EXTRACT, extract, lambda peer: peer.extracts),
    Scenario(rows.of_raw(rows.WALK), walk, mounts_raw, raw=True),
    Scenario(rows.of_raw(rows.READ), read, mounts_raw, raw=True),
    Scenario(rows.of_raw(rows.RANDOM), read_random, mounts_raw, raw=True),
    Scenario(rows.FIO, fio, mounts, rounds=3),
)
