"""Converting real images, made by other tools, gives what unpacking them and building the tree gives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from puzzlefs.image import Image
from puzzlefs.oci import Platform
from tests.described import described, differing
from tests.layers import INDEX, file, layer, put_json
from tests.strategies import noise
from tests.support import puzzlefs, requires_root, run_program
from tools.registry import REGISTRY, serving

pytestmark = [
    pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed"),
    pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed"),
]


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
    run_program("umoci", "init", "--layout", layout)
    run_program("umoci", "new", "--image", f"{layout}:base")
    run_program("umoci", "unpack", "--image", f"{layout}:base", home / "bundle")
    make_base(home / "bundle/rootfs")
    run_program("umoci", "repack", "--image", f"{layout}:base", home / "bundle")
    run_program("umoci", "unpack", "--image", f"{layout}:base", home / "again")
    change(home / "again/rootfs")
    run_program("umoci", "repack", "--image", f"{layout}:changed", home / "again")
    (home / "new").mkdir()
    (home / "new/only").write_text("only this is left")
    run_program(
        "umoci", "insert", "--image", f"{layout}:changed", "--tag", "opaque", "--opaque", home / "new", "/var/opaque"
    )
    run_program("umoci", "insert", "--image", f"{layout}:opaque", "--tag", "whole", "--whiteout", "/usr/lib/third")
    run_program("umoci", "insert", "--image", f"{layout}:whole", home / "new/only", "/bin/through-a-link")
    run_program(
        *("umoci", "config", "--image", f"{layout}:whole", "--config.env", "A=b", "--config.entrypoint", "/bin/tool"),
        *("--config.user", "1000:1000", "--config.workingdir", "/var", "--architecture", "arm64"),
    )
    return layout


def unpacked(image: str, home: Path) -> str:
    """Unpack an image with umoci, build the tree, return the image built."""
    run_program("umoci", "unpack", "--image", image, home / "bundle")
    puzzlefs("build", home / "bundle/rootfs", f"{home}/built:t", "--no-cache")
    return f"{home}/built:t"


@pytest.mark.parametrize("tag", ["base", "changed", "opaque", "whole"])
def test_an_image_of_layers_is_what_unpacking_it_gives(layout: Path, tmp_path: Path, tag: str) -> None:
    """Every inode of every path: kind, mode, owner, time, device, attributes, content, links."""
    puzzlefs("convert", f"oci:{layout}:{tag}", f"{tmp_path}/converted:t")

    assert differing(f"{tmp_path}/converted:t", unpacked(f"{layout}:{tag}", tmp_path)) == []


@pytest.fixture(scope="module")
def whole(layout: Path) -> Image:
    """The image of all layers, converted straight from the layout."""
    puzzlefs("convert", f"oci:{layout}:whole", f"{layout}-converted:whole")
    return Image.open(f"{layout}-converted:whole")


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive", "dir", "dir-of-schema-2"])
def test_the_way_an_image_comes_makes_no_difference(layout: Path, whole: Image, tmp_path: Path, transport: str) -> None:
    """Archives and directories give the very image that the layout gives."""
    to, form = (transport, "oci") if transport != "dir-of-schema-2" else ("dir", "v2s2")
    options = [] if to == "docker-archive" else ["--format", form]
    copy = ["skopeo", "--insecure-policy", "--override-arch", "arm64", "copy", "-q", *options]
    run_program(*copy, f"oci:{layout}:whole", f"{to}:{tmp_path}/copy")

    puzzlefs("convert", f"{to}:{tmp_path}/copy", f"{tmp_path}/converted:t")

    assert Image.open(f"{tmp_path}/converted:t").descriptor.digest == whole.descriptor.digest


def test_the_runtime_config_is_kept(whole: Image) -> None:
    """What the source says of running it, of its platform, and how it came to be."""
    config = whole.config
    assert config is not None

    assert config["config"] == {"Env": ["A=b"], "Entrypoint": ["/bin/tool"], "User": "1000:1000", "WorkingDir": "/var"}
    assert (config["os"], config["architecture"]) == ("linux", "arm64")
    assert whole.descriptor.platform == {"os": "linux", "architecture": "arm64"}
    assert config["rootfs"]["diff_ids"] == [layer.digest for layer in whole.manifest.layers]
    assert all(step["empty_layer"] for step in config["history"])


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_the_way_back_is_one_layer_of_the_same_tree(whole: Image, tmp_path: Path, compression: str) -> None:
    """An image of one layer, in the same bytes each time, that converts into what it came from."""
    for name in ("one", "two"):
        arguments = ["--reverse", str(whole.name), f"{tmp_path}/{name}:t", "--layer-compression", compression]
        said = json.loads(puzzlefs("convert", *arguments, "--json"))
    assert len(said["layers"]) == 1
    assert (tmp_path / "one/index.json").read_bytes() == (tmp_path / "two/index.json").read_bytes()

    puzzlefs("convert", f"{tmp_path}/one:t", f"{tmp_path}/again:t")

    assert differing(whole, f"{tmp_path}/again:t") == []


def test_each_delta_is_a_layer_that_umoci_unpacks(tmp_path: Path) -> None:
    """A base and two deltas: three layers, and the tree that the last delta was built from."""
    tree, store = tmp_path / "tree", tmp_path / "store"
    requires_root()
    make_base(tree)
    puzzlefs("build", tree, f"{store}:one", "--no-cache")
    change(tree)
    puzzlefs("build", "-b", "one", tree, f"{store}:two", "--no-cache")
    (tree / "usr/lib/third").unlink()
    (tree / "var/opaque").rename(tree / "var/moved")
    puzzlefs("build", "-b", "two", tree, f"{store}:three", "--no-cache")

    said = json.loads(puzzlefs("convert", "--reverse", f"{store}:three", f"{tmp_path}/layers:t", "--json"))

    assert len(said["layers"]) == 3
    assert differing(f"{store}:three", unpacked(f"{tmp_path}/layers:t", tmp_path)) == []
    puzzlefs("convert", f"{tmp_path}/layers:t", f"{tmp_path}/again:t")
    assert described(f"{store}:three") == described(f"{tmp_path}/again:t")


def test_a_registry_is_read_through_skopeo(layout: Path, whole: Image, tmp_path: Path) -> None:
    """The image of a registry is that of the layout, which skopeo pushed there; the way back leads there too."""
    if not REGISTRY.exists():
        pytest.skip(f"needs Debian's docker-registry in {REGISTRY} (make setup)")
    with serving(tmp_path) as address:
        copy = ["skopeo", "--insecure-policy", "--override-arch", "arm64", "copy", "-q", "--dest-tls-verify=false"]
        run_program(*copy, f"oci:{layout}:whole", f"docker://{address}/image:v")
        puzzlefs("convert", "--tls-verify=false", f"docker://{address}/image:v", f"{tmp_path}/store:t")
        assert Image.open(f"{tmp_path}/store:t").descriptor.digest == whole.descriptor.digest

        puzzlefs("convert", "--reverse", "--tls-verify=false", f"{tmp_path}/store:t", f"docker://{address}/back:v")
        puzzlefs("convert", "--tls-verify=false", f"docker://{address}/back:v", f"{tmp_path}/store:again")
        assert differing(whole, f"{tmp_path}/store:again") == []


def test_an_interrupted_conversion_leaves_nothing_but_blobs(tmp_path: Path) -> None:
    """Told to stop while a layer comes, it does so at once: no image, nothing unfinished."""
    command = [sys.executable, "-m", "puzzlefs", "convert", "-", f"{tmp_path}/store:t"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(layer(file("large", noise(5, 3_000_000)), end=b""))
        process.stdin.flush()
        blobs = tmp_path / "store/blobs/sha256"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (blobs.is_dir() and os.listdir(blobs)):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == b"puzzlefs: interrupted\n"
    assert sorted(os.listdir(tmp_path / "store/blobs")) == ["sha256"]
    assert json.loads((tmp_path / "store/index.json").read_text())["manifests"] == []


@pytest.fixture
def of_two_platforms(tmp_path: Path) -> str:
    """An index of an image for this machine and one for another, as skopeo's layouts have it."""
    layout = tmp_path / "platforms"
    run_program("umoci", "init", "--layout", layout)
    manifests = []
    for architecture, content in ((Platform.host().architecture, b"ours"), ("sparc", b"theirs")):
        (tmp_path / "which").write_bytes(content)
        run_program("umoci", "new", "--image", f"{layout}:{architecture}")
        run_program("umoci", "insert", "--image", f"{layout}:{architecture}", tmp_path / "which", "/which")
        run_program("umoci", "config", "--image", f"{layout}:{architecture}", "--architecture", architecture)
        index = json.loads((layout / "index.json").read_text())
        entry = index["manifests"][-1]
        manifests.append({**entry, "annotations": {}, "platform": {"os": "linux", "architecture": architecture}})
    nested = put_json(layout / "blobs/sha256", INDEX, {"schemaVersion": 2, "manifests": manifests})
    nested["annotations"] = {"org.opencontainers.image.ref.name": "both"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [nested]}))
    return f"{layout}:both"


