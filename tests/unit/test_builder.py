"""Building images: what of a tree becomes of an image, and what stops a build."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

import puzzlefs
from puzzlefs import constants
from puzzlefs.builder import BuildOptions, BuildResult, Profile, mtime_rule, source_date_epoch
from puzzlefs.errors import UsageError
from puzzlefs.image import Image
from puzzlefs.oci import Platform
from puzzlefs.runtime_config import RuntimeConfig
from puzzlefs.scan import ScanOptions
from puzzlefs.stream import Progress
from tests.support import read_manifest

pytestmark = pytest.mark.usefixtures("chosen")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with a file of several chunks."""
    root = tmp_path / "tree"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "big").write_bytes(bytes(range(256)) * 2000)
    (root / "small").write_bytes(b"small")
    (root / "link").symlink_to("small")
    return root


def build(tree: Path, tag: str = "t", **options: Any) -> BuildResult:
    """Build into the store beside the tree."""
    return puzzlefs.build(tree, f"{tree.parent / 'oci'}:{tag}", BuildOptions(**options))


def opened(tree: Path, tag: str = "t") -> Image:
    return Image.open(f"{tree.parent / 'oci'}:{tag}")


def test_files_read_back(tree: Path) -> None:
    """What was built reads the same."""
    build(tree)

    with opened(tree).open("dir/big") as file:
        assert file.read() == (tree / "dir" / "big").read_bytes()


def test_links_are_followed_inside_the_image(tree: Path) -> None:
    """Opening a symbolic link opens what it means in the image, also by an absolute or climbing target."""
    (tree / "dir" / "up").symlink_to("../../../small")
    (tree / "dir" / "abs").symlink_to("/link")
    build(tree)

    assert [opened(tree).open(path).read() for path in ("link", "dir/up", "/dir/abs")] == [b"small"] * 3


def test_open_file_seeks(tree: Path) -> None:
    """A file of an image is a seekable binary stream."""
    build(tree)
    with opened(tree).open("dir/big") as file:
        file.seek(-3, os.SEEK_END)

        assert file.read() == b"\xfd\xfe\xff"


def test_default_manifest_is_an_artifact_with_each_blob_once(tree: Path) -> None:
    """Media type and artifact type are named, the rootfs comes first, no descriptor repeats."""
    (tree / "again").write_bytes((tree / "dir" / "big").read_bytes())
    build(tree, pack_size=0)
    _, manifest = read_manifest(tree.parent / "oci", "t")
    digests = [layer["digest"] for layer in manifest["layers"]]

    assert manifest["mediaType"] == constants.MANIFEST
    assert manifest["artifactType"] == constants.ARTIFACT
    assert manifest["layers"][0]["mediaType"] == constants.ROOTFS
    assert len(digests) == len(set(digests)) > 2


def test_media_type_says_how_each_blob_is_stored(tree: Path) -> None:
    """With compression only what really got smaller is called compressed."""
    (tree / "noise").write_bytes(os.urandom(constants.CHUNK_MAX * 3))
    build(tree, compression=True, pack_size=0)
    _, manifest = read_manifest(tree.parent / "oci", "t")

    assert {layer["mediaType"] for layer in manifest["layers"][1:]} == {constants.FILEDATA, constants.FILEDATA_ZSTD}
    for layer in manifest["layers"][1:]:
        blob = (tree.parent / "oci" / "blobs" / "sha256" / layer["digest"][7:]).read_bytes()
        assert (layer["mediaType"] == constants.FILEDATA_ZSTD) == (blob[:4] == b"\x28\xb5\x2f\xfd")


def test_compressed_image_verifies_with_incompressible_chunks(tree: Path) -> None:
    """Digests are of the bytes stored, whether they were compressed or not."""
    (tree / "noise").write_bytes(os.urandom(constants.CHUNK_MAX))
    build(tree, compression=True)
    report = opened(tree).verify()

    assert (report.problems, report.warnings) == ([], [])


