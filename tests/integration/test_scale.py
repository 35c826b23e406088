"""Sizes at which careless code gives up."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from puzzlefs import constants
from puzzlefs.image import Image
from tests.mounts import mounted, requires_fuse
from tests.support import measured, puzzlefs

pytestmark = pytest.mark.slow


def build(tree: Path, image: str) -> tuple[dict[str, int], int]:
    """Build; return the facts and the most memory that the process had, in bytes."""
    facts = tree.parent / "facts.json"
    with facts.open("wb") as output:
        command = [sys.executable, "-m", "puzzlefs", "build", "--json", tree, image]
        code, said, memory = measured(command, {}, output.fileno())
    assert code == 0, said
    return json.loads(facts.read_bytes()), memory


def test_file_larger_than_the_memory_allowed(tmp_path: Path) -> None:
    """A file of 3 GiB, holes and data, builds in little memory, and reads back at its far end."""
    tree = tmp_path / "tree"
    tree.mkdir()
    size = 3 * constants.GIB
    with (tree / "large").open("wb") as file:
        file.seek(size - 100_000)
        file.write(os.urandom(100_000))
    facts, memory = build(tree, f"{tmp_path}/oci:t")

    assert facts["bytes"] == size
    assert facts["new_bytes"] < 2 * constants.MIB
    assert memory < 150 * constants.MIB
    with Image.open(f"{tmp_path}/oci:t").open("large") as copy, (tree / "large").open("rb") as file:
        for offset in (0, constants.GIB, size - 100_001):
            copy.seek(offset)
            file.seek(offset)
            assert copy.read(200_000) == file.read(200_000)


def test_directory_of_a_hundred_thousand_entries(tmp_path: Path) -> None:
    """A directory of 100,000 files builds in little memory, lists whole, and finds each name."""
    requires_fuse()
    tree = tmp_path / "tree"
    (tree / "wide").mkdir(parents=True)
    for number in range(100_000):
        (tree / "wide" / f"{number}").write_bytes(b"%d" % number)
    facts, memory = build(tree, f"{tmp_path}/oci:t")

    assert facts["files"] == 100_000
    assert memory < 100 * constants.MIB
    with mounted(f"{tmp_path}/oci:t", tmp_path / "mnt") as mountpoint:
        assert sorted(os.listdir(mountpoint / "wide")) == sorted(map(str, range(100_000)))
        assert (mountpoint / "wide" / "99999").read_bytes() == b"99999"
        assert not (mountpoint / "wide" / "100000").exists()


def test_tree_of_deep_directories(tmp_path: Path) -> None:
    """Directories nested 500 deep, beyond the longest path, build and list."""
    tree = tmp_path / "tree"
    tree.mkdir()
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("nested-dir", dir_fd=descriptor)
        below = os.open("nested-dir", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    puzzlefs("build", tree, f"{tmp_path}/oci:t")

    assert [path for path, _ in Image.open(f"{tmp_path}/oci:t").walk()][-1] == b"nested-dir/" * 500 + b"file"
