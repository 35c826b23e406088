"""Hostile layers: refused with an error that names the entry, or without effect outside their tree."""

from __future__ import annotations

import gzip
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puzzlefs.convert import ConvertOptions, SourceOptions, convert
from puzzlefs.errors import (
    BlobError,
    CorruptImageError,
    IntegrityError,
    MissingBlobError,
    NotFoundError,
    UnsupportedError,
)
from tests.layers import (
    INDEX,
    converted,
    directory,
    entry,
    file,
    layer,
    link,
    paths,
    put_json,
    symlink,
    write_layout,
    zstd,
)

OUT_OF_THE_TREE = {
    "../../etc/x": ["etc", "etc/x"],
    "/etc/x": ["etc", "etc/x"],
    "a/../../../b": ["b"],
    "./../x/./y//z": ["x", "x/y", "x/y/z"],
}


@pytest.mark.parametrize(("name", "found"), OUT_OF_THE_TREE.items())
def test_no_name_leads_out_of_the_tree(tmp_path: Path, name: str, found: list[str]) -> None:
    """A name is one below the root, whatever it says."""
    assert paths(converted(tmp_path, layer(file(name)))) == found
    assert {path.name for path in tmp_path.iterdir()} == {"source", "store"}


def test_no_link_leads_out_of_the_tree(tmp_path: Path) -> None:
    """Links upwards and absolute ones start again at the image's own root; hard links too."""
    image = converted(
        tmp_path,
        layer(directory("d"), symlink("d/up", "../../../.."), symlink("d/root", "/"), file("secret", b"the image's")),
        layer(file("d/up/a"), file("d/root/b"), link("d/c", "../../secret")),
    )

    assert paths(image) == ["a", "b", "d", "d/c", "d/root", "d/up", "secret"]
    assert image.open("/d/c").read() == b"the image's"


