"""Both backends store files that come through a pipe as they store files of a directory."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from puzzlefs._native import Backend
from puzzlefs.errors import CancelledError, StoreError
from tests.conftest import Backends
from tests.parity.files import plan
from tests.parity.outcome import any_outcome
from tests.parity.test_writer import COMPRESSIONS, make_home
from tests.strategies import noise, repeated

END = b"\xff" * 8


def framed(contents: Sequence[bytes]) -> bytes:
    """Return files as a pipe has them."""
    return b"".join(len(content).to_bytes(8, "little") + content for content in contents)


def through_pipe(writer: Any, content: bytes) -> Any:
    """Run a writer on what a pipe brings, the pipe's end included."""
    reading, writing = os.pipe()

    def feed() -> None:
        try:
            with open(writing, "wb", buffering=0) as file:
                left = memoryview(content)
                while left:
                    left = left[file.write(left) :]
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        return writer.run_pipe(reading)
    finally:
        os.close(reading)
        thread.join()


@pytest.fixture
def contents(tmp_path: Path) -> list[bytes]:
    """Files that are empty, long, repeated and small."""
    return [b"", noise(1, 700_000), b"small", noise(1, 700_000), repeated(2, 150_000), bytes(900_000), b""]


@COMPRESSIONS
def test_a_pipe_gives_what_a_directory_gives(
    backends: Backends, contents: list[bytes], tmp_path: Path, compression: int
) -> None:
    """The same files by either way, through either backend: the same tables, blobs and counts."""
    source = tmp_path / "source"
    source.mkdir()
    for number, content in enumerate(contents):
        (source / f"{number}").write_bytes(content)
    results = []
    for number, backend in enumerate(backends):
        home = make_home(tmp_path / f"directory{number}")
        writer = home.writer(backend, source, compression)
        results.append((writer.run(*plan(source))[:4], home.stored(), writer.progress()))
        home = make_home(tmp_path / f"pipe{number}")
        writer = home.writer(backend, tmp_path / "none", compression)
        *tables, trace = through_pipe(writer, framed(contents) + END)
        results.append((tuple(tables), home.stored(), writer.progress()))
        assert trace == b""

    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("cut", [0, 3, 8, 100, 700_020])
def test_a_pipe_that_ends_early_was_given_up(backend: Backend, contents: list[bytes], tmp_path: Path, cut: int) -> None:
    """Before, inside and after a size, and inside a file: never a smaller image."""
    with pytest.raises(CancelledError):
        through_pipe(make_home(tmp_path / "home").writer(backend, tmp_path), framed(contents)[:cut])


def test_a_store_that_fails_ends_the_run(backend: Backend, tmp_path: Path) -> None:
    """The error is that of the store, however much the pipe would still bring."""
    home = make_home(tmp_path / "home")
    (home / "temporary").rmdir()
    with pytest.raises(StoreError) as caught:
        through_pipe(home.writer(backend, tmp_path), framed([noise(1, 9_000_000)]) + END)
    assert caught.value.errno == errno.ENOENT


def test_a_pipe_that_makes_no_sense_is_refused_alike(backends: Backends, tmp_path: Path) -> None:
    """Sizes beyond a file's, alone and added up; a writer that ran."""
    huge = (1 << 63).to_bytes(8, "little")
    nearly = framed([b"abc"]) + ((1 << 63) - 3).to_bytes(8, "little")
    for content in (huge, nearly):
        said = [
            any_outcome(
                through_pipe, make_home(tmp_path / f"{len(content)}{number}").writer(backend, tmp_path), content
            )
            for number, backend in enumerate(backends)
        ]
        assert said[0] == said[1] == ("ValueError", ("the files of a pipe are too large",))
    for number, backend in enumerate(backends):
        writer = make_home(tmp_path / f"twice{number}").writer(backend, tmp_path)
        through_pipe(writer, END)
        assert any_outcome(through_pipe, writer, END) == ("RuntimeError", ("a stream writer runs once",))
