"""Converting real images, made by other tools, gives what unpacking them and building the tree gives."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.described import differing
from tests.strategies import noise
from tests.support import puzzlefs, requires_root

pytestmark = [
    pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed"),
    pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed"),
]


def run(*words: object) -> str:
    finished = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def make_base(root: Path) -> None:
    """Fill a root filesystem with one of everything that a layer can change later."""
    for directory in ("etc", "usr/bin", "usr/lib/deep/er", "var/gone/below", "var/opaque/old", "dev"):
        (root / directory).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/tool").write_bytes(noise(1, 200_000))
    (root / "usr/bin/tool").chmod(0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/alias")
    os.link(root / "usr/bin/tool", root / "usr/lib/third")
    (root / "usr/lib/deep/er/file").write_bytes(noise(2, 70_000))
    (root / "etc/replaced-by-directory").write_text("file")
    (root / "etc/replaced-by-link").mkdir()
    (root / "etc/replaced-by-link/inside").write_text("inside")
    (root / "etc/changed").write_text("before")
    (root / "etc/deleted").write_text("deleted")
    (root / "var/gone/below/file").write_bytes(noise(3, 50_000))
    (root / "var/opaque/old/file").write_text("hidden")
    os.mknod(root / "dev/null", 0o020666, os.makedev(1, 3))
    os.mkfifo(root / "dev/pipe", 0o600)
    os.setxattr(root / "usr/bin/tool", b"user.note", b"\x00\xffbytes\n")
    os.setxattr(root / "etc", b"user.empty-not", b"x" * 3000)
    os.chown(root / "etc/changed", 1234, 56789)
    (root / "etc" / "na\udcffme").write_text("not UTF-8")
    with open(root / "var/sparse", "wb") as file:
        file.truncate(3_000_000)
        file.seek(1_000_000)
        file.write(b"island")
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, ns=(0, 1_600_000_000_000_000_000 + number * 1_000_000_007), follow_symlinks=False)


def change(root: Path) -> None:
    """Make a second layer's changes: deletions, replaced types, links over layers."""
    (root / "etc/deleted").unlink()
    shutil.rmtree(root / "var/gone")
    (root / "etc/replaced-by-directory").unlink()
    (root / "etc/replaced-by-directory").mkdir()
    (root / "etc/replaced-by-directory/now").write_text("now")
    shutil.rmtree(root / "etc/replaced-by-link")
    (root / "etc/replaced-by-link").symlink_to("/usr/lib")
    (root / "etc/changed").write_text("after")
    os.link(root / "usr/lib/deep/er/file", root / "etc/link-over-layers")
    (root / "usr/bin/alias").unlink()
    (root / "usr/bin/alias").write_bytes(noise(4, 90_000))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image layout of umoci's: a base, changes upon it, an opaque directory, a whiteout."""
    requires_root()
    home = tmp_path_factory.mktemp("umoci")
    layout = home / "layout"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:base")
    run("umoci", "unpack", "--image", f"{layout}:base", home / "bundle")
    make_base(home / "bundle/rootfs")
    run("umoci", "repack", "--image", f"{layout}:base", home / "bundle")
    run("umoci", "unpack", "--image", f"{layout}:base", home / "again")
    change(home / "again/rootfs")
    run("umoci", "repack", "--image", f"{layout}:changed", home / "again")
    (home / "new").mkdir()
    (home / "new/only").write_text("only this is left")
    run("umoci", "insert", "--image", f"{layout}:changed", "--tag", "opaque", "--opaque", home / "new", "/var/opaque")
    run("umoci", "insert", "--image", f"{layout}:opaque", "--tag", "whole", "--whiteout", "/usr/lib/third")
    run("umoci", "insert", "--image", f"{layout}:whole", home / "new/only", "/bin/through-a-link")
    run(
        *("umoci", "config", "--image", f"{layout}:whole", "--config.env", "A=b", "--config.entrypoint", "/bin/tool"),
        *("--config.user", "1000:1000", "--config.workingdir", "/var", "--architecture", "arm64"),
    )
    return layout


def unpacked(image: str, home: Path) -> str:
    """Unpack an image with umoci, build the tree, return the image built."""
    run("umoci", "unpack", "--image", image, home / "bundle")
    puzzlefs("build", home / "bundle/rootfs", f"{home}/built:t", "--no-cache")
    return f"{home}/built:t"


@pytest.mark.parametrize("tag", ["base", "changed", "opaque", "whole"])
def test_an_image_of_layers_is_what_unpacking_it_gives(layout: Path, tmp_path: Path, tag: str) -> None:
    """Every inode of every path: kind, mode, owner, time, device, attributes, content, links."""
    puzzlefs("convert", f"oci:{layout}:{tag}", f"{tmp_path}/converted:t")

    assert differing(f"{tmp_path}/converted:t", unpacked(f"{layout}:{tag}", tmp_path)) == []