ENTRIES: dict[str, tuple[list[tuple[tarfile.TarInfo, bytes]], str]] = {
    "loop": ([symlink("a", "b"), symlink("b", "a"), file("a/x")], "a/x: too many symbolic links lead to its directory"),
    "link to nothing": ([link("a", "none")], "a: a hard link to none, which is not there"),
    "link to itself": ([file("a"), link("a", "a")], "a: a hard link to a, which is not there"),
    "link to a directory": ([directory("d"), link("a", "d")], "a: a hard link to d, a directory"),
    "link to the root": ([link("a", "/")], "a: a hard link to ., which is not there"),
    "root that is a file": ([file(".")], ".: the root can only be a directory"),
    "root that is a link": ([symlink("./", "/etc")], ".: the root can only be a directory"),
    "whiteout of nothing": ([file("d/.wh.", b"")], "d/.wh.: a whiteout of no name"),
    "whiteout of its directory": ([file("d/x"), file("d/.wh..", b"")], "d/.wh..: a whiteout of no name"),
    "whiteout of the one above": ([file("d/x"), file("d/.wh...", b"")], "d/.wh...: a whiteout of no name"),
    "type": ([entry("a", b"Z")], "a: unknown type b'Z'"),
    "long name": ([file("a" * 256)], "a" * 256 + ": not a file name"),
    "zero byte": ([file("a", pax_headers={"path": "b\0c"})], r"b\x00c: not a file name"),
    "empty link": ([symlink("a", "")], "a: a symbolic link cannot lead there"),
    "long link": ([symlink("a", "b" * 4096)], "a: a symbolic link cannot lead there"),
    "time": ([file("a", pax_headers={"mtime": "soon"})], "a: modification time 'soon' is no time"),
    "late time": ([file("a", pax_headers={"mtime": "9" * 19})], "a: modification time is out of range"),
    "user": ([file("a", pax_headers={"uid": "4294967296"})], "a: user number 4294967296 is out of range"),
    "group": ([file("a", pax_headers={"gid": "-1"})], "a: group number -1 is out of range"),
    "attribute": (
        [file("a", pax_headers={"SCHILY.xattr.user.a": "x" * 65537})],
        "a: extended attribute user.a has 65537 bytes",
    ),
    "attribute's name": (
        [file("a", pax_headers={"SCHILY.xattr." + "n" * 256: "x"})],
        "a: not a name of an extended attribute",
    ),
    "overlapping parts": (
        [file("a", b"x" * 512, pax_headers={"GNU.sparse.map": "0,400,300,100", "GNU.sparse.size": "1000"})],
        "a: its parts overlap",
    ),
    "parts beyond the end": (
        [file("a", b"x" * 512, pax_headers={"GNU.sparse.map": "0,500", "GNU.sparse.size": "100"})],
        "a: its content is larger than itself",
    ),
    "parts that are not there": (
        [file("a", b"x" * 512, pax_headers={"GNU.sparse.map": "0,5000", "GNU.sparse.size": "5000"})],
        "a: its content is larger than itself",
    ),
    "huge": (
        [file("a", b"x" * 512, pax_headers={"GNU.sparse.map": "0,512", "GNU.sparse.size": str(1 << 62)})],
        f"a: with it the layer unpacks to more than {1 << 30} bytes; a size limit allows more",
    ),
    "impossible size": (
        [file("a", b"x" * 512, pax_headers={"GNU.sparse.map": "0,512", "GNU.sparse.size": str(1 << 63)})],
        "a: its content is larger than itself",
    ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_cannot_be_is_named(tmp_path: Path, name: str) -> None:
    """The layer, the entry, the reason; the store gets no image."""
    entries, reason = ENTRIES[name]
    source = write_layout(tmp_path / "source", layer(*entries))
    with pytest.raises((CorruptImageError, UnsupportedError)) as caught:
        convert(source, f"{tmp_path}/store:t")

    said = re.fullmatch(r"layer sha256:[0-9a-f]{64}: (.*)", str(caught.value))
    assert said and said[1] == reason
    assert json.loads((tmp_path / "store/index.json").read_text())["manifests"] == []


def raw_header(**fields: bytes) -> bytes:
    """Return the header of a file, its fields replaced, its checksum right."""
    header = bytearray(file("a", b"")[0].tobuf(tarfile.USTAR_FORMAT))
    places = {"size": (124, 12), "typeflag": (156, 1)}
    for field, value in fields.items():
        at, width = places[field]
        header[at : at + width] = value.ljust(width, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def gnu_number(number: int) -> bytes:
    return b"\x80" + number.to_bytes(11, "big") if number >= 0 else b"\xff" + (256**11 + number).to_bytes(11, "big")


GOOD = layer(file("a", b"x" * 700), end=b"")
ARCHIVES: dict[str, tuple[bytes, str]] = {
    "no archive": (b"anything else" * 100, "no tar header at byte 0"),
    "cut header": (GOOD + GOOD[:100], "no tar header at byte 1536"),
    "cut content": (GOOD[:1000], "a: the archive ends inside its content"),
    "noise behind": (GOOD + b"\x01" * 1024, "no tar header at byte 1536"),
    "backwards": (raw_header(size=gnu_number(-512)) + bytes(1024), "a: its size is negative"),
    "huge size": (raw_header(size=gnu_number(1 << 62)) + bytes(1024), "a: with it the layer unpacks to more than"),
    "long pax header": (
        raw_header(size=b"%011o" % (2 << 20), typeflag=b"x") + bytes(3 << 20),
        "an entry has more than 1 MiB of headers",
    ),
    "long name of GNU": (
        raw_header(size=gnu_number(1 << 40), typeflag=b"L") + bytes(4096),
        "an entry has more than 1 MiB of headers",
    ),
    "headers upon headers": (
        (raw_header(size=b"%011o" % 512, typeflag=b"x") + b"9 a=bcd\n".ljust(512, b"\0")) * 2000,
        "headers follow headers without end",
    ),
    "names upon names": (raw_header(size=b"%011o" % 0, typeflag=b"L") * 2000, "headers follow headers without end"),
    "sparse map without end": (raw_header(typeflag=b"S")[:482] + b"\1" + raw_header()[483:] + b"\1" * 5000, "no tar"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    """Whatever is wrong with it, one sentence says it."""
    archive, reason = ARCHIVES[name]
    with pytest.raises(CorruptImageError) as caught:
        converted(tmp_path, archive)
    assert reason in str(caught.value)


def test_sparse_files_have_their_holes(tmp_path: Path) -> None:
    """Parts at their places, zeros between, in the old form of GNU tar's too."""
    headers = {"GNU.sparse.map": "100,512,9000,100", "GNU.sparse.size": "10000"}
    image = converted(tmp_path, layer(file("a", b"x" * 512 + b"y" * 100, pax_headers=headers), file("b", b"next")))

    expected = bytes(100) + b"x" * 512 + bytes(9000 - 612) + b"y" * 100 + bytes(900)
    assert image.open("/a").read() == expected
    assert image.open("/b").read() == b"next"


def test_an_archive_without_its_end_is_one(tmp_path: Path) -> None:
    """Some programs leave out the zeros at the end, some even the padding of the last entry."""
    assert converted(tmp_path / "one", GOOD).open("/a").read() == b"x" * 700
    assert converted(tmp_path / "two", GOOD[: 512 + 700]).open("/a").read() == b"x" * 700


@pytest.mark.parametrize(("form", "name"), [("+gzip", "gzip"), ("+zstd", "zstd")])
def test_a_compressed_layer_that_is_damaged_is_refused(tmp_path: Path, form: str, name: str) -> None:
    """Cut short, changed, or followed by something; zeros may follow, and a further member."""
    good = gzip.compress(layer(file("a", bytes(50_000)))) if name == "gzip" else zstd.compress(layer(file("a")))
    half = gzip.compress(b"") if name == "gzip" else b"\x50\x2a\x4d\x18\x04\0\0\0ABCD"
    media_type = f"application/vnd.oci.image.layer.v1.tar{form}"

    def outcome(number: int, stored: bytes) -> str:
        try:
            return str(paths(converted(tmp_path / str(number), stored, media_type=media_type, diff_ids=None)))
        except CorruptImageError as error:
            return str(error).partition(": ")[2]

    assert outcome(0, good + bytes(100)) == outcome(1, half + good + half) == "['a']"
    assert outcome(2, good[:-7]) == f"the {name} data ends early"
    assert outcome(3, good + b"more") == f"something else follows the {name} data"
    assert outcome(4, good[:5] + b"\xff" * 20 + good[25:]) == f"damaged {name} data"


def test_a_bomb_is_stopped_at_its_limit(tmp_path: Path) -> None:
    """A layer may unpack to so many bytes; both what is stored in it and what its files are."""
    options = ConvertOptions(source=SourceOptions(size_limit=100_000))
    for number, archive in enumerate([layer(file("a", bytes(200_000))), layer(end=bytes(200_000) + b"x")]):
        with pytest.raises(CorruptImageError, match="to more than 100000 bytes; a size limit allows more"):
            converted(tmp_path / str(number), archive, form="+gzip", options=options)
    converted(tmp_path / "fits", layer(file("a", bytes(90_000))), form="+gzip", options=options)


def test_a_layer_must_have_the_digests_that_are_promised(tmp_path: Path) -> None:
    """Of its blob, and of its bytes uncompressed; a blob that is damaged is told as such."""
    name = write_layout(tmp_path / "one", layer(file("a")), form="+gzip")
    (blob,) = [path for path in (tmp_path / "one/blobs/sha256").iterdir() if path.read_bytes()[:2] == b"\x1f\x8b"]
    damaged = blob.read_bytes()
    for content in (damaged[:20] + b"?" + damaged[21:], gzip.compress(layer(file("b"))), damaged + b"\0"):
        blob.write_bytes(content)
        with pytest.raises(BlobError, match="content does not match the digest"):
            convert(name, f"{tmp_path}/store:t")
    blob.unlink()
    with pytest.raises(MissingBlobError):
        convert(name, f"{tmp_path}/store:t")
    with pytest.raises(CorruptImageError, match=r"unpacked, its digest is sha256:.*, not sha256:0"):
        converted(tmp_path / "two", layer(file("a")), diff_ids=["sha256:" + "0" * 64])


KINDS = {
    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted": "is encrypted .*: decrypt the image first",
    "application/vnd.stacker.image.layer.squashfs": "is of unknown media type 'application/vnd.stacker.image.layer.sq",
    "application/vnd.puzzlefs.image.rootfs.v1": "is a PuzzleFS image already",
}


@pytest.mark.parametrize("media_type", KINDS)
def test_layers_of_other_kinds_are_refused_by_name(tmp_path: Path, media_type: str) -> None:
    """What is no tar archive, or one that nobody here can read."""
    with pytest.raises(UnsupportedError, match=KINDS[media_type]):
        converted(tmp_path, layer(), media_type=media_type)


def change_manifest(layout: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """Change the manifest of a layout of `write_layout`; return the image's name."""
    index = json.loads((layout / "index.json").read_text())
    descriptor = index["manifests"][0]
    document = json.loads((layout / "blobs/sha256" / descriptor["digest"][7:]).read_text())
    change(document)
    descriptor.update(put_json(layout / "blobs/sha256", descriptor["mediaType"], document))
    (layout / "index.json").write_text(json.dumps(index))
    return f"{layout}:t"


MANIFESTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "version": lambda document: document.update(schemaVersion=1),
    "layers": lambda document: document.update(layers={}),
    "no layers": lambda document: document.pop("layers"),
    "layer": lambda document: document.update(layers=[7]),
    "digest": lambda document: document["layers"][0].update(digest="sha512:0"),
    "config": lambda document: document.pop("config"),
    "size": lambda document: document["config"].update(size=1 << 40),
    "short": lambda document: document["config"].update(size=3),
    "annotations": lambda document: document.update(annotations=["a"]),
    "more layers than promised": lambda document: document["layers"].append(document["layers"][0]),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_malformed_manifest_is_refused(tmp_path: Path, name: str) -> None:
    """By an error of ours, whatever is wrong."""
    write_layout(tmp_path / "source", layer(file("a")))
    with pytest.raises(IntegrityError):
        convert(change_manifest(tmp_path / "source", MANIFESTS[name]), f"{tmp_path}/store:t")


CONFIGS: dict[str, Any] = {
    "config": 7,
    "environment": {"Env": 7},
    "variables": {"Env": ["A=b", 7]},
    "labels": {"Labels": ["a"]},
    "half a character": {"Env": ["A=\ud800"]},
    "no number": {"Anything": float("nan")},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_malformed_config_is_refused(tmp_path: Path, name: str) -> None:
    """What must be read of it, or could not be written again."""
    with pytest.raises(CorruptImageError):
        converted(tmp_path, layer(), config=CONFIGS[name])


def test_indexes_within_indexes_come_to_an_end(tmp_path: Path) -> None:
    """They may be nested, but not without end; an index of nothing has no image."""
    write_layout(tmp_path / "source", layer(file("a")))
    index = tmp_path / "source/index.json"
    for depth in range(1, 7):
        document = json.loads(index.read_text())
        nested = put_json(tmp_path / "source/blobs/sha256", INDEX, document)
        nested["annotations"] = {"org.opencontainers.image.ref.name": "t"}
        index.write_text(json.dumps({"schemaVersion": 2, "manifests": [nested]}))
        if depth <= 4:
            convert(f"{tmp_path}/source:t", f"{tmp_path}/store:t")
    with pytest.raises(CorruptImageError, match="indexes are nested too deep"):
        convert(f"{tmp_path}/source:t", f"{tmp_path}/store:t")
    empty = put_json(tmp_path / "source/blobs/sha256", INDEX, {"schemaVersion": 2, "manifests": []})
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [empty]}))
    with pytest.raises(NotFoundError):
        convert(f"{tmp_path}/source", f"{tmp_path}/store:t")


def test_deep_trees_are_no_trouble(tmp_path: Path) -> None:
    """Directories nested deeper than recursion goes, and hidden again."""
    deep = "/".join("d" for _ in range(5000))
    image = converted(tmp_path, layer(file(deep)), layer(file(f"{deep[:-2]}/.wh.d", b""), file("b")))

    assert len(paths(image)) == 5000
