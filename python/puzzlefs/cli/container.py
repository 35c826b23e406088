"""Arguments of the verbs that run images."""

from __future__ import annotations

import argparse
import os

from puzzlefs.cli.arguments import add_runtime_arguments, runtime_config
from puzzlefs.container.rootless import is_rootless
from puzzlefs.container.spec import HOST, NONE, ContainerOptions, Volume
from puzzlefs.errors import UsageError


def add_container_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `container_options` reads, `--persist` and `--digest`."""
    parser.add_argument("command", nargs="*", metavar="CMD", help="after --: instead of the image's default arguments")
    parser.add_argument("-d", "--digest", metavar="HEX", help="fs-verity digest that the manifest must have")
    parser.add_argument("-w", "--writable", action="store_true", help="let the container write to its root filesystem")
    parser.add_argument("-p", "--persist", metavar="DIR", help="where a writable container's changes are kept")
    parser.add_argument(
        "-v", "--volume", action="append", default=[], metavar="SRC:DST[:ro]", help="what of the host it sees"
    )
    parser.add_argument(
        "--network", choices=[NONE, HOST], default=NONE, help="its network: none (default), or the host's"
    )
    parser.add_argument("--hostname", default="puzzlefs", metavar="NAME", help="its name (default: puzzlefs)")
    add_runtime_arguments(parser.add_argument_group("instead of what the image says"))
    parser.set_defaults(cmd=None, label=[], takes_command=True)


def container_options(options: argparse.Namespace, *, terminal: bool) -> ContainerOptions:
    """Return what the options say. Raises `UsageError`."""
    return ContainerOptions(
        runtime=runtime_config(options),
        command=options.command,
        writable=options.writable or options.persist is not None,
        terminal=terminal,
        network=options.network,
        hostname=options.hostname,
        volumes=[_volume(text) for text in options.volume],
        rootless=is_rootless(),
    )


def _volume(text: str) -> Volume:
    source, _, rest = text.partition(":")
    destination, _, mode = rest.partition(":")
    if not source or not destination.startswith("/") or mode not in ("", "ro", "rw"):
        raise UsageError(f"--volume: {text!r} is not SRC:DST or SRC:DST:ro with an absolute DST")
    if not os.path.exists(source):
        raise UsageError(f"--volume: {source}: no such file or directory")
    return Volume(os.path.abspath(source), destination, mode == "ro")
