"""A process with users, mounts and processes of its own: what it is given, gives back, and where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from puzzlefs.isolation import IsolatedError, isolated
from tests.mounts import PACKAGES
from tests.support import requires_root

ROOT = Path(__file__).resolve().parents[2]
WORK = "tests.isolated_work"


@pytest.fixture(autouse=True)
def _package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process finds the tests' module."""
    requires_root()
    monkeypatch.setenv("PYTHONPATH", f"{PACKAGES}:{ROOT}")


def test_root_of_a_namespace_with_everybodys_numbers() -> None:
    (process, user, namespace, numbers), notices = isolated(WORK, "facts")
    assert (process, user, numbers, notices) == (1, 0, ["0", "0", "4294967295"], ())
    assert namespace != os.readlink("/proc/self/ns/user")


def test_what_is_asked_and_answered_may_be_large() -> None:
    """More than a pipe holds."""
    request = {"bytes": bytes(1 << 20)}
    assert isolated(WORK, request).value == request


def test_its_mounts_are_its_own(tmp_path: Path) -> None:
    assert isolated(WORK, ("mount", str(tmp_path))).value is True
    assert not os.path.ismount(tmp_path)


@pytest.mark.parametrize(
    ("request_", "text", "code"),
    [
        ("refuse", "not this", 3),
        ("fail", "RuntimeError: a mistake", 1),
        ("die", "the process of tests.isolated_work ended without a word", 1),
    ],
)
def test_what_goes_wrong_in_it(request_: str, text: str, code: int) -> None:
    with pytest.raises(IsolatedError) as caught:
        isolated(WORK, request_)
    assert (str(caught.value), caught.value.exit_code) == (text, code)


def test_where_nobody_has_namespaces() -> None:
    """As where the system's limit of them is 0."""
    program = f"from puzzlefs.isolation import isolated; isolated({WORK!r}, 'facts')"
    limited = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1"'
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", limited, sys.executable, program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "puzzlefs.isolation.IsolatedError: this system gives no user namespace of one's own: "
        "the limit is reached (user.max_user_namespaces)"
    )
