"""Layers of any content: what umoci makes of them, back and forth, and after any damage."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzlefs.builder import BuildOptions, build
from puzzlefs.convert import LayerCompression, ReverseOptions, convert, convert_back
from puzzlefs.convert.changes import TreeView, changes
from puzzlefs.convert.tar_writer import tar_archive
from puzzlefs.errors import PuzzleFSError
from puzzlefs.image import Image
from tests.described import described
from tests.layers import converted, directory, entry, file, layer, link, symlink, write_layout, zstd

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(PATHS, PATHS.map(lambda path: f"/{path}"), st.just(".."), st.just("."))


@st.composite
def entries(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    """Draw an entry of a few possible names, so that layers often touch the same ones."""
    path = draw(PATHS)
    above, _, name = path.rpartition("/")
    mtime = draw(st.integers(1, 1 << 30))
    match draw(st.sampled_from("ffdslwoc")):
        case "f":
            return file(path, draw(st.binary(max_size=20)), mtime=mtime, uid=draw(st.integers(0, 9)))
        case "d":
            return directory(path, mtime=mtime, mode=draw(st.sampled_from([0o755, 0o1777])))
        case "s":
            return symlink(path, draw(TARGETS))
        case "l":
            return link(path, draw(PATHS))
        case "w":
            return file(f"{above}/.wh.{name}", b"")
        case "o":
            return file(f"{path}/.wh..wh..opq", b"")
        case _:
            return entry(path, tarfile.CHRTYPE, devmajor=1, devminor=draw(st.integers(0, 9)), mtime=mtime)


LAYERS = st.lists(st.lists(entries(), max_size=6).map(lambda found: layer(*found)), min_size=1, max_size=3)


def without_clock_times(
    tree: dict[bytes, tuple[Any, ...]], clock: dict[bytes, tuple[Any, ...]], now: int
) -> dict[bytes, tuple[Any, ...]]:
    """Forget the times that umoci left to the clock: of directories that no entry describes, and of their parents."""
    return {path: said if clock[path][4] < now else (*said[:4], *said[6:]) for path, said in tree.items()}


@pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes devices and sets owners")
@settings(max_examples=60)
@given(LAYERS)
def test_an_image_is_what_umoci_unpacks(archives: list[bytes]) -> None:
    """The same tree, inode for inode, or a refusal where umoci refuses."""
    with tempfile.TemporaryDirectory() as home:
        name = write_layout(Path(home, "source"), *archives, form="+gzip")
        now = int(time.time())
        done = subprocess.run(["umoci", "unpack", "--image", name, f"{home}/bundle"], capture_output=True, check=False)
        try:
            convert(name, f"{home}/store:converted")
        except PuzzleFSError:
            assert done.returncode != 0
            return
        if done.returncode != 0:
            # umoci 0.4.7 stops where a file is to be a directory; later ones put the directory in its place.
            assert b"not a directory" in done.stderr, done.stderr
            return
        build(Path(home, "bundle/rootfs"), f"{home}/store:built", BuildOptions(cache=None))
        ours, theirs = described(f"{home}/store:converted"), described(f"{home}/store:built")
        assert ours.keys() == theirs.keys()
        assert without_clock_times(ours, theirs, now) == without_clock_times(theirs, theirs, now)


@settings(max_examples=60)
@given(LAYERS, st.sampled_from(LayerCompression))
def test_back_and_forth_is_the_same(archives: list[bytes], compression: LayerCompression) -> None:
    """An image of the layers that an image was converted back into is that image's tree."""
    with tempfile.TemporaryDirectory() as home:
        try:
            image = converted(Path(home), *archives)
        except PuzzleFSError:
            return
        convert_back(image, f"{home}/back:t", ReverseOptions(compression))
        convert(f"{home}/back:t", f"{home}/store:again")
        assert described(image) == described(f"{home}/store:again")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes devices and sets owners")
@settings(max_examples=40)
@given(st.lists(LAYERS, min_size=2, max_size=3))
def test_deltas_back_and_forth_are_the_same(versions: list[list[bytes]]) -> None:
    """Deltas upon each other, each from one tree to any other, become layers with that result."""
    with tempfile.TemporaryDirectory() as home:
        base = None
        for number, archives in enumerate(versions):
            try:
                tree = converted(Path(home, str(number)), *archives)
            except PuzzleFSError:
                return
            tree.extract(f"{home}/tree{number}")
            build(f"{home}/tree{number}", f"{home}/store:{number}", BuildOptions(base=base, cache=None))
            base = str(number)
        image = Image.open(f"{home}/store:{base}")
        convert_back(image, f"{home}/back:t")
        convert(f"{home}/back:t", f"{home}/store:again")
        assert described(image) == described(f"{home}/store:again")


