"""What a program has to offer to be compared."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from benches import process
from benches.process import Usage

Words = list[str]


class Peer:
    """A program with images: how to build, mount and unpack them.

    A `place` is an empty directory that the peer may fill; `raw` asks for an image without compression.
    """

    name: str
    title: str
    programs: tuple[str, ...] = ()
    builds = True
    incremental = False
    mounts = True
    extracts = True
    raw = True
    ours = False
    # Whether an ordinary user mounts by the same command, through fusermount3.
    for_users = False

    def missing(self) -> str | None:
        """Return why it cannot be measured here, or None."""
        absent = [program for program in self.programs if shutil.which(program) is None]
        return f"no {' and no '.join(absent)}" if absent else None

    def version(self) -> str:
        """Return the program's version."""
        raise NotImplementedError

    def build_command(self, tree: Path, place: Path, *, raw: bool) -> Words:
        """Return the command that builds an image of `tree` in `place`, or builds it again."""
        raise NotImplementedError

    def mount_command(self, place: Path, mountpoint: Path) -> Words:
        """Return the command that mounts the image and ends when that is done."""
        raise NotImplementedError

    def extract_command(self, place: Path, directory: Path) -> Words:
        """Return the command that unpacks the image into `directory`, which is absent."""
        raise NotImplementedError

    def stored(self, place: Path) -> int:
        """Return the bytes of the image."""
        raise NotImplementedError

    def environment(self, place: Path) -> Mapping[str, str]:
        """Return what the commands need in their environment.

        What a program remembers lies with its image, so that a first build is a first build.
        """
        return {"XDG_CACHE_HOME": str(place / "cache")}

    def build(self, tree: Path, place: Path, *, raw: bool) -> Usage:
        return process.measured(self.build_command(tree, place, raw=raw), self.environment(place))

    def extract(self, place: Path, directory: Path) -> Usage:
        return process.measured(self.extract_command(place, directory), self.environment(place))

    @contextlib.contextmanager
    def mounting(self, place: Path, mountpoint: Path) -> Iterator[None]:
        """Mount; what the block does not unmount, the caller does."""
        process.run(self.mount_command(place, mountpoint), self.environment(place))
        yield


def first_line(*command: str) -> str:
    """Return the first line with a version that a command prints, to either stream; else its first line."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [""]
    return next((line for line in lines if re.search(r"\d\.\d", line)), lines[0]).strip("* ")


def size_of(*paths: Path) -> int:
    """Return the bytes of files, and of all files below directories."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file())
