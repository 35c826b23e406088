"""Ways to read an image on the guest: by a backend's reader, through a mount, by a command."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import util
from pathlib import Path

from puzzlefs._native import load
from puzzlefs.cli import main
from puzzlefs.image import VERIFY_ALWAYS, Image
from puzzlefs.mount import mount
from puzzlefs.unmount import unmount
from tests.guest import contents, store

BACKENDS = ("rust", "python") if util.find_spec("puzzlefs._rust") else ("python",)
_MOUNTPOINT = Path("/tmp/mountpoint")
_CACHE_SIZE = 1 << 20


def run(*words: object) -> tuple[int, str]:
    """Run a command, in this process: starting another takes an emulated machine seconds."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = main([str(word) for word in words])
    return status, said.getvalue()


def read(image: Image, backend: str, path: str, block: int) -> bytes:
    """Return a block of a file of the image, by a new reader that checks every byte."""
    native = load(backend)
    reader = native.Reader(native.Index(image.rootfs), os.fsencode(image.blobs), VERIFY_ALWAYS, _CACHE_SIZE)
    return reader.read(image.resolve(path), block * contents.BLOCK, contents.BLOCK)


@contextmanager
def mounted(image: Image, backend: str) -> Iterator[Path]:
    """Mount an image, pinned as it is, and served by a backend."""
    _MOUNTPOINT.mkdir(exist_ok=True)
    os.environ["PUZZLEFS_BACKEND"] = backend
    mount(image, _MOUNTPOINT)
    try:
        yield _MOUNTPOINT
    finally:
        unmount(_MOUNTPOINT)
        # The first process inherits the one that served the mount, and here has no other.
        os.wait()


def every_file_is_right(root: Path) -> None:
    """Compare a mount with the tree that its image was built from."""
    names = sorted(os.listdir(store.TREE))
    assert sorted(os.listdir(root)) == names
    for name in names:
        assert (root / name).read_bytes() == (store.TREE / name).read_bytes(), name


def refused(kind: type[Exception], text: str, action: Callable[..., object], *arguments: object) -> None:
    """Assert that an action raises an exception of a kind, whose message has a text."""
    try:
        action(*arguments)
    except kind as error:
        said = str(error)
    else:
        raise AssertionError(f"{action.__name__} did not raise {kind.__name__}")
    assert text in said, said
