"""One store with images in packs, in a blob for each chunk and in the original's form, and deltas of each upon each."""

from __future__ import annotations

import os
import random
import shutil
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from puzzlefs._native import Backend
from puzzlefs.builder import BuildOptions, Profile, build
from puzzlefs.constants import PACK_SIZE_MIN
from puzzlefs.convert import convert, convert_back
from puzzlefs.extract import extract
from puzzlefs.image import Image
from puzzlefs.store import Store
from puzzlefs.verify_store import verify_store
from tests.described import differing
from tests.mounts import mounted, requires_fuse
from tests.support import read_manifest
from tools.compare_trees import differences

FORMS = {
    "packs": BuildOptions(compression=True, pack_size=PACK_SIZE_MIN),
    "chunks": BuildOptions(compression=True, pack_size=0),
    "original": BuildOptions(profile=Profile.UPSTREAM),
}
DELTAS = [f"{form}-upon-{base}" for form, base in product(FORMS, FORMS)]
REUSING = [f"{form}-reusing-{base}" for form, base in product(("packs", "chunks"), FORMS)]
IMAGES = [*FORMS, *DELTAS, *REUSING]
# The original's deltas list their own tree's blobs (docs/format.md, §1), the others all that they need.
WHOLE = [name for name in IMAGES if not name.startswith("original-upon")]


class Mixed(NamedTuple):
    """The store, and what its images hold: `tree` those without a base, `changed` the others."""

    layout: Path
    tree: Path
    changed: Path
    pins: dict[str, str]

    def tree_of(self, name: str) -> Path:
        return self.tree if name in FORMS else self.changed

    def opened(self, name: str) -> Image:
        return Image.open(f"{self.layout}:{name}", self.pins[name])


def untold(name: str) -> set[str]:
    """What an image does not keep: the original has no times."""
    return {"mtime_ns"} if name.startswith("original") else set()


def build_all(layout: Path, tree: Path, changed: Path) -> dict[str, str]:
    """Build every image into one store; return what they can be pinned by."""
    pins = {form: build(tree, f"{layout}:{form}", options).digest for form, options in FORMS.items()}
    for name in DELTAS:
        form, _, base = name.split("-")
        pins[name] = build(changed, f"{layout}:{name}", FORMS[form]._replace(base=base)).digest
    for name in REUSING:
        form, _, other = name.split("-")
        options = FORMS[form]._replace(reuse=[f"{layout}:{other}"])
        pins[name] = build(changed, f"{layout}:{name}", options).digest
    return pins


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    """Files larger and smaller than chunks and packs, with and without redundancy; a few of them change."""
    home = tmp_path_factory.mktemp("mixed")
    tree, changed = home / "tree", home / "changed"
    (tree / "small").mkdir(parents=True)
    chance = random.Random(1)
    (tree / "noise").write_bytes(chance.randbytes(700_000))
    (tree / "text").write_bytes(b"".join(b"line %d of the text\n" % number for number in range(30_000)))
    for number in range(40):
        (tree / f"small/{number}").write_bytes(chance.randbytes(chance.randrange(9000)).hex().encode())
    os.link(tree / "text", tree / "text again")
    shutil.copytree(tree, changed, copy_function=shutil.copy2)
    (changed / "text again").unlink()
    os.link(changed / "text", changed / "text again")
    with open(changed / "noise", "r+b") as file:
        file.seek(350_000)
        file.write(b"changed")
    (changed / "small/7").unlink()
    (changed / "new").write_bytes(chance.randbytes(100_000))
    return Mixed(home / "oci", tree, changed, build_all(home / "oci", tree, changed))


def blobs_of(layout: Path, tag: str) -> set[str]:
    """The blobs that a manifest lists, the rootfs left out."""
    return {layer["digest"] for layer in read_manifest(layout, tag)[1]["layers"][1:]}


def test_both_backends_write_the_same_store(chosen: Backend, mixed: Mixed, tmp_path: Path) -> None:
    assert build_all(tmp_path / "oci", mixed.tree, mixed.changed) == mixed.pins
    again, before = ({*os.listdir(layout / "blobs/sha256")} for layout in (tmp_path / "oci", mixed.layout))
    assert again == before


def test_the_whole_store_verifies(chosen: Backend, mixed: Mixed) -> None:
    report = verify_store(mixed.layout)
    assert report.problems == []
    assert [(name, checked.ok) for name, checked in report.images] == [(name, True) for name in IMAGES]


@pytest.mark.parametrize("name", IMAGES)
def test_each_image_verifies_pinned_and_extracts(chosen: Backend, mixed: Mixed, tmp_path: Path, name: str) -> None:
    image = mixed.opened(name)
    report = image.verify(mixed.pins[name])
    assert report.problems == []
    assert (report.warnings == []) == (name in WHOLE)
    assert extract(image, tmp_path / "out").skipped == []
    assert differences(mixed.tree_of(name), tmp_path / "out", untold(name)) == []


@pytest.mark.parametrize("name", IMAGES)
def test_each_image_mounts_pinned(mixed: Mixed, tmp_path: Path, name: str) -> None:
    requires_fuse()
    with mounted(f"{mixed.layout}:{name}", tmp_path / "m", mixed.pins[name]) as root:
        assert differences(mixed.tree_of(name), root, untold(name)) == []


@pytest.mark.parametrize("name", WHOLE)
def test_a_manifest_lists_all_that_its_image_needs(mixed: Mixed, tmp_path: Path, name: str) -> None:
    """Whatever else the store holds: only what is listed goes through a registry."""
    entry, manifest = read_manifest(mixed.layout, name)
    copy = Store.create(tmp_path / "copy")
    for listed in (entry, manifest["config"], *manifest["layers"]):
        file = listed["digest"].removeprefix("sha256:")
        shutil.copy(mixed.layout / "blobs/sha256" / file, copy.blobs / file)
    copy.tag(name, mixed.opened(name).descriptor)
    assert verify_store(tmp_path / "copy").problems == []


@pytest.mark.parametrize("name", IMAGES)
def test_layers_and_back_are_the_same_tree(mixed: Mixed, tmp_path: Path, name: str) -> None:
    image = mixed.opened(name)
    convert_back(image, f"{tmp_path}/layers:v")
    convert(f"{tmp_path}/layers:v", f"{tmp_path}/again:v")
    assert differing(image, f"{tmp_path}/again:v") == []


@pytest.mark.parametrize("base", FORMS)
def test_the_original_form_has_no_packs_upon_any_base(mixed: Mixed, base: str) -> None:
    """Each blob is a chunk of the new tree's stream, however its base keeps those that it has already."""
    assert len(blobs_of(mixed.layout, "original")) == len(blobs_of(mixed.layout, "chunks"))
    alone = blobs_of(mixed.layout, "original-upon-original")
    assert blobs_of(mixed.layout, f"original-upon-{base}") == alone


@pytest.mark.parametrize("name", ["packs-upon-packs", "packs-upon-chunks", "packs-upon-original", *REUSING])
def test_what_was_there_is_not_stored_again(mixed: Mixed, name: str) -> None:
    """Beside what it refers to, an image adds what has changed and the chunks around it."""
    other = name.rpartition("-")[2]
    added = blobs_of(mixed.layout, name) - blobs_of(mixed.layout, other)
    size = sum((mixed.layout / "blobs/sha256" / digest.removeprefix("sha256:")).stat().st_size for digest in added)
    assert 100_000 < size < 400_000
