"""The talk that this project starts from, step by step, by the commands of its slides and what has come since.

`python -m tools.tour ROOTFS > docs/tour.md` walks it as root, in a directory of its own and with an image of
ROOTFS in a registry of its own, and writes what it saw. A test walks it too.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tools.registry import serving

SOURCE = "docker://registry.example/debian:12"
"""What the image is called in the page, whatever it was called on the way."""

_INTRODUCTION = """\
Written by `python -m tools.tour`; do not edit. The talk \"Bringing the PuzzleFS pieces together\" in commands, from an
image in a registry to a container of LXC, and what has come since. Every command is run by a test, as root. Here
`debian:12` is a small system made by mmdebstrap, in a registry on the same machine.
"""
_LXC = "lxc-{} --lxcpath $PWD/containers --name mycontainer"
_OPTIONS = "--url oci:$PWD/store:eg --no-cache --mount-helper pfs-ovl-mount-helper"


class Step(NamedTuple):
    """A step: what it is about, and the commands, of which each is one line or more of shell."""

    title: str
    prose: str
    commands: tuple[str, ...]


STEPS = (
    Step(
        "Build an image",
        "An image of layers, from a registry, unpacked, and built into an image of PuzzleFS:",
        (
            f"skopeo copy -q {SOURCE} oci:image:latest",
            "umoci unpack --image image:latest unpacked 2> /dev/null",
            "puzzlefs build -c unpacked/rootfs store:eg",
            "du -sh --apparent-size unpacked/rootfs store | tr '\\t' ' '",
        ),
    ),
    Step(
        "What it consists of",
        "An OCI image layout, whose manifest names the metadata first, then the blobs of file data:",
        ("ls store", "puzzlefs inspect --raw store:eg | jq -c '.layers[:2][]'", "puzzlefs verify store:eg"),
    ),
    Step(
        "Without unpacking",
        "`convert` does the same in one pass; owners, modes, times, links and devices are those of the layers:",
        (f"puzzlefs convert -c {SOURCE} store:converted", "puzzlefs ls store:converted / | head -n 3"),
    ),
    Step(
        "Copy it",
        "Tools that know nothing of PuzzleFS move it, and the digest that it was built with still mounts it:",
        (
            "skopeo copy -q oci:store:eg oci:copy:eg",
            "mkdir mnt",
            "puzzlefs mount -d $(puzzlefs inspect --json store:eg | jq -r .digest) copy:eg mnt",
            "ls mnt",
            "puzzlefs umount mnt",
        ),
    ),
    Step(
        "A container of LXC",
        "LXC makes a container of the image by our template; with that of LXC 7, `--template oci` does. "
        "What the container writes is kept beside it:",
        (
            "echo 'lxc.net.0.type = empty' > lxc.conf; mkdir containers",
            f"{_LXC.format('create')} --config lxc.conf --template $(puzzlefs lxc template-path) -- {_OPTIONS}",
            f"{_LXC.format('start')} --foreground -- /bin/sh -c 'echo hello from $(hostname) | tee /root/note'",
            f"{_LXC.format('start')} -- /bin/sh -c 'while :; do sleep 1; done'",
            f"{_LXC.format('attach')} -- cat /root/note",
            f"{_LXC.format('stop')} --kill",
            f"{_LXC.format('destroy')}",
            "findmnt --noheadings --types fuse.puzzlefs --output TARGET | grep $PWD || echo nothing is mounted",
        ),
    ),
    Step(
        "Change it",
        "The overlay that the slides' helper script lays over the image is an option of `mount`. What was "
        "changed becomes an image of its own, of which only that is new:",
        (
            "puzzlefs mount -w -p changes store:eg mnt",
            "echo changed > mnt/etc/motd",
            "puzzlefs commit -c mnt store:changed",
            "puzzlefs umount mnt",
            "puzzlefs inspect store:changed | grep layers",
            "puzzlefs cat store:changed /etc/motd",
        ),
    ),
    Step(
        "A stacker file",
        "The file of the last slide, its base from the registry:",
        (
            "cat stacker.yaml",
            "puzzlefs build -f stacker.yaml store",
            "puzzlefs run store:hello-stacker",
            "puzzlefs build -f stacker.yaml store",
        ),
    ),
    Step(
        "A Containerfile",
        "As easy as with any other container engine, in one command:",
        ("cat Containerfile", "puzzlefs build --run -f Containerfile . store:app 2> /dev/null"),
    ),
)
FILES = {
    "stacker.yaml": f"""hello-stacker:
  from:
    type: docker
    url: {SOURCE}
  run: |
    mkdir -p /hello-stacker-app
    echo 'echo "Hello Stacker!"' > /hello-stacker-app/hello.sh
    chmod +x /hello-stacker-app/hello.sh
  entrypoint: /bin/sh /hello-stacker-app/hello.sh
