"""Trees that no builder writes, met by every command: mounts of both servers refuse what the readers refuse."""

from __future__ import annotations

import errno
import os
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from puzzlefs import mountinfo
from puzzlefs._native import Backend
from puzzlefs.cli import main
from puzzlefs.constants import GIB, MIB
from puzzlefs.records import Kind
from puzzlefs.tables import Inode
from tests.images import craft, directory, publish
from tests.malformed import test_tree, test_values
from tests.malformed.words import directory as raw_directory
from tests.malformed.words import image
from tests.mounts import mounted, requires_fuse
from tests.support import measured, run_puzzlefs

NAMES = test_values.BROKEN["bad entry name"]
BROKEN = [
    *[(text, blobs[-1]) for text, blobs in test_tree.BROKEN.items()],
    *[(text, blobs[0]) for text, blobs in test_tree.BROKEN.items()],
    *[("bad entry name", blob) for blob in NAMES],
    ("file too large", test_values.BROKEN["file too large"][4]),
    ("inode numbers do not ascend", test_values.BROKEN["inode numbers do not ascend"][0]),
    # Entries of one number below one another: a loop that no root leads out of.
    ("directory with two parents", image(*(raw_directory(ino, (b"d", ino % 9 + 1)) for ino in range(1, 10)))),
]
HUGE = 1 << 62


@pytest.mark.parametrize(("text", "blob"), BROKEN, ids=[text for text, _ in BROKEN])
def test_every_command_refuses_the_tree(
    text: str,
    blob: bytes,
    tmp_path: Path,
    chosen: Backend,
    backend_name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence, the same from all, nothing mounted and nothing unpacked."""
    requires_fuse()
    name = publish(tmp_path / "oci", blob).name
    mountpoint = tmp_path / "m"
    mountpoint.mkdir()
    done = run_puzzlefs("mount", name, mountpoint, backend=backend_name, check=False)
    assert (done.returncode, done.stderr.decode()) == (3, f"puzzlefs: rootfs: {text}\n")
    assert mountinfo.topmost(mountpoint) is None
    for words in (["ls", name], ["extract", name, str(tmp_path / "out")], ["verify", name]):
        assert (main(words), capsys.readouterr().err) == (3, f"puzzlefs: rootfs: {text}\n"), words
    assert not (tmp_path / "out").exists()


@pytest.fixture
def huge(tmp_path: Path) -> str:
    """An image of a file of 2^62 bytes, all of them in a blob of 5,000."""
    blob = b"x" * 5000
    chunk = (sha256(blob).digest(), 0, 0, HUGE)
    return craft(tmp_path / "oci", [directory(1, (b"f", 2)), Inode(2, Kind.FILE, 0o644, chunks=(chunk,))], [blob]).name


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["cat", "{}", "f"], 3, "shorter than its chunk"),
        (["verify", "{}"], 3, "shorter than its chunk"),
        (["extract", "{}", "{}.out"], 1, "File too large"),
    ],
    ids=["cat", "verify", "extract"],
)
def test_file_of_half_of_all_offsets(words: list[str], code: int, reason: str, huge: str, backend_name: str) -> None:
    """The size is what the metadata says; whoever wants its bytes is told in one sentence, with little memory."""
    command = [
        "prlimit",
        f"--as={3 * GIB}",
        sys.executable,
        "-m",
        "puzzlefs",
        *(word.format(huge) for word in words),
    ]
    found, said, memory = measured(command, {"PUZZLEFS_BACKEND": backend_name}, -3)
    assert (found, said.count("\n"), said.endswith(f": {reason}\n")) == (code, 1, True), said
    assert memory < 300 * MIB


def test_file_of_half_of_all_offsets_in_a_mount(
    huge: str, tmp_path: Path, backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads anywhere in it fail, at its end they are empty."""
    requires_fuse()
    monkeypatch.setenv("PUZZLEFS_BACKEND", backend_name)
    with mounted(huge, tmp_path / "m") as root:
        assert (root / "f").stat().st_size == HUGE
        descriptor = os.open(root / "f", os.O_RDONLY)
        try:
            for offset in (0, 5000, 1 << 40, HUGE - 4096):
                with pytest.raises(OSError) as caught:
                    os.pread(descriptor, 4096, offset)
                assert caught.value.errno == errno.EIO
            assert os.pread(descriptor, 4096, HUGE) == b""
        finally:
            os.close(descriptor)
