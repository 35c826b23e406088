"""A digest survives copying: whatever carried the image, the same pin opens, verifies and mounts it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from puzzlefs.builder import BuildOptions, build
from puzzlefs.constants import PACK_SIZE_MIN
from puzzlefs.image import Image
from puzzlefs.verify import VerifyReport
from tests.mounts import mounted, requires_fuse
from tests.support import run_program
from tools.registry import REGISTRY, serving


def skopeo_copy(source: str, destination: str, *options: str) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    run_program("skopeo", "--insecure-policy", "copy", *options, source, destination)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two files, of which one compresses."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "noise").write_bytes(random.Random(1).randbytes(1_500_000))
    (tree / "text").write_bytes(b"the same line again\n" * 20_000)
    return tree


@pytest.fixture(params=[(False, 0), (True, 0), (True, PACK_SIZE_MIN)], ids=["raw", "compressed", "packs"])
def pinned(request: pytest.FixtureRequest, tree: Path, tmp_path: Path) -> str:
    """The digest of an image of the tree, which is the tag `v` of the layout `original`."""
    compression, pack_size = request.param
    result = build(tree, f"{tmp_path}/original:v", BuildOptions(compression=compression, pack_size=pack_size))
    return result.digest


def same_image(layout: Path, pinned: str, tree: Path, mountpoint: Path) -> None:
    """Assert that a copy is the image: its manifest to the byte, its blobs, its files in a mount."""
    image = Image.open(f"{layout}:v", pinned)
    report: VerifyReport = image.verify(pinned)
    assert (report.problems, report.warnings) == ([], [])
    requires_fuse()
    with mounted(f"{layout}:v", mountpoint, pinned) as root:
        for path in tree.iterdir():
            assert (root / path.name).read_bytes() == path.read_bytes()


def test_copied_by_cp(pinned: str, tree: Path, tmp_path: Path) -> None:
    run_program("cp", "-a", tmp_path / "original", tmp_path / "copy")
    same_image(tmp_path / "copy", pinned, tree, tmp_path / "m")


def test_packed_and_unpacked_by_tar(pinned: str, tree: Path, tmp_path: Path) -> None:
    run_program("tar", "-C", tmp_path, "-czf", tmp_path / "archive", "original")
    (tmp_path / "elsewhere").mkdir()
    run_program("tar", "-C", tmp_path / "elsewhere", "-xzf", tmp_path / "archive")
    same_image(tmp_path / "elsewhere" / "original", pinned, tree, tmp_path / "m")


def test_through_a_directory_of_skopeo(pinned: str, tree: Path, tmp_path: Path) -> None:
    skopeo_copy(f"oci:{tmp_path}/original:v", f"dir:{tmp_path}/directory")
    skopeo_copy(f"dir:{tmp_path}/directory", f"oci:{tmp_path}/copy:v")
    same_image(tmp_path / "copy", pinned, tree, tmp_path / "m")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry for one test: its host and port."""
    if not REGISTRY.exists():
        pytest.skip(f"needs Debian's docker-registry in {REGISTRY} (make setup)")
    with serving(tmp_path) as address:
        yield address


def test_through_a_registry(registry: str, pinned: str, tree: Path, tmp_path: Path) -> None:
    skopeo_copy(f"oci:{tmp_path}/original:v", f"docker://{registry}/image:v", "--dest-tls-verify=false")
    skopeo_copy(f"docker://{registry}/image:v", f"oci:{tmp_path}/copy:v", "--src-tls-verify=false")
    same_image(tmp_path / "copy", pinned, tree, tmp_path / "m")
