"""What layers can hold of an image, and what they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from puzzlefs._native import Backend
from puzzlefs.convert import ReverseOptions, convert, convert_back
from puzzlefs.errors import UnsupportedError, UsageError
from puzzlefs.image import Image
from puzzlefs.records import Kind
from puzzlefs.runtime_config import RuntimeConfig
from puzzlefs.tables import Inode
from tests.described import described
from tests.images import craft, directory, file_of


def layered(layout: Path, *inodes: Inode) -> Image:
    """Return an image of inodes made by hand."""
    return Image.open(craft(layout, inodes, [b"content"]).name)


def test_every_kind_and_number_comes_back(chosen: Backend, tmp_path: Path) -> None:
    """Large numbers, times before 1970, names of any bytes, attributes of any content."""
    image = layered(
        tmp_path / "store",
        Inode(1, Kind.DIR, 0o1755, 1, 2, (-5, 1), entries=((b"\xff\xfe", 2), (b"c", 3), (b"n" * 255, 5), (b"s", 4))),
        file_of(2, b"content")._replace(uid=4_294_967_294, gid=3_000_000, mtime=(9_000_000_000, 999_999_999)),
        Inode(3, Kind.CHR, 0o600, device=(300, 70_000), mtime=(-1, 500_000_000)),
        Inode(4, Kind.LNK, 0o777, target=b"t" * 4000, xattrs=((b"user.a", b"\0\n=\xff"), (b"user.b", b""))),
        file_of(5, b"content", 0o6711),
    )

    convert_back(image, f"{tmp_path}/back:t")
    convert(f"{tmp_path}/back:t", f"{tmp_path}/again:t")

    assert described(f"{tmp_path}/again:t") == described(image)


def test_a_socket_is_left_out_and_told(tmp_path: Path) -> None:
    """And so is each further name of it."""
    image = layered(
        tmp_path / "store",
        directory(1, (b"a", 2), (b"b", 2), (b"file", 3)),
        Inode(2, Kind.SOCK, 0o755),
        file_of(3, b"content"),
    )

    result = convert_back(image, f"{tmp_path}/back:t")

    assert result.notices == tuple(f"{name}: a socket, which a layer cannot hold" for name in "ab")
    convert(f"{tmp_path}/back:t", f"{tmp_path}/again:t")
    assert list(described(f"{tmp_path}/again:t")) == [b"", b"file"]


CANNOT = {
    "whiteout": (
        directory(1, (b".wh.a", 2)),
        file_of(2, b"content"),
        r"\.wh\.a: a layer cannot hold a file of such a name",
    ),
    "device": (directory(1, (b"d", 2)), Inode(2, Kind.BLK, 0o600, device=(1 << 40, 1)), "d: a tar archive has no room"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_layers_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    """By name, and without an image."""
    *inodes, reason = CANNOT[name]
    with pytest.raises(UnsupportedError, match=reason):
        convert_back(layered(tmp_path / "store", *inodes), f"{tmp_path}/back:t")
    assert json.loads((tmp_path / "back/index.json").read_text())["manifests"] == []


def test_a_config_is_made_where_there_is_none(tmp_path: Path) -> None:
    """Layers need one: with the digest of each, and what the user says."""
    image = layered(tmp_path / "store", directory(1))
    assert image.config is None

    result = convert_back(image, f"{tmp_path}/back:t", ReverseOptions(runtime=RuntimeConfig(entrypoint=["/bin/a"])))

    index = json.loads((tmp_path / "back/index.json").read_text())
    blobs = tmp_path / "back/blobs/sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    assert config["rootfs"] == {"type": "layers", "diff_ids": list(result.diff_ids)}
    assert config["config"]["Entrypoint"] == ["/bin/a"]
    assert config["history"] == [{"created_by": "puzzlefs convert --reverse"}]


def test_a_digest_is_no_place_for_layers(tmp_path: Path) -> None:
    """A tag is needed."""
    with pytest.raises(UsageError):
        convert_back(layered(tmp_path / "store", directory(1)), f"{tmp_path}/back@sha256:{'0' * 64}")
