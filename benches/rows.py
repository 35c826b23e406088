"""The rows of the comparison, and what each has to reach."""

from __future__ import annotations

from typing import NamedTuple

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Limit(NamedTuple):
    """How much better than the best of `others` the figure has to be: 1.2x as long is factor 1 / 1.2.

    With `row`, the others' figures are those of that row, and `title` says what they are. Without others,
    `at_most` is the limit itself.
    """

    factor: float = 1.0
    others: tuple[str, ...] = ()
    row: str = ""
    title: str = ""
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


def at_least(factor: float, *others: str) -> Limit:
    """Ask to be `factor` times better than the best of others."""
    return Limit(factor, others)


def first_build(factor: float, row: str) -> Limit:
    """Ask to be `factor` times faster than our first build, which is that row."""
    return Limit(factor, ("ours",), row, "the first build")


SQUASHFUSE = at_least(1, "squashfuse")
SQUASHFS = at_least(1, "squashfs")

BUILD = (
    Row("build", "build", "≥ 2.5x the original, ≤ mksquashfs", (at_least(2.5, "original"), SQUASHFS)),
    Row("rebuild", "rebuild, nothing changed", "≥ 8x the first build", (first_build(8, "build"),)),
    Row("change", "rebuild, 10 % of files changed", "≥ 5x the first build", (first_build(5, "build"),)),
    Row(
        "upgrade",
        "rebuild, 10 % of files changed, those of whole packages",
        "≥ 5x the first build",
        (first_build(5, "build"),),
    ),
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
    Row("build-raw", "build, raw", "≥ 2x the original", (at_least(2, "original"),)),
    Row("rebuild-raw", "rebuild, raw, nothing changed", BUILD[1].target, (first_build(8, "build-raw"),)),
    Row("change-raw", "rebuild, raw, 10 % of files changed", BUILD[2].target, (first_build(5, "build-raw"),)),
    Row(
        "upgrade-raw",
        "rebuild, raw, 10 % of files changed, those of whole packages",
        BUILD[3].target,
        (first_build(5, "build-raw"),),
    ),
    Row("memory-raw", "build, raw: peak memory", BUILD[4].target, BUILD[4].limits, "MB"),
    Row("size-raw", "image size, raw", "", (), "MB"),
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
USER = (
    Row("user-mount", "mount to first listing, ordinary user", "≤ 30 ms", (Limit(at_most=0.030),)),
    *(
        Row(f"user-{name}", f"{title}, ordinary user", "≤ 1.2x root's", (Limit(1 / 1.2, ("ours",), name, "root's"),))
        for name, title in (("find", "`find -ls`"), ("tar", "tar of everything"))
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
RANDOM = (
    Row(
        "random",
        "1,000 random files, cold mount",
        "≤ the best of the original, squashfuse_ll, kernel squashfs",
        (at_least(1, "original", "squashfuse", "squashfs"),),
    ),
)
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
    Row("hash", "digest and verity of blobs, one core", "≥ 1.7x two passes", (at_least(1.7, "two passes"),), "MB/s"),
)


def of_raw(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return rows for images without compression. What kernel code reaches there is shown, but no target."""
    return tuple(_of_raw(row) for row in rows)


def _of_raw(row: Row) -> Row:
    kept = tuple(limit for limit in row.limits if limit.others == ("original",) or limit.at_most)
    target = row.target.split(",")[0] if kept else ""
    title = row.title.replace(", cold", ", raw, cold") if ", cold" in row.title else f"{row.title}, raw"
    return row._replace(name=f"{row.name}-raw", title=title, target=target, limits=kept)


SECTIONS: dict[str, tuple[Row, ...]] = {
    "Compressed images": (*BUILD, *WALK, *READ, *RANDOM, *CHROOT, *USER, *EXTRACT, *FIO),
    "Images without compression": (*BUILD_RAW, *of_raw((*WALK, *READ, *RANDOM))),
    "Engine": ENGINE,
}
ROWS = {row.name: row for rows in SECTIONS.values() for row in rows}
