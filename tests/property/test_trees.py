"""Random trees: what is built reads back, alone and as a delta upon another tree."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import puzzlefs
from puzzlefs.builder import BuildOptions, Profile
from puzzlefs.image import Image
from tests.strategies import streams

pytestmark = pytest.mark.usefixtures("chosen")
# The fixture only chooses a backend; every example has directories of its own.
tree_settings = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

names = st.sampled_from([b"a", b"b", b"c", b"A", b"z" * 255, b"\xff\xfe", b"sp ace\n"])
modes = st.sampled_from([0o644, 0o600, 0o4755, 0o2750, 0o1777, 0o000])


@dataclass(frozen=True)
class Entry:
    """One name of a random tree; `of` of a link to a file is the path that it shares an inode with."""

    kind: str
    mode: int
    mtime_ns: int
    content: bytes = b""
    of: int = 0
    children: dict[bytes, Any] = field(default_factory=dict)


times = st.integers(-(10**18), 4 * 10**18)
leaves = st.one_of(
    st.builds(Entry, st.just("file"), modes, times, st.one_of(st.binary(max_size=40), streams(300_000))),
    st.builds(Entry, st.just("symlink"), modes, times, st.sampled_from([b"a", b"/", b"../x", b"\xff", b"t" * 4095])),
    st.builds(Entry, st.just("fifo"), modes, times),
    st.builds(Entry, st.just("link"), modes, times, of=st.integers(0, 9)),
)


def directories(children: st.SearchStrategy[Entry]) -> st.SearchStrategy[Entry]:
    """Return directories of given children."""
    held = st.dictionaries(names, children, max_size=5)
    return st.builds(Entry, st.just("dir"), st.sampled_from([0o755, 0o700, 0o1777]), times, children=held)


roots = directories(st.recursive(leaves, directories, max_leaves=12))


def make(root: bytes, entry: Entry, made: list[bytes]) -> None:
    """Make a tree on disk; `made` collects files, for links to choose from."""
    if entry.kind == "dir":
        os.mkdir(root)
        for name, child in sorted(entry.children.items()):
            make(root + b"/" + name, child, made)
    elif entry.kind == "symlink":
        os.symlink(entry.content, root)
    elif entry.kind == "fifo":
        os.mkfifo(root)
    elif entry.kind == "link" and made:
        os.link(made[entry.of % len(made)], root)
        return
    else:
        Path(os.fsdecode(root)).write_bytes(entry.content)
        made.append(root)
    if entry.kind != "symlink":
        os.chmod(root, entry.mode)
    os.utime(root, ns=(0, entry.mtime_ns), follow_symlinks=False)


def on_disk(root: bytes) -> dict[bytes, tuple[Any, ...]]:
    """Return what a tree on disk is: for each path its fields, content, and first name of its inode."""
    first: dict[int, bytes] = {}
    found = {}
    for path in walk(root):
        status = os.lstat(root + path)
        kind = stat.S_IFMT(status.st_mode)
        content: bytes | None = None
        if kind == stat.S_IFREG:
            content = Path(os.fsdecode(root + path)).read_bytes()
        elif kind == stat.S_IFLNK:
            content = os.readlink(root + path)
        same = path if kind == stat.S_IFDIR else first.setdefault(status.st_ino, path)
        found[path] = (
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            content,
            same,
        )
    return found


def walk(root: bytes) -> list[bytes]:
    paths = [b""]
    for directory, below, files in os.walk(root):
        paths += [(directory + b"/" + name)[len(root) :] for name in [*below, *files]]
    return sorted(paths)


def in_image(image: Image) -> dict[bytes, tuple[Any, ...]]:
    """Return the same of an image."""
    filesystem = image.filesystem
    first: dict[int, bytes] = {}
    found = {}
    for path, ino in sorted([(b"", 1), *((b"/" + path, ino) for path, ino in image.walk())]):
        attributes = filesystem.getattr(ino)
        kind = stat.S_IFMT(attributes.mode)
        content: bytes | None = None
        if kind == stat.S_IFREG:
            content = filesystem.read(ino, 0, attributes.size + 1)
            assert len(content) == attributes.size
        elif kind == stat.S_IFLNK:
            content = filesystem.readlink(ino)
        same = path if kind == stat.S_IFDIR else first.setdefault(ino, path)
        mode = stat.S_IMODE(attributes.mode)
        found[path] = (kind, mode, attributes.uid, attributes.gid, attributes.mtime_ns, content, same)
    return found


class Home:
    """A directory for one example, with a store in it."""

    def __enter__(self) -> Self:
        self.path = tempfile.mkdtemp(prefix="puzzlefs-test-")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path)

    def tree(self, name: str, root: Entry) -> bytes:
        path = os.fsencode(f"{self.path}/{name}")
        make(path, root, [])
        return path

    def build(self, tree: bytes, tag: str, **options: Any) -> Image:
        puzzlefs.build(os.fsdecode(tree), f"{self.path}/oci:{tag}", BuildOptions(**options))
        return Image.open(f"{self.path}/oci:{tag}")


@tree_settings
@given(root=roots, compression=st.booleans())
def test_random_tree_reads_back(root: Entry, compression: bool) -> None:
    """Every field, byte and hard link of a random tree is in its image."""
    with Home() as home:
        tree = home.tree("tree", root)

        assert in_image(home.build(tree, "t", compression=compression)) == on_disk(tree)


@tree_settings
@given(below=roots, above=roots, profile=st.sampled_from([*Profile]), compression=st.booleans())
def test_delta_reads_as_its_tree(below: Entry, above: Entry, profile: Profile, compression: bool) -> None:
    """A delta upon any other tree shows its own tree: deletions, additions, changed types, split links."""
    with Home() as home:
        home.build(home.tree("below", below), "below", profile=profile)
        tree = home.tree("above", above)
        expected = on_disk(tree)
        if profile is Profile.UPSTREAM:
            expected = {path: (*fields[:4], 0, *fields[5:]) for path, fields in expected.items()}
        image = home.build(tree, "above", base="below", profile=profile, compression=compression)

        assert in_image(image) == expected
        if profile is Profile.OCI:
            assert image.verify().problems == []


@tree_settings
@given(first=roots, second=roots)
def test_deleted_and_added_again(first: Entry, second: Entry) -> None:
    """Three states upon each other, the last equal to the first, read as the first."""
    with Home() as home:
        tree = home.tree("first", first)
        home.build(tree, "a")
        home.build(home.tree("second", second), "b", base="a")

        assert in_image(home.build(tree, "c", base="b")) == on_disk(tree)


@tree_settings
@given(root=roots)
def test_unchanged_tree_adds_no_layer(root: Entry) -> None:
    """A delta of the same tree has its base's rootfs blob."""
    with Home() as home:
        tree = home.tree("tree", root)

        assert home.build(tree, "b", base=None).rootfs == home.build(tree, "c", base="b").rootfs


@tree_settings
@given(root=roots, jobs=st.integers(1, 5))
def test_digest_does_not_depend_on_jobs_or_backend(root: Entry, jobs: int, backends: Any, monkeypatch: Any) -> None:
    """Whoever builds with however many threads gets one manifest."""
    with Home() as home:
        tree = home.tree("tree", root)
        digests = set()
        for backend in backends:
            for module in ("builder", "image", "rootfs", "stream"):
                monkeypatch.setattr(f"puzzlefs.{module}.native", backend)
            digests.add(home.build(tree, "t", jobs=jobs, compression=True).descriptor.digest)

        assert len(digests) == 1