def test_runtime_config_makes_a_real_config(tree: Path) -> None:
    """A config that was given has one diff_id for each layer and is what the manifest names."""
    build(tree, runtime=RuntimeConfig(entrypoint=["/bin/sh"]), platform=Platform("linux", "arm64"))
    entry, manifest = read_manifest(tree.parent / "oci", "t")
    config = json.loads((tree.parent / "oci" / "blobs" / "sha256" / manifest["config"]["digest"][7:]).read_bytes())

    assert entry["platform"] == {"architecture": "arm64", "os": "linux"}
    assert manifest["config"]["mediaType"] == constants.IMAGE_CONFIG
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert config["config"]["Entrypoint"] == ["/bin/sh"]


def test_annotations_are_the_manifests(tree: Path) -> None:
    """Annotations asked for stand in the manifest."""
    build(tree, annotations={"k": "v"})

    assert opened(tree).manifest.annotations == {"k": "v"}


@pytest.mark.parametrize("profile", [*Profile])
def test_empty_tree_is_an_image(tmp_path: Path, profile: Profile) -> None:
    """A directory with nothing in it builds and opens."""
    (tmp_path / "tree").mkdir()
    build(tmp_path / "tree", profile=profile)

    assert list(opened(tmp_path / "tree").walk()) == []


def test_all_root_owns_everything(tree: Path) -> None:
    """With all_root every inode belongs to user and group 0."""
    if os.geteuid() == 0:
        os.chown(tree / "small", 5, 6)
    build(tree, all_root=True)
    index = opened(tree).index

    assert {index.stat(ino)[3:5] for ino in index.inodes()} == {(0, 0)}


def mtimes(tree: Path) -> set[tuple[int, int]]:
    index = opened(tree).index
    return {index.stat(ino)[5:7] for ino in index.inodes()}


def test_times_are_kept_to_the_nanosecond(tree: Path) -> None:
    """An image's times are the tree's own, before 1970 too."""
    os.utime(tree / "small", ns=(0, -1_500_000_001))
    build(tree)

    assert opened(tree).index.stat(opened(tree).resolve("small"))[5:7] == (-2, 499_999_999)


