"""The order of a build's stream: each package's files together, large packages apart."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzlefs.constants import GROUP_SIZE_MIN
from puzzlefs.errors import SourceError
from puzzlefs.order import Arrangement, Order, arrange
from puzzlefs.packages import Owners
from puzzlefs.records import CHUNK, SOURCE

INFO = Path("var/lib/dpkg/info")


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """Two packages, of which one is named in the old places of /bin."""
    files = {
        f"{INFO}/b.list": "/.\n/usr\n/usr/bin/bee\n/usr/share/x\n",
        f"{INFO}/a:amd64.list": "/bin/ay\n/usr/share/y\n",
    }
    write(tmp_path, files)
    return tmp_path


def arranged(
    root: Path, sizes: dict[str, int], order: Order = Order.PACKAGE, first: tuple[bytes, ...] = ()
) -> Arrangement | None:
    paths = b"".join(os.fsencode(name) + b"\0" for name in sizes)
    sources = b"".join(SOURCE.pack(size, 0, 0, 0, 0) for size in sizes.values())
    owners = Owners(os.fsencode(root)) if order is Order.PACKAGE else None
    return arrange(owners, first, paths, sources)


def test_files_of_a_package_stand_together_and_those_of_none_last(debian: Path) -> None:
    found = arranged(debian, dict.fromkeys(["etc/own", "usr/bin/ay", "usr/bin/bee", "usr/share/x", "usr/share/y"], 1))

    assert found
    assert found.files.tolist() == [1, 4, 2, 3, 0]
    assert found.groups.tolist() == []


def test_a_large_package_is_a_group_and_small_ones_stay_with_their_neighbours(debian: Path) -> None:
    write(debian, {f"{INFO}/c.list": "/c\n", f"{INFO}/d.list": "/d\n"})
    sizes = {"usr/bin/ay": 1, "usr/bin/bee": 1, "c": GROUP_SIZE_MIN, "d": GROUP_SIZE_MIN - 1, "own": 1}

    found = arranged(debian, sizes)

    assert found
    assert found.groups.tolist() == [2, 3]


def test_files_that_are_read_first_come_first_as_a_group(debian: Path) -> None:
    sizes = dict.fromkeys(["own", "usr/bin/ay", "usr/bin/bee", "usr/share/x"], 1)
    first = (b"usr/share/x", b"absent", b"own", b"usr/share/x")

    found = arranged(debian, sizes, first=first)
    by_path = arranged(debian, sizes, Order.PATH, first)

    assert found and by_path
    assert (found.files.tolist(), found.groups.tolist()) == ([3, 0, 1, 2], [2])
    assert (by_path.files.tolist(), by_path.groups.tolist()) == ([3, 0, 1, 2], [2])


def test_path_order_is_the_tree_s_own(debian: Path) -> None:
    assert arranged(debian, dict.fromkeys(["usr/bin/ay", "usr/bin/bee"], 1), Order.PATH) is None


def test_a_tree_without_packages_keeps_its_order(tmp_path: Path) -> None:
    assert arranged(tmp_path, {"usr/bin/ay": 1}) is None


def test_what_dpkg_keeps_about_a_package_belongs_to_it(debian: Path) -> None:
    owners = Owners(os.fsencode(debian))

    assert owners.of(b"var/lib/dpkg/info/a:amd64.md5sums") == b"a:amd64"
    assert owners.of(b"var/lib/dpkg/status") == b""


@pytest.mark.parametrize("database", ["lib/apk/db", "usr/lib/apk/db"])
def test_packages_of_apk(tmp_path: Path, database: str) -> None:
    write(
        tmp_path,
        {f"{database}/installed": "P:musl\nV:1\nF:\nR:top\nF:lib\nR:ld.so\nR:libc.so\n\nP:zlib\nF:lib\nR:libz.so\n"},
    )
    owners = Owners(os.fsencode(tmp_path))

    assert [owners.of(path) for path in (b"top", b"lib/libc.so", b"lib/libz.so")] == [b"musl", b"musl", b"zlib"]


def test_a_database_outside_of_the_tree_is_none(debian: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/dpkg").symlink_to(debian / "var/lib/dpkg")

    assert Owners(os.fsencode(root)).of(b"usr/bin/bee") == b""


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_a_list_that_is_no_file_is_empty(debian: Path, kind: str) -> None:
    place = debian / INFO / "c.list"
    make = {"link": lambda: place.symlink_to("b.list"), "pipe": lambda: os.mkfifo(place), "directory": place.mkdir}
    make[kind]()

    assert Owners(os.fsencode(debian)).of(b"usr/bin/bee") == b"b"


def test_a_list_that_cannot_be_read_is_an_error(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: bytes, *more: int, dir_fd: int | None = None) -> int:
        if path == b"b.list":
            raise PermissionError(13, "no")
        return real(path, *more, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SourceError, match=r"var/lib/dpkg/info/b\.list"):
        Owners(os.fsencode(debian))


@given(st.permutations(range(6)), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_what_a_stream_gives_goes_back_to_the_files(files: list[int], amounts: list[int]) -> None:
    rows = [[CHUNK.pack(file, 0, place, 1) for place in range(amount)] for file, amount in enumerate(amounts)]
    arrangement = Arrangement(array("I", files), array("I"))
    stream = b"".join(b"".join(rows[file]) for file in files)
    counts = array("I", (amounts[file] for file in files)).tobytes()

    assert arrangement.restored(stream, counts) == (b"".join(map(b"".join, rows)), array("I", amounts).tobytes())
    assert arrangement.paths(b"".join(b"%d\0" % file for file in range(6))) == b"".join(
        b"%d\0" % file for file in files
    )
    sources = b"".join(SOURCE.pack(file, 0, 0, 0, 0) for file in range(6))
    assert [row[0] for row in SOURCE.iter_unpack(arrangement.sources(sources))] == files
