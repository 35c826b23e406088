"""The tour of docs/tour.md, walked with a small system of busybox: every command of the talk, and what has come since."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from puzzlefs import mountinfo
from puzzlefs.unmount import unmount
from tests.mounts import PACKAGES, requires_fuse
from tests.support import requires_root
from tools import tour
from tools.registry import REGISTRY

PAGE = Path(__file__).resolve().parents[2] / "docs/tour.md"
PROGRAMS = ("buildah", "bwrap", "jq", "lxc-start", "runc", "skopeo", "umoci")
TOOLS = ("sh", "cat", "chmod", "echo", "hostname", "ls", "mkdir", "sleep", "tee")


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A system that can do what the tour's containers do."""
    requires_root()
    requires_fuse()
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    busybox = shutil.which("busybox")
    if missing or busybox is None or not REGISTRY.exists():
        pytest.skip(f"needs {', '.join(missing) or 'busybox and docker-registry'}")
    root = tmp_path / "rootfs"
    for name in ("bin", "dev", "etc", "proc", "root", "sbin", "sys", "tmp", "usr"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in TOOLS:
        (root / "bin" / name).symlink_to("busybox")
    return root


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Where it is walked; nothing stays mounted or running, even where it ends early."""
    home = tmp_path / "tour"
    home.mkdir()
    yield home
    if (home / "containers/mycontainer").exists():
        subprocess.run(["lxc-destroy", "-f", "-P", home / "containers", "-n", "mycontainer"], check=False)
    left = [mount for mount in mountinfo.mounts() if os.fsencode(tmp_path) in mount.mountpoint]
    for mount in reversed(left):
        unmount(os.fsdecode(mount.mountpoint), lazy=True)
    assert left == []


def test_every_command_does_what_the_page_shows(rootfs: Path, home: Path, tmp_path: Path) -> None:
    with tour.offered(rootfs, tmp_path / "offered") as (source, environment):
        environment |= {**tour.prepare(home, source), "PYTHONPATH": PACKAGES, "XDG_CACHE_HOME": str(home / "cache")}
        said = {one.command: one.output for _, walked in tour.walk(home, source, environment) for one in walked}

    def of(part: str) -> str:
        return next(output for command, output in said.items() if part in command)

    assert "all as they should be" in of("puzzlefs verify")
    assert of("ls mnt") == "bin\ndev\netc\nproc\nroot\nsbin\nsys\ntmp\nusr\n"
    assert of("lxc-attach") == "hello from mycontainer\n"
    assert of("findmnt") == "nothing is mounted\n"
    assert of("/etc/motd") == "" and of("puzzlefs cat") == "changed\n"
    assert of("puzzlefs run") == "Hello Stacker!\n"
    assert "its step was done before" in of("build -f stacker.yaml")
    assert of("build --run") == "hello from a container\n"


def test_the_page_has_the_tours_commands() -> None:
    """What was written of an earlier walk tells of the same steps."""
    lines = PAGE.read_text().splitlines()
    shown = [line.removeprefix("# ") for line in lines[1:] if line.startswith("# ")]
    assert shown == [command for step in tour.STEPS for command in step.commands]