@pytest.mark.parametrize(
    ("mode", "expected"), [("none", {(0, 0)}), (77, {(77, 0)}), ("clamp", {(100, 0)}), ("auto", {(100, 0)})]
)
def test_time_rules(
    tree: Path, monkeypatch: pytest.MonkeyPatch, mode: str | int, expected: set[tuple[int, int]]
) -> None:
    """Times are dropped, set, or clamped to SOURCE_DATE_EPOCH."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "100")
    build(tree, mtime=mode)

    assert mtimes(tree) == expected


def test_clamping_leaves_older_times(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is newer than SOURCE_DATE_EPOCH is changed."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "100")
    os.utime(tree / "small", ns=(0, 99_000_000_001))
    build(tree)

    assert mtimes(tree) == {(99, 1), (100, 0)}


def test_clamping_without_an_epoch_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to clamp to."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    with pytest.raises(UsageError):
        mtime_rule("clamp", source_date_epoch())


@pytest.mark.parametrize("seconds", [1 << 63, -(1 << 63) - 1])
def test_a_time_that_no_image_holds_is_a_usage_error(tree: Path, seconds: int) -> None:
    """Seconds have 64 bits."""
    with pytest.raises(UsageError):
        build(tree, mtime=seconds)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "٣", " 1", "9" * 20])
def test_source_date_epoch_must_be_a_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Anything but digits is an error, not ignored."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError):
        source_date_epoch()


def test_store_inside_the_tree_is_refused(tree: Path) -> None:
    """An image cannot hold its own store; nothing is made."""
    with pytest.raises(UsageError, match="inside"):
        puzzlefs.build(tree, f"{tree}/dir/oci:t")
    assert not (tree / "dir" / "oci").exists()


def test_store_inside_the_tree_is_seen_through_links(tree: Path) -> None:
    """A link that leads into the tree does not hide it."""
    (tree.parent / "elsewhere").symlink_to(tree / "dir")
    with pytest.raises(UsageError, match="inside"):
        puzzlefs.build(tree, f"{tree.parent}/elsewhere/oci:t")


def test_missing_tree_leaves_no_store(tmp_path: Path) -> None:
    """A root filesystem that is not there is an error before anything is written."""
    with pytest.raises(UsageError):
        puzzlefs.build(tmp_path / "nope", f"{tmp_path}/oci:t")
    assert not (tmp_path / "oci").exists()


def test_excluded_files_are_left_out(tree: Path) -> None:
    """What a pattern matches is not in the image."""
    build(tree, scan=ScanOptions(exclude=[b"big"]))

    assert [path for path, _ in opened(tree).walk()] == [b"dir", b"link", b"small"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")
def test_mount_points_are_not_crossed(tree: Path) -> None:
    """What is mounted below the tree is not taken; the mount point stays an empty directory, and it is said."""
    subprocess.run(["mount", "-t", "tmpfs", "none", tree / "dir"], check=True)
    try:
        (tree / "dir" / "hidden").write_bytes(b"x")
        result = build(tree)
    finally:
        subprocess.run(["umount", tree / "dir"], check=True)

    assert [path for path, _ in opened(tree).walk()] == [b"dir", b"link", b"small"]
    assert result.notices == ("dir: a mount point, not crossed",)


def xattrs(tree: Path, path: str = "small") -> list[tuple[bytes, bytes]]:
    image = opened(tree)
    return image.index.xattrs(image.resolve(path))


def test_attributes_are_sorted_and_the_hosts_left_out(tree: Path) -> None:
    """Attributes come by name whatever the system's order; user.overlay.* is the host's."""
    for name in ("user.z", "user.a", "user.overlay.origin", "user.m"):
        os.setxattr(tree / "small", name, name.encode())
    build(tree)

    assert xattrs(tree) == [(b"user.a", b"user.a"), (b"user.m", b"user.m"), (b"user.z", b"user.z")]


def test_only_attributes_asked_for_are_kept(tree: Path) -> None:
    """A filter decides about every attribute."""
    for name in ("user.a", "user.overlay.origin"):
        os.setxattr(tree / "small", name, b"1")
    build(tree, scan=ScanOptions(xattrs=[b"user.overlay*"], drop_xattrs=()))

    assert xattrs(tree) == [(b"user.overlay.origin", b"1")]


def test_progress_reaches_the_total(tree: Path) -> None:
    """The last report has read everything."""
    seen: list[Progress] = []
    puzzlefs.build(tree, f"{tree.parent}/oci:t", progress=seen.append)

    assert (seen[-1].bytes, seen[-1].files) == (seen[-1].total_bytes, 2)


def test_rebuild_adds_nothing(tree: Path) -> None:
    """Building the same tree again stores no new byte."""
    build(tree)

    assert build(tree, "u").new_bytes == 0


def test_parallel_builds_into_one_store_all_survive(tree: Path) -> None:
    """Builds that run at the same time each keep their tag."""
    threads = [threading.Thread(target=build, args=(tree, f"t{number}")) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({opened(tree, f"t{number}").descriptor.digest for number in range(6)}) == 1


def test_same_tree_elsewhere_gives_the_same_digest(tree: Path, backend_name: str) -> None:
    """Another place, another order of creation, a store with other images: the digest stays."""
    first = build(tree, compression=True)
    copy = tree.parent / "other" / "copy"
    (copy / "dir").mkdir(parents=True)
    for name in ("small", "link", "dir/big"):
        shutil.copy2(tree / name, copy / name, follow_symlinks=False)
    for name in ("dir", "."):
        shutil.copystat(tree / name, copy / name)
    build(tree, "noise", annotations={"another": "image"})

    assert build(copy, compression=True, jobs=3).digest == first.digest
    (copy / "small").write_bytes(b"Small")
    os.utime(copy / "small", ns=(0, (tree / "small").stat().st_mtime_ns))
    assert build(copy, compression=True).digest != first.digest


def test_ten_gigabytes_would_have_a_small_manifest(tmp_path: Path) -> None:
    """Registries refuse one above 4 MiB; without one byte twice, 10 GB need less than 2 MiB."""
    size = 32 * constants.MIB
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/data").write_bytes(random.Random(1).randbytes(size))
    build(tmp_path / "tree")
    entry, manifest = read_manifest(tmp_path / "oci", "t")
    assert len(manifest["layers"]) > 10
    assert entry["size"] / size * 10e9 < 2 * constants.MIB
