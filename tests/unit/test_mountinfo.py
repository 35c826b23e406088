"""The kernel's table of mounts."""

from __future__ import annotations

import os

import pytest

from puzzlefs import mountinfo

LINES = rb"""
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
60 21 0:44 / /mnt/a\040b\134c\011\012 ro,nosuid shared:2 master:1 - fuse.puzzlefs oci:v ro,user_id=0
61 60 0:45 / /mnt/o rw - overlay overlay rw,lowerdir=/mnt/a\040b,upperdir=/u,workdir=/w
62 61 0:46 / /mnt/empty-source rw - fuse  rw
broken
63 61 0:47 / /mnt/none rw
"""


def test_parse() -> None:
    """Escapes are undone, optional fields are passed over, lines without a separator left out."""
    table = mountinfo.parse(LINES)
    assert [mount.ident for mount in table] == [21, 60, 61, 62]
    assert table[0] == mountinfo.Mount(21, 1, "254:0", b"/", b"/", "ext4", b"/dev/vda", b"rw")
    assert table[1].mountpoint == b"/mnt/a b\\c\t\n"
    assert table[1].source == b"oci:v"
    assert table[2].options == b"rw,lowerdir=/mnt/a b,upperdir=/u,workdir=/w"
    assert (table[3].source, table[3].options) == (b"", b"rw")


def test_ours() -> None:
    assert [mount.is_ours for mount in mountinfo.parse(LINES)] == [False, True, False, True]


def test_topmost_of_mounts_on_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    table = mountinfo.parse(LINES + rb"64 61 0:48 / /mnt/o rw - tmpfs tmpfs rw")
    monkeypatch.setattr(mountinfo, "mounts", lambda: table)
    found = mountinfo.topmost("/mnt/x/../o")
    assert found is not None
    assert found.kind == "tmpfs"


def test_real_table_has_proc() -> None:
    assert mountinfo.topmost("/proc") is not None
    assert mountinfo.topmost("/no/such/place") is None


def test_mount_of_a_device() -> None:
    mount = mountinfo.of_device(os.stat("/proc").st_dev)
    assert mount is not None
    assert mount.kind == "proc"