def test_an_image_of_many_platforms_is_converted_for_all_or_one(of_two_platforms: str, tmp_path: Path) -> None:
    """One for this machine where nothing is said; all of them under one tag; skopeo sees what it should."""
    puzzlefs("convert", of_two_platforms, f"{tmp_path}/store:one")
    puzzlefs("convert", "--platform", "linux/sparc", of_two_platforms, f"{tmp_path}/store:other")
    puzzlefs("convert", "--all-platforms", of_two_platforms, f"{tmp_path}/store:all")

    sparc = Platform("linux", "sparc")
    assert Image.open(f"{tmp_path}/store:one").open("/which").read() == b"ours"
    assert Image.open(f"{tmp_path}/store:other", platform=sparc).open("/which").read() == b"theirs"
    assert Image.open(f"{tmp_path}/store:all").open("/which").read() == b"ours"
    assert Image.open(f"{tmp_path}/store:all", platform=sparc).open("/which").read() == b"theirs"
    run_program(
        "skopeo", "--insecure-policy", "copy", "-q", "--all", f"oci:{tmp_path}/store:all", f"oci:{tmp_path}/copy:all"
    )
    assert Image.open(f"{tmp_path}/copy:all", platform=sparc).verify().ok
    puzzlefs("verify", "--all", f"{tmp_path}/store")


@pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not installed")
def test_an_image_of_buildahs_is_what_unpacking_it_gives(tmp_path: Path) -> None:
    """Three layers, made by copying and by running a program, with files deleted and replaced."""
    requires_root()
    context = tmp_path / "context"
    make_base(context / "root")
    shutil.copy("/bin/busybox", context / "root/bin/sh")
    (context / "Containerfile").write_text(
        "FROM scratch\nCOPY root/ /\nRUN rm -r etc/deleted var/gone && mv etc/changed var/moved\n"
        'RUN ln usr/lib/third etc/linked && rm usr/bin/alias && mkdir usr/bin/alias\nENTRYPOINT ["/bin/sh"]\n'
    )
    storage = ["--root", tmp_path / "storage", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
    build = ["buildah", *storage, "build", "-q", "--layers", "--isolation", "chroot", "-t", f"oci:{tmp_path}/built:t"]
    run_program(*build, context)

    puzzlefs("convert", f"{tmp_path}/built:t", f"{tmp_path}/converted:t")

    assert len(Image.open(f"{tmp_path}/converted:t").config["history"]) >= 3  # type: ignore[index]
    assert differing(f"{tmp_path}/converted:t", unpacked(f"{tmp_path}/built:t", tmp_path)) == []


def test_a_plain_archive_is_an_image(tmp_path: Path) -> None:
    """A tar archive, compressed or on standard input, is what building its tree gives."""
    requires_root()
    make_base(tmp_path / "tree")
    tar = ["tar", "--xattrs", "--xattrs-include=*", "--format=pax", "-C", tmp_path / "tree", "-c", "."]
    run_program(*tar, "-S", "-f", tmp_path / "plain.tar")
    run_program(*tar, "-J", "-f", tmp_path / "small.tar.xz")
    puzzlefs("build", tmp_path / "tree", f"{tmp_path}/store:built", "--no-cache")

    for number, archive in enumerate(("plain.tar", "small.tar.xz")):
        puzzlefs("convert", tmp_path / archive, f"{tmp_path}/store:{number}")
        assert differing(f"{tmp_path}/store:{number}", f"{tmp_path}/store:built") == []
    command = [sys.executable, "-m", "puzzlefs", "convert", "-", f"{tmp_path}/store:stdin"]
    with (tmp_path / "plain.tar").open("rb") as archive_file:
        subprocess.run(command, stdin=archive_file, check=True, capture_output=True)
    assert described(f"{tmp_path}/store:stdin") == described(f"{tmp_path}/store:0")
