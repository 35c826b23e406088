"""Layers applied one upon the other: what each kind of entry does to what is below."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from puzzlefs._native import Backend
from puzzlefs.convert import ConvertOptions, convert
from puzzlefs.convert.layer import LayerStream
from puzzlefs.image import Image
from puzzlefs.records import Kind
from tests.layers import convert_into, converted, directory, entry, file, layer, link, paths, symlink


def content(image: Image, path: str) -> bytes:
    return image.open(path).read()


def ino(image: Image, path: str) -> int:
    return image.resolve(path, follow=False)


def kind(image: Image, path: str) -> int:
    return image.index.stat(ino(image, path))[1]


def test_a_whiteout_hides_what_is_below(chosen: Backend, tmp_path: Path) -> None:
    """A file, and a directory with all that is in it; what it hides is not stored."""
    base = layer(file("a", b"a" * 9000), file("d/b", b"b" * 9000), file("d/e/c", b"c" * 9000), file("kept"))
    upper = layer(file(".wh.a", b""), file(".wh.d", b""))
    name, made = convert_into(tmp_path, base, upper)

    assert paths(Image.open(name)) == ["kept"]
    assert made.bytes == len(b"content")
    assert made.new_bytes < 9000


def test_a_whiteout_hides_nothing_of_its_own_layer(tmp_path: Path) -> None:
    """Whether it comes before or after what the layer brings, also inside a directory that it hides."""
    base = layer(file("a", b"old"), file("d/old", b"old"), file("d/both", b"old"))
    for number, order in enumerate([(0, 1, 2, 3), (2, 3, 0, 1)]):
        entries = [file(".wh.a", b""), file(".wh.d", b""), file("a", b"new"), file("d/both", b"new")]
        image = converted(tmp_path / str(number), base, layer(*(entries[at] for at in order)))
        assert paths(image) == ["a", "d", "d/both"]
        assert content(image, "/a") == content(image, "/d/both") == b"new"


def test_an_opaque_directory_hides_what_it_had(tmp_path: Path) -> None:
    """All of it but what the layer itself brings, and the directory stays."""
    base = layer(directory("d", mode=0o700), file("d/old"), file("d/e/old"), file("other"))
    upper = layer(file("d/e/new"), file("d/.wh..wh..opq", b""))
    image = converted(tmp_path, base, upper)

    assert paths(image) == ["d", "d/e", "d/e/new", "other"]
    assert image.index.stat(ino(image, "/d"))[2] == 0o700


def test_the_root_may_be_opaque(tmp_path: Path) -> None:
    """Then nothing is left of what is below."""
    assert paths(converted(tmp_path, layer(file("old")), layer(file(".wh..wh..opq", b""), file("new")))) == ["new"]


def test_entries_replace_what_is_of_another_kind(tmp_path: Path) -> None:
    """A directory by a file, a file by a directory, both by links; a directory by a directory never."""
    base = layer(directory("to-file"), file("to-file/x"), file("to-directory"), file("to-link"), file("same/kept"))
    upper = layer(
        file("to-file", b"now"), directory("to-directory"), symlink("to-link", "to-file"), directory("same", mode=0o711)
    )
    image = converted(tmp_path, base, upper)

    assert paths(image) == ["same", "same/kept", "to-directory", "to-file", "to-link"]
    assert kind(image, "/to-directory") == Kind.DIR
    assert content(image, "/to-link") == b"now"
    assert image.index.stat(ino(image, "/same"))[2] == 0o711


def test_parents_that_are_links_are_followed(tmp_path: Path) -> None:
    """As in a system whose /bin is a link: what a layer brings to /bin is in /usr/bin."""
    base = layer(directory("usr/bin"), symlink("bin", "usr/bin"), symlink("up", "../../../usr"))
    image = converted(tmp_path, base, layer(file("bin/a"), file("up/b"), file("bin/.wh.none", b"")))

    assert paths(image) == ["bin", "up", "usr", "usr/b", "usr/bin", "usr/bin/a"]
    assert kind(image, "/bin") == Kind.LNK


def test_a_hidden_name_may_be_what_another_needs(tmp_path: Path) -> None:
    """A link below that leads elsewhere, a hard link that outlives its first name: nothing is lost."""
    base = layer(file("x", b"first"), link("y", "x"), file("usr/bin/t", b"tool"), symlink("bin", "usr/bin"))
    middle = layer(file("bin/u", b"through the link"))
    upper = layer(file("x", b"other"), file(".wh.bin", b""), file("bin/u", b"a directory now"))
    image = converted(tmp_path, base, middle, upper)

    assert content(image, "/y") == b"first"
    assert content(image, "/x") == b"other"
    assert content(image, "/usr/bin/u") == b"through the link"
    assert content(image, "/bin/u") == b"a directory now"


def test_each_layer_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a name that is hidden lives on by a link from above; not where only the tree can tell."""
    readings = []

    def counted(self: LayerStream, *arguments: Any) -> None:
        readings.append(self)
        made(self, *arguments)

    made = LayerStream.__init__
    monkeypatch.setattr(LayerStream, "__init__", counted)
    base = layer(file("a", b"shared"), link("y", "a"))

    converted(tmp_path / "once", base, layer(link("b", "a"), file(".wh.a", b"")))
    assert len(readings) == 2
    converted(tmp_path / "twice", base, layer(file(".wh.a", b"")))
    assert len(readings) == 5