""",
    "Containerfile": f"""FROM {SOURCE.removeprefix("docker://")}
RUN echo hello from a container > /greeting
ENTRYPOINT ["/bin/cat", "/greeting"]
""",
}


class Walked(NamedTuple):
    """A command that was run, and all that it printed."""

    command: str
    output: str


def prepare(home: Path, source: str) -> dict[str, str]:
    """Put files and programs into a directory; return the environment of the commands."""
    for name, text in FILES.items():
        (home / name).write_text(named(text, source))
    # The registry speaks plain HTTP.
    settings = home / ".config/containers/registries.conf"
    settings.parent.mkdir(parents=True)
    address = source.removeprefix("docker://").partition("/")[0]
    settings.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    programs = home / "bin"
    programs.mkdir()
    for name, module in (("puzzlefs", "puzzlefs"), ("pfs-ovl-mount-helper", "puzzlefs.lxc.helper")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    return {"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8"}


@contextmanager
def offered(rootfs: Path, home: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Offer an image of a tree, made by umoci, in a registry; give its name and an environment that knows it."""
    home.mkdir()
    layout = home / "layout"
    for words in (
        ("init", "--layout", layout),
        ("new", "--image", f"{layout}:t"),
        ("insert", "--image", f"{layout}:t", rootfs, "/"),
        ("config", "--image", f"{layout}:t", "--config.cmd", "/bin/sh"),
    ):
        subprocess.run(["umoci", *map(str, words)], check=True, capture_output=True)
    with serving(home) as address:
        storage = home / "storage.conf"
        storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{home}/images"\nrunroot = "{home}/run"\n')
        name = f"docker://{address}/debian:12"
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:t", name]
        subprocess.run(copy, check=True, capture_output=True)
        yield name, {"CONTAINERS_STORAGE_CONF": str(storage)}


def named(text: str, source: str) -> str:
    """Return a text of the tour with the image's name as it is here."""
    return text.replace(SOURCE, source).replace(SOURCE.removeprefix("docker://"), source.removeprefix("docker://"))


def walk(home: Path, source: str, environment: Mapping[str, str]) -> Iterator[tuple[Step, list[Walked]]]:
    """Run every command in a directory; raise `RuntimeError` where one fails."""
    for step in STEPS:
        walked = []
        for command in step.commands:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", named(command, source)],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=300,
            )
            output = done.stdout.decode(errors="replace")
            if done.returncode:
                raise RuntimeError(f"{command}\nexit code {done.returncode}: {output}")
            walked.append(Walked(command, output))
        yield step, walked


def page(walked: Iterator[tuple[Step, list[Walked]]], home: Path, source: str) -> str:
    """Return the tour in Markdown."""
    parts = ["# A tour\n", _INTRODUCTION]
    for step, commands in walked:
        lines = []
        for command, output in commands:
            shown = output.replace(str(home), "/root/tour").replace(source.removeprefix("docker://"), SOURCE[9:])
            lines += [f"# {command}", *shown.splitlines()]
        parts.append("\n".join([f"## {step.title}\n", f"{step.prose}\n", "```console", *lines, "```\n"]))
    return "\n".join(parts)


def main() -> None:
    """Walk the tour and print the page."""
    with tempfile.TemporaryDirectory(prefix="tour-") as directory:
        home = Path(directory) / "tour"
        home.mkdir()
        with offered(Path(sys.argv[1]), Path(directory) / "offered") as (source, environment):
            python = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
            environment |= {**prepare(home, source), **python}
            print(page(walk(home, source, environment), home, source), end="")


if __name__ == "__main__":
    main()
