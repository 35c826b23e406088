"""The project's own tools: what proves other things must itself be right."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.check_crates import allowed, breaches
from tools.compare_trees import differences
from tools.pure_wheel import pure_pyproject


@pytest.mark.parametrize(
    ("expression", "met"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("", False),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only/MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT AND Zlib", True),
        ("(GPL-3.0-only OR MIT) AND Zlib", True),
        ("(MIT OR Zlib) AND GPL-3.0-only", False),
        ("Zlib WITH GPL-exception", False),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0-only", True),
        ("(MIT", False),
        ("MIT Zlib", False),
    ],
)
def test_a_licence_expression_is_met(expression: str, met: bool) -> None:
    """SPDX: AND before OR, parentheses, exceptions as part of their licence; nonsense is not met."""
    assert allowed(expression, {"MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"}) is met


def crate(name: str = "good", **fields: object) -> dict[str, object]:
    """What cargo's metadata says of a crate, with fields replaced."""
    return {"name": name, "version": "1.0.0", "license": "MIT", "source": "registry+R", "dependencies": []} | fields


@pytest.mark.parametrize(
    ("packages", "breach"),
    [
        ([crate(license=None)], "good 1.0.0: licence None is not allowed"),
        ([crate(source="git+https://example.org")], "good 1.0.0: source git+https://example.org is not allowed"),
        ([crate("bad")], "bad 1.0.0: banned"),
        ([crate(), crate(version="2.0.0")], "good: several versions (1.0.0, 2.0.0)"),
        (
            [crate(source=None, dependencies=[{"name": "loose", "req": "*"}])],
            "good 1.0.0: any version of loose will do for it",
        ),
    ],
)
def test_a_breach_of_the_rules_is_reported(packages: list[dict[str, object]], breach: str) -> None:
    """Each rule of deny.toml has its line."""
    rules = {
        "licenses": {"allow": ["MIT"]},
        "sources": {"allow-registry": ["R"]},
        "bans": {"deny": [{"crate": "bad"}]},
    }
    assert list(breaches(rules, packages)) == [breach]
    assert not list(breaches(rules, [crate(), crate("other", source=None)]))


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
