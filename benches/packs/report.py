"""Tables of what packs cost and save, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from benches.facts import commits_since
from benches.packs import states
from benches.packs.candidates import AVERAGES, CANDIDATES, CHOSEN, CHUNKS, LARGE, Images
from benches.packs.kept import Kept, Topic
from benches.report import table
from benches.rows import KIB, MIB

SHOWN = (CHUNKS.name, CHOSEN.name, f"{CHOSEN.name}-reuse", f"{CHOSEN.name}-path", "squashfs", "erofs", "tar", "casync")
READS = {"build": "build", "find": "`find -ls`", "tar": "read everything", "random": "1,000 random files"}
Check = tuple[str, str, bool]


def targets(kept: Kept) -> str:
    """Return what the choice has to reach, and what it reaches."""
    found = [*size_checks(kept.topics["series"]), *read_checks(kept.topics["reads"]), *large_checks(kept)]
    return table(["target", "reached", ""], [[what, how, "met" if met else "**missed**"] for what, how, met in found])


def size_checks(series: Topic) -> Iterator[Check]:
    """Yield the targets about sizes; those of which a figure is missing are left out."""
    if not {CHOSEN.name, CHUNKS.name, "squashfs"} <= series.keys():
        return
    ours, chunks = series[CHOSEN.name], series[CHUNKS.name]
    first = ours["bytes"][0] / series["squashfs"]["bytes"][0]
    yield "first image ≤ 0.95x mksquashfs, zstd 3, 128 KiB", f"{first:.2f}x", first <= 0.95
    total = sum(ours["bytes"]) / sum(chunks["bytes"])
    yield "the series ≤ one blob a chunk", f"{total:.2f}x", total <= 1
    updates = sum(ours["bytes"][1:]) / sum(chunks["bytes"][1:])
    yield "bytes of all updates ≤ 1.5x one blob a chunk", f"{updates:.2f}x", updates <= 1.5
    blobs = chunks["blobs"][0] / ours["blobs"][0]
    yield "blobs of an image ≤ 1/10 of its chunks", f"1/{blobs:.1f}", blobs >= 10


def read_checks(reads: Topic) -> Iterator[Check]:
    """Yield the targets about time: no slower than one blob a chunk."""
    if not {CHOSEN.name, CHUNKS.name} <= reads.keys():
        return
    for what, title in READS.items():
        times = median(reads[CHOSEN.name][what]) / median(reads[CHUNKS.name][what])
        # What differs by less than two in a hundred does not differ from round to round either.
        yield f"{title}: no slower than one blob a chunk", f"{times:.2f}x the time", times <= 1.02


def large_checks(kept: Kept) -> Iterator[Check]:
    """Yield the targets about much data."""
    values = kept.topics["unique"].get(LARGE.name, {})
    if "manifest" in values:
        size, amount = values["manifest"][0], values["content"][0]
        yield f"manifest of {amount / 1e9:.0f} GB < 2 MiB", f"{size / MIB:.2f} MiB", size < 2 * MIB
    if "mount the copy" in values:
        yield "through skopeo and a registry, pinned", "every byte the same", True


def sizes(kept: Kept, names: Sequence[str], topic: str = "series") -> str:
    """Return a row for each candidate: bytes, blobs, manifest."""
    found = kept.topics[topic]
    chunks = found.get(CHUNKS.name, {})
    head = ["", "first image, MB", "all updates, MB", "in all, MB", "blobs, first", "blobs, in all", "manifest, KB"]
    body = []
    for name in names:
        if name in found:
            values = found[name]
            parts = (values["bytes"][:1], values["bytes"][1:], values["bytes"])
            of_chunks = (chunks["bytes"][:1], chunks["bytes"][1:], chunks["bytes"]) if chunks else parts
            cells = [times(sum(part), sum(other)) for part, other in zip(parts, of_chunks, strict=True)]
            body.append([CANDIDATES[name].title, *cells, *counts(values)])
    return table(head, body)


def times(value: float, chunks: float) -> str:
    """Return megabytes, and how many times those of one blob a chunk."""
    return f"{value / 1e6:,.1f} ({value / chunks:.2f}x)"


def counts(values: dict[str, list[float]]) -> list[str]:
    """Return what is told of images of ours."""
    if "blobs" not in values:
        return ["", "", ""]
    return [f"{values['blobs'][0]:,.0f}", f"{values['store'][-1]:,.0f}", f"{values['manifest'][0] / 1e3:,.0f}"]


def updates(kept: Kept) -> str:
    """Return a row for each state: the bytes that it adds, by candidate."""
    found = kept.topics["series"]
    names = [name for name in SHOWN if name in found]
    body = []
    for place, state in enumerate(states.SERIES):
        cells = [f"{found[name]['bytes'][place] / 1e6:,.1f}" for name in names]
        body.append([state.title, *cells])
    return table(["MB", *(CANDIDATES[name].title for name in names)], body)


def grid(kept: Kept) -> str:
    """Return the sizes of every average with every frame policy."""
    names = [CHUNKS.name, *(peer.name for peer in CANDIDATES.values() if is_in_grid(peer))]
    return sizes(kept, names)


def is_in_grid(peer: object) -> bool:
    """Whether a candidate is a pack average with a frame policy, and nothing else."""
    return isinstance(peer, Images) and bool(peer.average) and peer.order is None and not peer.reuse


def orders(kept: Kept) -> str:
    """Return the sizes by path order, for each average, beside the default order."""
    names = [Images(average, 512 * KIB, order).name for average in AVERAGES for order in (None, "path")]
    return sizes(kept, [CHUNKS.name, *names])


def reads(kept: Kept) -> str:
    """Return the median times of reading the first image, and of building it."""
    found = kept.topics["reads"]
    body = []
    for name in (name for name in CANDIDATES if found.get(name)):
        cells = [spread(found[name].get(what, [])) for what in READS]
        body.append([CANDIDATES[name].title, *cells])
    return table(["seconds", *READS.values()], body)


def spread(values: Sequence[float]) -> str:
    """Return the median with the lowest and the highest value."""
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})" if values else ""


def large(kept: Kept) -> str:
    """Return what was measured of much data."""
    values = kept.topics["unique"].get(LARGE.name, {})
    units = {"content": "MB", "build, memory": "MB", "stored": "MB", "manifest": "KB", "files": "", "blobs": ""}
    scale = {"MB": 1e6, "KB": 1e3}
    body = []
    for what, (value,) in values.items():
        unit = units.get(what, "s")
        body.append([what, f"{value / scale.get(unit, 1):,.{0 if unit != 's' else 2}f} {unit}".strip()])
    return table(["", ""], body)


def runs(kept: Kept) -> str:
    """Return how many candidates were measured at which commit, and how many have changed the program since."""
    found: dict[tuple[str, str], list[str]] = {}
    for topic, candidates in kept.topics.items():
        for name in candidates:
            commit, when = kept.runs.get(f"{topic}/{name}", ["unknown", ""])
            found.setdefault((topic, commit), []).append(when)
    body = []
    for (topic, commit), times in found.items():
        since = commits_since(commit)
        changes = "unknown" if since is None else str(since or "")
        body.append([topic, str(len(times)), commit, changes, f"{min(times)} to {max(times)}" if min(times) else ""])
    return table(["part", "candidates", "commit", "changes since", "measured (UTC)"], body)
