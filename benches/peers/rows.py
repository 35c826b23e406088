"""The rows of the comparison, and what each has to reach."""

from __future__ import annotations

from typing import NamedTuple

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Limit(NamedTuple):
    """How much better than the best of `others` the figure has to be: 1.2x as long is factor 1 / 1.2.

    With `row`, the others' figures are those of that row. Without others, `at_most` is the limit itself.
    """

    factor: float = 1.0
    others: tuple[str, ...] = ()
    row: str = ""
    at_most: float = 0.0


class Row(NamedTuple):
    """One thing measured. Values are seconds, bytes, or bytes a second (where more is better)."""

    name: str
    title: str
    target: str
    limits: tuple[Limit, ...] = ()
    unit: str = "s"

    @property
    def more_is_better(self) -> bool:
        return self.unit == "MB/s"


def at_least(factor: float, *others: str, row: str = "") -> Limit:
    """Ask to be `factor` times better than the best of others."""
    return Limit(factor, others, row)


MOUNTED = ("original", "squashfuse", "squashfs", "erofs", "casync")
SQUASHFUSE = at_least(1, "squashfuse")
SQUASHFS = at_least(1, "squashfs")

BUILD = (
    Row("build", "build", "≥ 2.5x the original, ≤ mksquashfs", (at_least(2.5, "original"), SQUASHFS)),
    Row("rebuild", "build again, nothing changed", "≥ 8x the first build", (at_least(8, "ours", row="build"),)),
    Row("change", "build again, 10 % of files changed", "≥ 5x the first build", (at_least(5, "ours", row="build"),)),
    Row("memory", "build: peak memory", "≤ 300 MB", (Limit(at_most=300e6),), "MB"),
    Row(
        "size",
        "image size",
        "≥ 14 % below the original, ≤ 1.03x mksquashfs",
        (at_least(1 / 0.86, "original"), at_least(1 / 1.03, "squashfs")),
        "MB",
    ),
)
BUILD_RAW = (
    Row("build-raw", "build", "≥ 2x the original", (at_least(2, "original"),)),
    Row("rebuild-raw", BUILD[1].title, BUILD[1].target, (at_least(8, "ours", row="build-raw"),)),
    Row("change-raw", BUILD[2].title, BUILD[2].target, (at_least(5, "ours", row="build-raw"),)),
    Row("memory-raw", BUILD[3].title, BUILD[3].target, BUILD[3].limits, "MB"),
    Row("size-raw", "image size", "", (), "MB"),
)
WALK = (
    Row("mount", "mount to first listing", "≤ 30 ms", (Limit(at_most=0.030),)),
    Row(
        "find",
        "`find -ls`, cold mount",
        "≥ 4x the original, ≤ 1.2x kernel squashfs",
        (at_least(4, "original"), at_least(1 / 1.2, "squashfs")),
    ),
)
READ = (
    Row(
        "tar",
        "tar of everything, cold mount",
        "≥ 2x the original, ≤ kernel squashfs",
        (at_least(2, "original"), SQUASHFS),
    ),
    Row("again", "tar again", "≤ 1.2x kernel squashfs", (at_least(1 / 1.2, "squashfs"),)),
)
RANDOM = (Row("random", "1,000 random files, cold mount", "≤ the best of them", (at_least(1, *MOUNTED),)),)
CHROOT = (Row("chroot", "Python in a chroot, cold mount", "≤ 80 ms", (Limit(at_most=0.080),)),)
EXTRACT = (Row("extract", "extract", "≤ unsquashfs", (SQUASHFS,)),)
FIO = tuple(
    Row(f"fio-{name}-{jobs}", f"fio, {what}, {jobs} job{'s' * (jobs > 1)}", "≥ squashfuse_ll", (SQUASHFUSE,), "MB/s")
    for name, what in (("4k", "random 4 KiB"), ("64k", "random 64 KiB"), ("seq", "sequential"))
    for jobs in (1, 4)
)
ENGINE = (
    Row("chunk", "cut into chunks, one core", "≥ the crate fastcdc", (at_least(1, "crate"),), "MB/s"),
    Row("chunk-2", "cut into chunks, two cores", "≥ 1.8x one core", (at_least(1.8, "one core"),), "MB/s"),
    Row("hash", "digest and verity of a blob, one core", "≥ 1.7x two passes", (at_least(1.7, "two passes"),), "MB/s"),
)


def of_raw(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return rows for images without compression. What kernel code reaches there is shown, but no target."""
    return tuple(_of_raw(row) for row in rows)


def _of_raw(row: Row) -> Row:
    kept = tuple(limit for limit in row.limits if "original" in limit.others or limit.at_most)
    target = row.target.split(",")[0] if kept else ""
    return row._replace(name=f"{row.name}-raw", target=target, limits=kept)


SECTIONS: dict[str, tuple[Row, ...]] = {
    "Compressed images": (*BUILD, *WALK, *READ, *RANDOM, *CHROOT, *EXTRACT, *FIO),
    "Images without compression": (*BUILD_RAW, *of_raw((*WALK, *READ, *RANDOM))),
    "Engine": ENGINE,
}
ROWS = {row.name: row for rows in SECTIONS.values() for row in rows}
