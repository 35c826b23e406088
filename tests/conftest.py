"""Fixtures that every test may use: the backends, and the golden vectors."""

from __future__ import annotations

import io
import os
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

from puzzlefs._native import Backend, load
from tests.support import VECTORS, read_manifest, vector_trees

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Debian 12's Python 3.11.2 knows no filters, later ones insist on one.
_TRUSTING: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}

# The same examples in every run: a failure is a change of the code, never of luck.
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, database=None)
settings.register_profile("search", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# A shell's job in the background ignores interrupts, and so would every program that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what builds of the program leave for later ones out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def _load(name: str) -> Backend:
    """Return a backend; the compiled one may be missing only where the run says that it is pure."""
    try:
        return load(name)
    except ImportError:
        if name == "rust" and os.environ.get("PUZZLEFS_TEST_PURE") == "1":
            pytest.skip("PUZZLEFS_TEST_PURE=1: the compiled backend is not tested")
        raise


@pytest.fixture(scope="session", params=["rust", "python"])
def backend_name(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn."""
    name: str = request.param
    _load(name)
    return name


@pytest.fixture(scope="session")
def backend(backend_name: str) -> Backend:
    """Each backend in turn."""
    return load(backend_name)


class Backends(NamedTuple):
    """Both backends, for tests that compare them."""

    rust: Backend
    python: Backend


@pytest.fixture(scope="session")
def backends() -> Backends:
    """Both backends at once."""
    return Backends(_load("rust"), _load("python"))


class GoldenImage(NamedTuple):
    """An image that the original built: where its blobs are, its rootfs blob, its chunks' names in order."""

    name: str
    blobs: Path
    rootfs: bytes
    chunks: list[str]


def _golden_images(layout: Path, tags: list[str]) -> list[GoldenImage]:
    blobs = layout / "blobs" / "sha256"
    images = []
    for tag in tags:
        _, manifest = read_manifest(layout, tag)
        rootfs, *chunks = [layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
        images.append(GoldenImage(f"{layout.name}:{tag}", blobs, (blobs / rootfs).read_bytes(), chunks))
    return images


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GoldenImage]:
    """Every golden image by layout and tag, unpacked."""
    home = tmp_path_factory.mktemp("golden")
    images: dict[str, GoldenImage] = {}
    for archive in sorted((VECTORS / "images").iterdir()):
        with tarfile.open(fileobj=io.BytesIO(zstd.decompress(archive.read_bytes()))) as tar:
            tar.extractall(home, **_TRUSTING)
        layout = home / archive.name.removesuffix(".tar.zst")
        tags = ["base", "delta"] if "delta" in archive.name else ["v"]
        images |= {image.name: image for image in _golden_images(layout, tags)}
    return images


@pytest.fixture(scope="session")
def golden_trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the golden trees, made anew. Needs root."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes devices and sets owners")
    return vector_trees(tmp_path_factory.mktemp("trees"))


@pytest.fixture
def chosen(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Each backend in turn, in the place of the chosen one for the whole package."""
    import puzzlefs.builder
    import puzzlefs.extract
    import puzzlefs.fsverity
    import puzzlefs.verify  # noqa: F401

    for name, module in list(sys.modules.items()):
        if name.startswith("puzzlefs.") and hasattr(module, "native"):
            monkeypatch.setattr(module, "native", backend)
    return backend
