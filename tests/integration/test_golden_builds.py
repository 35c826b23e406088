"""Profile `upstream` gives byte for byte what the original gives (tests/vectors)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import puzzlefs, read_manifest, requires_root, vector_trees

VECTORS = Path(__file__).parent.parent / "vectors"
EXPECTED: dict[str, Any] = json.loads((VECTORS / "expected.json").read_text())
PLAIN = sorted(name for name in EXPECTED if not name.startswith("delta:"))


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    requires_root()
    return vector_trees(tmp_path_factory.mktemp("trees"))


def described(printed: str, layout: Path, tag: str) -> dict[str, Any]:
    """Return what expected.json says of an image, for an image we built."""
    entry, manifest = read_manifest(layout, tag)
    rootfs = manifest["layers"][0]
    verity = rootfs["annotations"]["io.puzzlefsoci.puzzlefs.puzzlefs_verity_root_hash"]
    return {
        "printed": printed.strip().removeprefix("puzzlefs image manifest digest: "),
        "manifest_sha256": entry["digest"].removeprefix("sha256:"),
        "manifest_size": entry["size"],
        "rootfs": {"sha256": rootfs["digest"].removeprefix("sha256:"), "size": rootfs["size"], "verity": verity},
        "filedata": [[layer["digest"].removeprefix("sha256:"), layer["size"]] for layer in manifest["layers"][1:]],
    }


@pytest.mark.parametrize("name", PLAIN)
def test_image_is_the_originals(name: str, trees: Path, tmp_path: Path, backend_name: str) -> None:
    """A golden tree built with profile upstream has the original's digests, blob for blob."""
    tree, _, form = name.partition("/")
    flags = ["-c"] if form == "zstd" else []

    printed = puzzlefs(
        "build",
        "--profile",
        "upstream",
        "--platform",
        "linux/amd64",
        *flags,
        trees / tree,
        f"{tmp_path}/oci:v",
        backend=backend_name,
    )

    assert described(printed, tmp_path / "oci", "v") == EXPECTED[name]


def test_delta_is_the_originals(trees: Path, tmp_path: Path, backend_name: str) -> None:
    """A delta with deletions, an addition and a rewritten file is the original's, and so is the index."""
    changed = tmp_path / "changed"
    subprocess.run(["cp", "-a", trees / "kinds", changed], check=True)
    shutil.rmtree(changed / "a" / "b")
    (changed / "null").unlink()
    (changed / "hello2").write_bytes(b"changed\n")
    (changed / "owned").write_bytes(b"new content\n")
    layout = tmp_path / "oci"
    common = ["--profile", "upstream", "--platform", "linux/amd64"]

    base = puzzlefs("build", *common, trees / "kinds", f"{layout}:base", backend=backend_name)
    delta = puzzlefs("build", *common, "-b", "base", changed, f"{layout}:delta", backend=backend_name)

    assert described(base, layout, "base") == EXPECTED["delta:base/raw"]
    assert described(delta, layout, "delta") == EXPECTED["delta:delta/raw"]