def test_hard_links_reach_over_layers(tmp_path: Path) -> None:
    """A link to what a layer below brought is one more name of it, even of a symbolic link."""
    base = layer(file("a", b"shared"), symlink("s", "a"))
    image = converted(tmp_path, base, layer(link("d/b", "a"), link("t", "/s"), file(".wh.a", b"")))

    assert content(image, "/d/b") == b"shared"
    assert ino(image, "/s") == ino(image, "/t")
    assert image.index.stat(ino(image, "/d/b"))[8] == 1


def test_of_two_entries_of_a_name_the_later_counts(tmp_path: Path) -> None:
    """As if the archive had been unpacked; links made in between keep the former."""
    image = converted(tmp_path, layer(file("a", b"one"), link("b", "a"), file("a", b"two")))

    assert (content(image, "/a"), content(image, "/b")) == (b"two", b"one")


def test_fields_of_an_entry_are_all_kept(tmp_path: Path) -> None:
    """Owners, modes, times to the nanosecond and before 1970, devices, attributes of any bytes."""
    headers = {"mtime": "-1.25", "SCHILY.xattr.user.b": "\udcff\n\0=", "SCHILY.xattr.user.a": "x" * 5000}
    headers |= {"SCHILY.xattr.security.selinux": "host", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    image = converted(
        tmp_path,
        layer(
            file("f", mode=0o6751, uid=70_000, gid=4_000_000_000, pax_headers=headers),
            entry("c", tarfile.CHRTYPE, devmajor=4, devminor=65),
            entry("b", tarfile.BLKTYPE, devmajor=259, devminor=70_000),
            entry("p", tarfile.FIFOTYPE, mtime=1),
            directory(".", mode=0o1777, mtime=7),
        ),
    )

    stat = image.index.stat(ino(image, "/f"))
    assert stat[1:7] == (Kind.FILE, 0o6751, 70_000, 4_000_000_000, -2, 750_000_000)
    assert image.index.xattrs(stat[0]) == [(b"user.a", b"x" * 5000), (b"user.b", b"\xff\n\0=")]
    assert image.index.stat(ino(image, "/c"))[9:] == (4, 65)
    assert image.index.stat(ino(image, "/b"))[9:] == (259, 70_000)
    assert kind(image, "/p") == Kind.FIFO
    assert image.index.stat(1)[2:7] == (0o1777, 0, 0, 7, 0)


def test_directories_that_no_entry_describes_are_plain(tmp_path: Path) -> None:
    """Owned by root, open to all, of no time of the clock: the same image whenever it is made."""
    image = converted(tmp_path, layer(file("a/b/c")))

    assert image.index.stat(ino(image, "/a/b"))[2:7] == (0o755, 0, 0, 0, 0)
    assert image.index.stat(1)[2:7] == (0o755, 0, 0, 0, 0)


def test_readers_tables_of_contents_are_no_files(tmp_path: Path) -> None:
    """What eStargz puts into a layer is for its own readers."""
    names = [".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json"]

    image = converted(tmp_path, layer(*map(file, names), file("etc/stargz.index.json", b"a file")))

    assert paths(image) == ["etc", "etc/stargz.index.json"]
    assert content(image, "/etc/stargz.index.json") == b"a file"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_every_form_are_read(tmp_path: Path, form: int) -> None:
    """Names too long for one header, in whatever way they are written."""
    name = f"{'d' * 90}/{'e' * 99}"
    with tarfile.open(tmp_path / "plain.tar", "w", format=form) as archive:
        info, data = file(name, b"long")
        archive.addfile(info, io.BytesIO(data))
    convert(str(tmp_path / "plain.tar"), f"{tmp_path}/store:t")

    assert content(Image.open(f"{tmp_path}/store:t"), f"/{name}") == b"long"


@pytest.mark.parametrize("form", ["", "+gzip", "+zstd"])
def test_layers_come_in_every_compression(chosen: Backend, tmp_path: Path, form: str) -> None:
    """And what an image says of itself does not depend on it."""
    data = bytes(range(256)) * 5000
    image = converted(tmp_path, layer(file("a", data)), form=form)

    assert content(image, "/a") == data


def test_a_layer_of_nothing_is_one(tmp_path: Path) -> None:
    """An archive without entries; an image without layers."""
    assert paths(converted(tmp_path / "one", layer())) == []
    assert paths(converted(tmp_path / "none")) == []


def test_times_may_be_clamped_and_owners_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a build does it."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "100")
    options = ConvertOptions(all_root=True)
    image = converted(tmp_path, layer(file("a", mtime=99, uid=5), file("b", mtime=101, gid=6)), options=options)

    assert image.index.stat(ino(image, "/a"))[3:7] == (0, 0, 99, 0)
    assert image.index.stat(ino(image, "/b"))[3:7] == (0, 0, 100, 0)


@pytest.mark.parametrize("pack_size", [0, 262_144])
def test_both_backends_make_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack_size: int) -> None:
    """To the byte, compressed too, chunk by chunk or in packs."""
    from puzzlefs import store, stream
    from puzzlefs._native import load
    from puzzlefs.convert import image as convert_image

    archives = [layer(file("a", bytes(range(256)) * 900), file("b")), layer(link("c", "a"), file(".wh.b", b""))]
    digests = set()
    for name in ("rust", "python"):
        for module in (store, stream, convert_image):
            monkeypatch.setattr(module, "native", load(name))
        options = ConvertOptions(compression=True, pack_size=pack_size)
        digests.add(convert_into(tmp_path / name, *archives, options=options)[1].digest)

    assert len(digests) == 1
