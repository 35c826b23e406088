"""Both backends leave the same snapshots, see the same changes, and scan with a look as without one."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzlefs._native import Backend
from puzzlefs.rows import ScanRules
from tests.conftest import Backends
from tests.parity.outcome import any_outcome

ALL = ScanRules([], [b"*"], [], True, 0, 0, False)
LATER = 1 << 62
TICK = 0.01

names = st.sampled_from(["a", "b", "c", "d/a", "d/b", "d/e", "d/e/a", "f"])
changes = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "mkdir", "delete", "touch", "chmod", "xattr", "link"]), names, names),
        st.tuples(st.sampled_from(["rename", "hard"]), names, names),
    ),
    max_size=8,
)


def change(root: Path, what: str, name: str, other: str) -> None:
    """Make a change, if it can be made."""
    path, second = root / name, root / other
    try:
        match what:
            case "write":
                path.write_bytes(other.encode())
            case "mkdir":
                path.mkdir(parents=True)
            case "delete":
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            case "touch":
                os.utime(path, (1, 1), follow_symlinks=False)
            case "chmod":
                path.chmod(0o700)
            case "xattr":
                os.setxattr(path, f"user.{other[0]}", other.encode())
            case "link":
                path.symlink_to(other)
            case "rename":
                path.rename(second)
            case "hard":
                os.link(path, second, follow_symlinks=False)
    except OSError:
        return


class Scanned(NamedTuple):
    """What a scan gives, its tree as a vector."""

    vector: tuple[bytes, ...]
    rest: tuple[object, ...]
    snapshot: bytes


def scan(backend: Backend, root: Path, snapshot: bytes | None = None, horizon: int = LATER) -> Scanned:
    look = None if snapshot is None else backend.Look(os.fsencode(root), snapshot)
    tree, *rest, left = backend.scan_tree(os.fsencode(root), [], ALL, horizon, look)
    return Scanned(tuple(tree.vector()), tuple(map(repr, rest)), left)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(first=changes, then=changes)
def test_a_look_changes_nothing_but_the_work(
    first: Sequence[tuple[str, str, str]], then: Sequence[tuple[str, str, str]], backends: Backends
) -> None:
    """Whatever happened to a tree, tables and snapshot are those of a scan that knows nothing."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "d").mkdir()
        for step in first:
            change(root, *step)
        before = scan(backends.rust, root)
        assert scan(backends.python, root) == before
        time.sleep(TICK)
        for step in then:
            change(root, *step)
        after = scan(backends.rust, root)
        for backend in backends:
            assert scan(backend, root, before.snapshot) == after
            assert backend.Look(os.fsencode(root), after.snapshot).is_unchanged
            assert backend.Look(os.fsencode(root), before.snapshot).is_unchanged == (after == before)


def is_unchanged(backend: Backend, root: Path, snapshot: bytes) -> bool:
    return backend.Look(os.fsencode(root), snapshot).is_unchanged


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    (root / "d").mkdir()
    (root / "d" / "file").write_bytes(b"content")
    (root / "link").symlink_to("d")
    os.setxattr(root / "d", "user.key", b"value")
    return root


@given(data=st.data())
def test_a_damaged_snapshot_is_none_or_harmless(tree: Path, data: st.DataObject, backends: Backends) -> None:
    """Cut short, lengthened, or with bytes altered: both backends make the same of it."""
    snapshot = bytearray(scan(backends.rust, tree).snapshot)
    for place in data.draw(st.lists(st.integers(40, len(snapshot) - 1), max_size=3)):
        snapshot[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(snapshot)) | st.just(len(snapshot)))
    content = bytes(snapshot[:end]) + data.draw(st.binary(max_size=2))
    one, other = (any_outcome(is_unchanged, backend, tree, content) for backend in backends)
    assert one == other
    assert one[0] == "value"
    assert any_outcome(scan, backends.rust, tree, content) == any_outcome(scan, backends.python, tree, content)


def test_a_snapshot_by_other_rules_is_no_help(tree: Path, backends: Backends) -> None:
    """Other attributes, other entries, other mount points."""
    snapshot = scan(backends.rust, tree).snapshot
    for rules, mounts in ((ALL._replace(keep=[]), []), (ALL._replace(exclude=[b"file"]), []), (ALL, [b"d"])):
        for backend in backends:
            look = backend.Look(os.fsencode(tree), snapshot)
            answers = [backend.scan_tree(os.fsencode(tree), mounts, rules, LATER, seen) for seen in (look, None)]
            assert answers[0][1:] == answers[1][1:]
            assert answers[0][0].vector() == answers[1][0].vector()


def test_no_inode_is_trusted_that_changed_at_the_horizon(tree: Path, backends: Backends) -> None:
    """Nor any later; what changed before is."""
    times = sorted(path.lstat().st_ctime_ns for path in (tree, *tree.rglob("*")))
    for backend in backends:
        for horizon, expected in ((times[-1], False), (times[-1] + 1, True)):
            snapshot = scan(backend, tree, horizon=horizon).snapshot
            assert backend.Look(os.fsencode(tree), snapshot).is_unchanged is expected


def test_a_root_that_is_not_there_is_told_alike(tmp_path: Path, backends: Backends) -> None:
    """In the words of a scan."""
    one, other = (any_outcome(backend.Look, os.fsencode(tmp_path / "no"), b"") for backend in backends)
    assert one == other
    assert one[0] == "SourceError"
