"""The project's own tools: what proves other things must itself be right."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.compare_trees import differences
from tools.pure_wheel import pure_pyproject


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal trees."""
    for tree in (tmp_path / "one", tmp_path / "other"):
        (tree / "directory").mkdir(parents=True)
        (tree / "file").write_bytes(b"content")
        os.link(tree / "file", tree / "directory/link")
        (tree / "symlink").symlink_to("file")
        for path in (tree / "file", tree / "symlink", tree / "directory", tree):
            os.utime(path, ns=(0, 1_000_000_001), follow_symlinks=False)
    return tmp_path / "one", tmp_path / "other"


def rewrite(tree: Path) -> None:
    """Change one byte and nothing else."""
    (tree / "file").write_bytes(b"contenT")
    os.utime(tree / "file", ns=(0, 1_000_000_001))


def replace_link(tree: Path) -> None:
    """Make the second name of a file a copy of it."""
    (tree / "directory/link").unlink()
    (tree / "directory/link").write_bytes(b"content")
    os.utime(tree / "directory/link", ns=(0, 1_000_000_001))
    os.utime(tree / "directory", ns=(0, 1_000_000_001))


def add_name(tree: Path) -> None:
    """Add a file."""
    (tree / "new").touch()
    os.utime(tree, ns=(0, 1_000_000_001))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (rewrite, ["directory/link: content", "file: content"]),
        (replace_link, ["directory/link: nlink", "file: links", "file: nlink"]),
        (add_name, ["new: name"]),
        (lambda tree: (tree / "file").chmod(0o600), ["directory/link: mode", "file: mode"]),
        (lambda tree: os.utime(tree / "directory", ns=(0, 1_000_000_000)), ["directory: mtime_ns"]),
        (lambda tree: os.utime(tree, ns=(0, 0)), [".: mtime_ns"]),
    ],
)
def test_the_comparer_finds(trees: tuple[Path, Path], change: Callable[[Path], None], found: list[str]) -> None:
    """Each kind of difference is found and named, and nothing beside it."""
    one, other = trees
    assert not differences(one, other)
    change(other)
    assert [str(difference).split(" is ")[0] for difference in differences(one, other)] == found


def test_the_comparer_ignores_what_it_is_told_to(trees: tuple[Path, Path]) -> None:
    """A field in `ignore` is not looked at."""
    (trees[1] / "file").chmod(0o600)
    assert not differences(*trees, ignore={"mode"})


def test_the_derived_pyproject_fails_loudly() -> None:
    """Where pyproject.toml changes shape, the pure wheel is not built from a half-made one."""
    with pytest.raises(SystemExit, match=r"pyproject\.toml"):
        pure_pyproject("[project]\nversion = '1'\n", "1.0")