def layer_between(lower: Image, upper: Image) -> bytes:
    """Return the archive of what turns one image into another."""
    return b"".join(tar_archive(changes(TreeView(lower.index), TreeView(upper.index)), upper.reader(), []))


@settings(max_examples=60)
@given(LAYERS, st.lists(entries(), max_size=4))
def test_a_layer_of_what_changed_is_all_that_it_takes(archives: list[bytes], changed: list[Any]) -> None:
    """Upon the image below it gives the image above, whatever few entries are between them."""
    with tempfile.TemporaryDirectory() as home:
        try:
            lower = converted(Path(home, "lower"), *archives)
            upper = converted(Path(home, "upper"), *archives, layer(*changed))
        except PuzzleFSError:
            return
        again = converted(Path(home, "again"), *archives, layer_between(lower, upper))
        assert described(upper) == described(again)


# Without content, files that are no links of each other are told apart by their names alone.
LINKS: dict[str, tuple[list[Any], list[Any]]] = {
    "one more name": ([file("a", b"")], [link("b", "a")]),
    "one name less": ([file("a", b""), link("b", "a"), link("c", "a")], [file(".wh.b", b"")]),
    "the first name less": ([file("a", b""), link("b", "a"), link("c", "a")], [file(".wh.a", b"")]),
    "split": ([file("a", b""), link("b", "a"), link("c", "a")], [file("b", b"")]),
    "split, the first": ([file("a", b""), link("b", "a"), link("c", "a")], [file("a", b"")]),
    "another of the same content": ([file("a", b""), link("b", "a"), file("c", b"")], [link("b", "c")]),
    "a directory instead": ([file("a", b""), link("b", "a")], [directory("b"), link("b/c", "a")]),
    "a link to a link": ([symlink("a", "x"), file("x", b"")], [link("b", "a")]),
}


@pytest.mark.parametrize("name", LINKS)
def test_hard_links_are_told_whole(tmp_path: Path, name: str) -> None:
    """Which names are one file is right however their number changes."""
    below, above = (layer(*part) for part in LINKS[name])
    lower = converted(tmp_path / "lower", below)
    upper = converted(tmp_path / "upper", below, above)

    again = converted(tmp_path / "again", below, layer_between(lower, upper))

    assert described(upper) == described(again)


SOUND = layer(
    *(file(f"d/{number}", bytes([number]) * number * 40) for number in range(6)),
    file("p" * 150, b"long", pax_headers={"SCHILY.xattr.user.a": "b", "mtime": "5.5"}),
    file("s", b"x" * 512, pax_headers={"GNU.sparse.map": "0,512", "GNU.sparse.size": "1000"}),
    link("l", "d/1"),
    symlink("k", "d"),
    file("k/.wh.2", b""),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(SOUND)))
def test_any_damage_is_an_error_of_ours_or_none(changes: list[tuple[int, int]], length: int) -> None:
    """Bytes changed anywhere, the end cut off anywhere: an image, or one sentence; never anything else."""
    damaged = bytearray(SOUND)
    for at, value in changes:
        damaged[at] = value
    cut = bytes(damaged[:length]) if length % 3 == 0 else bytes(damaged)
    with tempfile.TemporaryDirectory() as home:
        try:
            image = converted(Path(home), cut)
        except PuzzleFSError:
            return
        assert image.verify().ok


COMPRESSED = {"gzip": gzip.compress(SOUND, mtime=0), "zstd": zstd.compress(SOUND), "xz": lzma.compress(SOUND)}


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(COMPRESSED)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3),
    st.floats(0, 1),
)
def test_damage_to_compressed_bytes_is_no_other(name: str, changes: list[tuple[float, int]], part: float) -> None:
    """Whatever decompresses them says so by an error of ours, within the limits of memory and size."""
    damaged = bytearray(COMPRESSED[name])
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    if not changes:
        del damaged[int(part * len(damaged)) :]
    with tempfile.TemporaryDirectory() as home:
        try:
            image = converted(Path(home), bytes(damaged), diff_ids=None)
        except PuzzleFSError:
            return
        assert image.verify().ok
