"""Run the image OCI_DIR:TAG in a container and return what its program returns; nothing is left behind."""

from __future__ import annotations

import argparse
import os
import sys

from puzzlefs.cli.container import add_container_arguments, container_options
from puzzlefs.container.rootless import enter_user_namespace
from puzzlefs.container.run import run_image
from puzzlefs.image import Image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    terminal = parser.add_mutually_exclusive_group()
    terminal.add_argument(
        "-t", "--tty", action="store_true", default=None, help="a terminal (default: where there is one)"
    )
    terminal.add_argument("-T", "--no-tty", action="store_false", dest="tty", help="no terminal")
    parser.add_argument("--runtime", metavar="PROGRAM", help="container runtime (default: runc, else crun)")
    add_container_arguments(parser)


def run(options: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        enter_user_namespace([sys.executable, "-P", "-m", "puzzlefs", *sys.argv[1:]])
    terminal = options.tty
    if terminal is None:
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
    image = Image.open(options.image, options.digest)
    settings = container_options(options, terminal=terminal)
    return run_image(image, settings, runtime=options.runtime, persist=options.persist, fork=True)
