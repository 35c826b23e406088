"""What containers are told of an image, and what a run does with signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from puzzlefs.container.run import _Signals
from puzzlefs.container.spec import ContainerOptions, runtime_spec
from puzzlefs.container.user import User, resolve_user
from puzzlefs.errors import UsageError
from puzzlefs.image import Image
from puzzlefs.runtime_config import RuntimeConfig
from tests.layers import converted, file, layer


def image_of(tmp_path: Path, config: dict[str, Any] | None = None, **files: str) -> Image:
    """Return an image with this config block and these files in /etc."""
    return converted(
        tmp_path, layer(*(file(f"etc/{name}", text.encode()) for name, text in files.items())), config=config or {}
    )


def test_a_program_comes_from_the_image_or_from_the_user(tmp_path: Path) -> None:
    """Arguments of the user take the place of the image's, a program of the user's that of both."""
    image = image_of(tmp_path, {"Entrypoint": ["/bin/a"], "Cmd": ["b"], "WorkingDir": "srv"})

    def arguments(**options: Any) -> list[str]:
        found: list[str] = runtime_spec(image, ContainerOptions(**options))["process"]["args"]
        return found

    assert arguments() == ["/bin/a", "b"]
    assert arguments(command=["c", "d"]) == ["/bin/a", "c", "d"]
    assert arguments(runtime=RuntimeConfig(entrypoint=["/bin/e"])) == ["/bin/e"]
    assert runtime_spec(image, ContainerOptions())["process"]["cwd"] == "/srv"


MALFORMED = [
    {"Entrypoint": "sh"},
    {"Entrypoint": [7]},
    {"Cmd": {"a": "b"}},
    {"Cmd": ["sh"], "User": 7},
    {"Cmd": ["sh"], "WorkingDir": ["/"]},
    {"Cmd": ["sh"], "Volumes": ["/data"]},
    {"Cmd": ["s\0h"]},
    {},
]


@pytest.mark.parametrize("config", MALFORMED)
def test_an_image_that_does_not_say_what_to_run_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    """By one sentence, whatever stands there instead."""
    with pytest.raises(UsageError):
        runtime_spec(image_of(tmp_path, config), ContainerOptions())


PASSWD = "root:x:0:0::/root:/bin/sh\nodd line\nbad:x:many:0::/:\nme:x:1000:100::/home/me:/bin/sh\n7:x:1007:1:::\n"
GROUP = "root:x:0:\nusers:x:100:me\nmore:x:200:you,me\nbad:x:-1:me\nhuge:x:4294967295:me\n"
USERS = {
    "": User(0, 0, (), "/root"),
    "me": User(1000, 100, (200,), "/home/me"),
    "1000": User(1000, 100, (200,), "/home/me"),
    "7": User(1007, 1, (), ""),
    "me:more": User(1000, 200, (), "/home/me"),
    "5:6": User(5, 6),
}


@pytest.mark.parametrize("text", USERS)
def test_users_are_looked_up_in_the_image(tmp_path: Path, text: str) -> None:
    """By name before number; lines that make no sense count for nothing."""
    assert resolve_user(image_of(tmp_path, passwd=PASSWD, group=GROUP), text) == USERS[text]


@pytest.mark.parametrize("text", ["you", "bad", "-1", "4294967295", "me:bad", "me:huge", "\u0663"])
def test_a_user_that_there_is_not_is_refused(tmp_path: Path, text: str) -> None:
    """Names that nobody has, numbers that nobody can have."""
    with pytest.raises(UsageError):
        resolve_user(image_of(tmp_path, passwd=PASSWD, group=GROUP), text)


def test_an_image_without_tables_has_numbers(tmp_path: Path) -> None:
    """No /etc/passwd, no names."""
    image = image_of(tmp_path)

    assert resolve_user(image, "8:9") == User(8, 9)
    with pytest.raises(UsageError):
        resolve_user(image, "root")


def test_a_signal_before_there_is_a_program_ends_the_run() -> None:
    """As an error that everything on the way cleans up after; signals of no such meaning pass."""
    before = signal.getsignal(signal.SIGTERM)
    with _Signals():
        os.kill(os.getpid(), signal.SIGWINCH)
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
