"""OCI tools carry and describe our images: skopeo copies them, skopeo and umoci read their configuration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from puzzlefs.image import Image
from tests.support import puzzlefs, read_manifest, requires_root, run_program
from tools.compare_trees import differences

RUNTIME = (
    "--env",
    "GREETING=hello",
    "--entrypoint",
    "/bin/sh -c",
    "--cmd",
    "env",
    "--workdir",
    "/srv",
    "--label",
    "a=b",
)


def skopeo(*words: object) -> str:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    return run_program("skopeo", "--insecure-policy", *words)


def umoci(*words: object) -> str:
    if shutil.which("umoci") is None:
        pytest.skip("umoci is not installed")
    return run_program("umoci", *words)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with compressible and incompressible content, and content twice."""
    root = tmp_path / "tree"
    (root / "directory").mkdir(parents=True)
    (root / "directory" / "text").write_bytes(b"the same line again\n" * 20_000)
    (root / "directory" / "noise").write_bytes(bytes((n * n * 31 + n // 7) % 251 for n in range(300_000)))
    (root / "zeros").write_bytes(bytes(1_000_000))
    (root / "link").symlink_to("directory/text")
    return root


@pytest.fixture(params=[(), ("-c",), RUNTIME, ("-c", *RUNTIME)], ids=["raw", "compressed", "runtime", "both"])
def layout(request: pytest.FixtureRequest, tree: Path, tmp_path: Path) -> Path:
    """A store with the tree under the tag `v`, in each of four forms."""
    puzzlefs("build", *request.param, tree, f"{tmp_path}/oci:v")
    return tmp_path / "oci"


def manifest_bytes(layout: Path, tag: str) -> bytes:
    entry, _ = read_manifest(layout, tag)
    digest: str = entry["digest"]
    return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def same_files(image: Image, tree: Path) -> None:
    """Assert that the image verifies and has every file of the tree with its bytes."""
    assert image.verify().ok
    for path in ("directory/text", "directory/noise", "zeros", "link"):
        with image.open(path) as file:
            assert file.read() == (tree / path).read_bytes(), path


def test_copy_keeps_the_image(layout: Path, tree: Path, tmp_path: Path) -> None:
    """`skopeo copy` to another layout keeps the manifest's bytes and every blob; the copy reads the same."""
    skopeo("copy", f"oci:{layout}:v", f"oci:{tmp_path}/copy:w")
    assert manifest_bytes(tmp_path / "copy", "w") == manifest_bytes(layout, "v")
    same_files(Image.open(f"{tmp_path}/copy:w"), tree)


def test_copy_of_a_delta_has_every_blob(tree: Path, tmp_path: Path) -> None:
    """A copied delta has the blobs of its base too, although only its own manifest was copied."""
    puzzlefs("build", tree, f"{tmp_path}/oci:base")
    (tree / "zeros").write_bytes(b"no zeros any more" * 10_000)
    (tree / "added").write_bytes(b"added")
    puzzlefs("build", "-b", "base", tree, f"{tmp_path}/oci:delta")
    skopeo("copy", f"oci:{tmp_path}/oci:delta", f"oci:{tmp_path}/copy:delta")
    same_files(Image.open(f"{tmp_path}/copy:delta"), tree)


def test_directory_transport_and_back(layout: Path, tree: Path, tmp_path: Path) -> None:
    """A way through skopeo's `dir:` form, which names blobs its own way, changes nothing."""
    skopeo("copy", f"oci:{layout}:v", f"dir:{tmp_path}/flat")
    skopeo("copy", f"dir:{tmp_path}/flat", f"oci:{tmp_path}/back:v")
    assert manifest_bytes(tmp_path / "back", "v") == manifest_bytes(layout, "v")
    same_files(Image.open(f"{tmp_path}/back:v"), tree)


def test_shared_blob_directory(layout: Path, tree: Path, tmp_path: Path) -> None:
    """Blobs kept outside the layout are found through a symbolic link in it."""
    shared = tmp_path / "shared"
    skopeo("copy", "--dest-shared-blob-dir", shared, f"oci:{layout}:v", f"oci:{tmp_path}/thin:v")
    blobs = tmp_path / "thin" / "blobs"
    assert not (blobs / "sha256").exists()
    blobs.mkdir(exist_ok=True)
    (blobs / "sha256").symlink_to(shared / "sha256")
    same_files(Image.open(f"{tmp_path}/thin:v"), tree)


def test_mount_of_a_shared_blob_directory(tree: Path, tmp_path: Path) -> None:
    """Such a layout mounts too."""
    requires_root()
    if not Path("/dev/fuse").exists():
        pytest.skip("needs /dev/fuse")
    puzzlefs("build", tree, f"{tmp_path}/oci:v")
    shared = tmp_path / "shared"
    (tmp_path / "oci" / "blobs").rename(shared)
    (tmp_path / "oci" / "blobs").mkdir()
    (tmp_path / "oci" / "blobs" / "sha256").symlink_to("../../shared/sha256")
    mountpoint = tmp_path / "mountpoint"
    mountpoint.mkdir()
    puzzlefs("mount", f"{tmp_path}/oci:v", mountpoint)
    try:
        assert differences(tree, mountpoint) == []
    finally:
        puzzlefs("umount", mountpoint)


def test_inspect_shows_the_runtime_configuration(tree: Path, tmp_path: Path) -> None:
    """`skopeo inspect` knows the image's configuration, its platform and its layers."""
    puzzlefs("build", *RUNTIME, tree, f"{tmp_path}/oci:v")
    _, manifest = read_manifest(tmp_path / "oci", "v")
    shown = json.loads(skopeo("inspect", f"oci:{tmp_path}/oci:v"))
    config = json.loads(skopeo("inspect", "--config", f"oci:{tmp_path}/oci:v"))
    assert shown["Layers"] == [layer["digest"] for layer in manifest["layers"]] == config["rootfs"]["diff_ids"]
    assert shown["Os"] == "linux" and shown["Labels"] == {"a": "b"}
    assert "GREETING=hello" in shown["Env"]
    assert config["config"]["Entrypoint"] == ["/bin/sh", "-c"] and config["config"]["Cmd"] == ["env"]
    assert config["config"]["WorkingDir"] == "/srv"


def test_inspect_raw_gives_the_manifest(layout: Path) -> None:
    """`skopeo inspect --raw` prints the manifest's bytes, artifact type and all, in each form."""
    raw = skopeo("inspect", "--raw", f"oci:{layout}:v").encode()
    assert raw == manifest_bytes(layout, "v")
    assert json.loads(raw)["artifactType"] == "application/vnd.puzzlefs.image.v1"


def test_umoci_describes_the_image(tree: Path, tmp_path: Path) -> None:
    """`umoci stat` reads an image with a runtime configuration; `umoci ls` lists its tag."""
    puzzlefs("build", *RUNTIME, tree, f"{tmp_path}/oci:v")
    assert umoci("ls", "--layout", tmp_path / "oci").split() == ["v"]
    described = json.loads(umoci("stat", "--json", "--image", f"{tmp_path}/oci:v"))
    assert "history" in described
