"""One tree, one digest: whoever builds it, wherever, with whatever threads, backend and store."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

import puzzlefs
from puzzlefs.builder import BuildOptions
from puzzlefs.errors import SourceError
from puzzlefs.image import Image
from tests.support import puzzlefs as run
from tests.support import requires_root

NOBODY = 65534


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that everybody may read, in a directory that everybody may enter."""
    home = tmp_path_factory.mktemp("reproducible")
    for directory in (home, home.parent, home.parent.parent):
        os.chmod(directory, 0o755)
    source = random.Random(3)
    for number in range(60):
        path = home / "tree" / f"{number % 7}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            source.choice([source.randbytes, lambda size: b"text " * (size // 5)])(source.randrange(90_000))
        )
        os.utime(path, ns=(0, number * 1_000_000_007))
    os.link(home / "tree" / "3" / "3", home / "tree" / "5" / "linked")
    (home / "tree" / "link").symlink_to("5/linked")
    for name in ("user.b", "user.a"):
        os.setxattr(home / "tree" / "1" / "1", name, b"value")
    return home


def as_nobody(work: Callable[[], str]) -> str:
    """Run `work` in a process without privileges; return what it returns, or the error's text.

    What it needs must be imported already: the interpreter's own files may be out of reach then.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, work().encode())
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def test_digest_depends_on_the_tree_alone(home: Path, tmp_path: Path, backend_name: str) -> None:
    """Other places, orders of creation, job counts and stores give the digest of the first build."""
    first = run(
        "build", "-c", home / "tree", f"{tmp_path}/first:t", backend="rust" if backend_name == "python" else "python"
    )
    subprocess.run(["cp", "-a", home / "tree", tmp_path / "copied"], check=True)
    backwards = tmp_path / "backwards"
    subprocess.run(
        f"mkdir {backwards} && tar -C {home}/tree -cf - --xattrs --sort=name . | tar -C {backwards} --xattrs -xf -",
        shell=True,
        check=True,
    )

    for (tree, jobs), store in itertools.zip_longest(
        itertools.product([home / "tree", tmp_path / "copied", backwards], [1, 2, 5]),
        ["new", "first"],
        fillvalue="full",
    ):
        assert run("build", "-c", "--jobs", jobs, tree, f"{tmp_path}/{store}:u", backend=backend_name) == first


def test_changed_byte_changes_the_digest(home: Path, tmp_path: Path) -> None:
    """The comparison above can fail: one byte, one mode or one time makes another image."""
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", home / "tree", tree], check=True)
    digests = [run("build", tree, f"{tmp_path}/oci:t")]
    victim = tree / "1" / "1"
    times = (0, victim.stat().st_mtime_ns)
    with victim.open("r+b") as file:
        file.write(b"#")
    os.utime(victim, ns=times)
    digests.append(run("build", tree, f"{tmp_path}/oci:t"))
    victim.chmod(0o600)
    digests.append(run("build", tree, f"{tmp_path}/oci:t"))
    os.utime(victim, ns=(0, times[1] + 1))
    digests.append(run("build", tree, f"{tmp_path}/oci:t"))

    assert len(set(digests)) == 4


def test_any_user_builds_the_same_image(home: Path, tmp_path: Path) -> None:
    """A user without privileges gets root's digest, attributes that only root sees notwithstanding."""
    requires_root()
    os.setxattr(home / "tree" / "2" / "2", "trusted.mark", b"root's own")
    tmp_path.chmod(0o777)
    options = BuildOptions(compression=True)
    ours = puzzlefs.build(home / "tree", f"{tmp_path}/root:t", options).digest

    assert as_nobody(lambda: puzzlefs.build(home / "tree", f"{tmp_path}/nobody:t", options).digest) == ours


def test_unreadable_file_stops_the_build_by_name(home: Path, tmp_path: Path) -> None:
    """What a user may not read is named, and the tag stays as it was."""
    requires_root()
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", home / "tree", tree], check=True)
    tmp_path.chmod(0o777)
    before = puzzlefs.build(tree, f"{tmp_path}/oci:t").manifest
    subprocess.run(["chmod", "-R", "a+rwX", tmp_path / "oci"], check=True)
    (tree / "4" / "4").chmod(0o600)

    def build() -> str:
        try:
            return puzzlefs.build(tree, f"{tmp_path}/oci:t").digest
        except SourceError as error:
            return str(error)

    assert as_nobody(build) == "4/4: Permission denied"
    assert Image.open(f"{tmp_path}/oci:t").descriptor.digest == before
