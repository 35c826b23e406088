"""What a container's configuration says of an image, as far as it needs no LXC."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from puzzlefs.builder import BuildOptions, build
from puzzlefs.errors import UnsupportedError
from puzzlefs.image import Image
from puzzlefs.lxc import config
from puzzlefs.runtime_config import RuntimeConfig


def lines(home: Path, runtime: RuntimeConfig, has_init: bool = False) -> list[str]:
    """Return the lines for an image with a runtime config."""
    (home / "tree").mkdir()
    build(home / "tree", f"{home}/oci:t", BuildOptions(runtime=runtime))
    return list(config.process_lines(Image.open(f"{home}/oci:t"), has_init))


def test_plain_words_are_given_as_they_are(tmp_path: Path) -> None:
    found = lines(tmp_path, RuntimeConfig(entrypoint=["/bin/app", "-x"], cmd=["$HOME"]))
    assert "lxc.init.cmd = /bin/app -x $HOME" in found
    assert "lxc.execute.cmd = /bin/app -x $HOME" in found


@pytest.mark.parametrize("word", ["a b", "a  b", "", "it's", '"', "\t"])
def test_other_words_come_through_a_shell(tmp_path: Path, word: str) -> None:
    """LXC splits at spaces, and knows no quotes."""
    found = lines(tmp_path, RuntimeConfig(entrypoint=["/bin/app", word]))
    (variable,) = [line for line in found if line.startswith("lxc.environment = PUZZLEFS_COMMAND=")]
    assert variable.endswith(shlex.join(["exec", "/bin/app", word]))
    assert 'lxc.init.cmd = /bin/sh -c eval${IFS}"$PUZZLEFS_COMMAND"' in found


@pytest.mark.parametrize(
    "runtime",
    [
        RuntimeConfig(cmd=["a\nlxc.hook.pre-start = b"]),
        RuntimeConfig(env=["A=b\nlxc.hook.pre-start = c"]),
        RuntimeConfig(workdir="/a\nlxc.hook.pre-start = b"),
    ],
)
def test_no_config_of_an_image_adds_lines(tmp_path: Path, runtime: RuntimeConfig) -> None:
    """A hook of the host in a hostile image's environment would run as root."""
    with pytest.raises(UnsupportedError, match="more than one line"):
        lines(tmp_path, runtime)


def test_image_without_a_config(tmp_path: Path) -> None:
    """A shell as root, or the image's own init."""
    found = lines(tmp_path, RuntimeConfig())
    assert "lxc.init.cmd = /bin/sh" in found and "lxc.init.uid = 0" in found
    image = Image.open(f"{tmp_path}/oci:t")
    assert not any(line.startswith("lxc.init.cmd") for line in config.process_lines(image, has_init=True))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", []),
        ("lxc.idmap = u 0 100000 65536\nlxc.idmap=g 0 100000 65536\n", ["--idmap", "0:100000:65536"]),
        ("lxc.idmap = b 0 1 2\n", ["--idmap", "0:1:2"]),
        ("# lxc.idmap = u 0 1 2\nlxc.idmap = u 0 1\n", []),
    ],
)
def test_identity_map_for_a_shared_mount(tmp_path: Path, text: str, options: list[str]) -> None:
    (tmp_path / "config").write_text(text)
    assert config.identity_options(str(tmp_path / "config")) == options


def test_identity_maps_that_differ(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("lxc.idmap = u 0 1 2\n")
    with pytest.raises(UnsupportedError, match="same map for users and groups"):
        config.identity_options(str(tmp_path / "config"))
