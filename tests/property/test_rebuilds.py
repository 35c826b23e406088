"""Random trees and random changes: a stream stored with an earlier one's trace is the same without it."""

from __future__ import annotations

import os
import tempfile
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzlefs._native import Backend
from puzzlefs.constants import PACK_SIZE_MIN
from tests.conftest import Backends
from tests.parity.files import plan
from tests.strategies import noise, streams
from tests.support import make_writer

rebuild_settings = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
LATER = 1 << 62
Form = tuple[int, int]
"""(compression, pack size)."""
contents = st.one_of(st.binary(max_size=40), streams(400_000))
names = st.integers(0, 30).map(lambda number: f"{number:02}")
changes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), names, contents),
        st.tuples(st.just("delete"), names),
        st.tuples(st.just("rename"), names, names),
        st.tuples(st.just("scramble"), names, st.integers(0, 1 << 20)),
        st.tuples(st.just("append"), names, st.binary(min_size=1, max_size=3000)),
        st.tuples(st.just("touch"), names),
    ),
    max_size=6,
)


def change(tree: Path, kind: str, name: str, *rest: object) -> None:
    """Make one change, if there is such a file."""
    path = tree / name
    if kind == "write":
        path.write_bytes(rest[0])  # type: ignore[arg-type]
    elif not path.exists():
        return
    elif kind == "delete":
        path.unlink()
    elif kind == "rename":
        path.rename(tree / str(rest[0]))
    elif kind == "append":
        path.write_bytes(path.read_bytes() + rest[0])  # type: ignore[operator]
    elif kind == "touch":
        os.utime(path)
    else:  # same size and modification time, other content
        status = path.stat()
        path.write_bytes(noise(rest[0], status.st_size))  # type: ignore[arg-type]
        os.utime(path, ns=(0, status.st_mtime_ns))


def run(
    backend: Backend, tree: Path, home: Path, form: Form, trace: bytes, groups: Sequence[int]
) -> tuple[tuple[bytes, ...], set[str]]:
    """Store a tree's files in `home`; return the tables, and the names of all blobs there."""
    home.mkdir(exist_ok=True)
    tables = make_writer(backend, tree, home, *form).run(
        *plan(tree), trace, LATER, array("I", sorted(groups)).tobytes()
    )
    return tables, set(os.listdir(home / "blobs"))


@rebuild_settings
@given(
    files=st.dictionaries(names, contents, max_size=12),
    rounds=st.lists(changes, min_size=1, max_size=3),
    form=st.sampled_from([(0, 0), (2, 0), (0, PACK_SIZE_MIN), (2, PACK_SIZE_MIN)]),
    groups=st.lists(st.lists(st.integers(0, 13), max_size=3), min_size=4, max_size=4),
)
def test_a_trace_changes_nothing_but_the_work(
    files: dict[str, bytes],
    rounds: Sequence[Sequence[tuple[str, str]]],
    form: Form,
    groups: Sequence[Sequence[int]],
    backends: Backends,
) -> None:
    """Tables, the next trace and the blobs are those of a build that knows nothing."""
    with tempfile.TemporaryDirectory() as name:
        home, tree = Path(name), Path(name) / "tree"
        tree.mkdir()
        for path, content in files.items():
            (tree / path).write_bytes(content)
        traces = [
            run(backend, tree, home / f"kept{number}", form, b"", groups[3])[0][4]
            for number, backend in enumerate(backends)
        ]
        assert traces[0] == traces[1]
        for number, steps in enumerate(rounds):
            time.sleep(0.01)  # beyond the tick of the clock in which the files were read
            for step in steps:
                change(tree, *step)
            fresh, blobs = run(backends.rust, tree, home / f"fresh{number}", form, b"", groups[number])
            for kept, backend in enumerate(backends):
                tables, stored = run(backend, tree, home / f"kept{kept}", form, traces[kept], groups[number])
                traces[kept] = tables[4]

                assert tables == fresh
                assert blobs <= stored
