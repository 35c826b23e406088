"""What is measured on: trees that are the same each time they are made."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from benches.rows import KIB, MIB
from puzzlefs.packages import Owners
from tools.demo import copy_python, make_rootfs

COPIES = 9
EDITED = 0.02
LARGE = 192 * MIB
GENERATED = 16 * MIB


def made(path: Path, make: Callable[[Path], None]) -> Path:
    """Return the tree at `path`; make it where it is missing, under another name until it is whole."""
    if not path.exists():
        print(f"making {path}", flush=True)
        unfinished = path.with_name(f"{path.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        make(unfinished)
        unfinished.rename(path)
    return path


def copy_tree(source: Path, target: Path) -> None:
    """Copy a tree with all that belongs to it."""
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def debian(trees: Path, source: Path | None) -> Path:
    """Return a Debian root filesystem: a copy of `source`, or made by mmdebstrap."""
    return made(trees / "debian", lambda path: copy_tree(source, path) if source else make_rootfs(path))


def small(trees: Path, source: Path | None) -> Path:
    """Return the Python that runs this, with its library and all that it loads."""
    return made(trees / "python", copy_python)


def duplicates(trees: Path, source: Path | None) -> Path:
    """Return 2 GB in COPIES of the Debian tree; in all but the first, a few files are edited."""

    def make(path: Path) -> None:
        path.mkdir()
        for number in range(COPIES):
            copy_tree(debian(trees, source), path / f"copy-{number}")
            if number:
                edit(path / f"copy-{number}", random.Random(number), EDITED)

    return made(trees / "duplicates", make)


def large(trees: Path, tree: Path) -> Path:
    """Return a tree of one file of at most LARGE bytes: another tree's files, one after another."""

    def make(path: Path) -> None:
        path.mkdir()
        with open(path / "data", "wb") as file:
            file.writelines(name.read_bytes()[: LARGE - file.tell()] for name in regular_files(tree))
            file.truncate(file.tell() // MIB * MIB)

    return made(trees / f"large-{tree.name}", make)


def regular_files(tree: Path) -> list[Path]:
    """Return all regular files with content, sorted."""
    found = [Path(place, name) for place, _, names in os.walk(tree) for name in names]
    return sorted(path for path in found if path.is_file() and not path.is_symlink() and path.stat().st_size)


def edit(tree: Path, chance: random.Random, share: float) -> None:
    """Change one byte in the middle of a share of the files; the same edit twice undoes it."""
    files = regular_files(tree)
    _change(chance.sample(files, round(len(files) * share)))


def edit_packages(tree: Path, chance: random.Random, share: float) -> bool:
    """Change one byte in the middle of each file of some packages, as many as have a share of all files.

    Tells whether the tree has packages. What the system notes of them stays.
    """
    files = regular_files(tree)
    owners = Owners(os.fsencode(tree))
    packages: dict[bytes, list[Path]] = {}
    for path in files:
        name = path.relative_to(tree)
        owner = owners.of(os.fsencode(name))
        if owner and name.parts[:3] != ("var", "lib", "dpkg"):
            packages.setdefault(owner, []).append(path)
    names = sorted(packages)
    chance.shuffle(names)
    wanted = round(len(files) * share)
    while names and wanted > 0:
        changed = packages[names.pop()]
        _change(changed)
        wanted -= len(changed)
    return bool(packages)


def _change(files: Sequence[Path]) -> None:
    for path in files:
        with open(path, "r+b", 0) as file:
            middle = path.stat().st_size // 2
            byte = os.pread(file.fileno(), 1, middle)
            os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), middle)


def shuffled_files(path: Path, size: int, content: bytes) -> None:
    """Make files of 16 MiB that compress as `content` does; no chunk is in two of them, nor in `content`."""
    path.mkdir(parents=True)
    pieces = max(1, len(content) // GENERATED)
    for number in range(size // GENERATED):
        alphabet = bytearray(range(256))
        random.Random(number).shuffle(alphabet)
        start = number % pieces * GENERATED
        (path / f"{number:05}").write_bytes(content[start : start + GENERATED].translate(alphabet))


def small_files(path: Path, count: int) -> None:
    """Make files of 1 KiB of noise on average, none like another, in directories of 1,000.

    Their sizes differ: mksquashfs compares each file with all others of its size.
    """
    chance = random.Random(count)
    for number in range(count):
        directory = path / f"{number // 1000:04}"
        if number % 1000 == 0:
            directory.mkdir(parents=True)
        with open(directory / f"{number:07}", "wb", 0) as file:
            file.write(chance.randbytes(chance.randrange(1, 2 * KIB)))


def one_directory(path: Path, count: int) -> None:
    """Make one directory of `count` small files, and a link that says how many."""
    (path / "entries").mkdir(parents=True)
    (path / "count").symlink_to(str(count))
    for number in range(count):
        with open(path / f"entries/{number:07}", "wb", 0) as file:
            file.write(b"%d" % number)


def one_file(path: Path, size: int) -> None:
    """Make one file of `size` bytes of noise."""
    path.mkdir()
    chance = random.Random(size)
    with open(path / "data", "wb") as file:
        file.writelines(chance.randbytes(min(GENERATED, size - start)) for start in range(0, size, GENERATED))


def warm(tree: Path) -> None:
    """Bring a tree into the page cache."""
    buffer = bytearray(256 * KIB)
    for path in regular_files(tree):
        with open(path, "rb", 0) as file:
            while file.readinto(buffer):
                pass
