"""Make a bundle for runc or crun of DIR: the image OCI_DIR:TAG mounted on DIR/rootfs, and config.json."""

from __future__ import annotations

import argparse
import os

from puzzlefs.cli.container import add_container_arguments, container_options
from puzzlefs.container.bundle import make_bundle
from puzzlefs.image import Image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("directory", metavar="DIR", help="absent or empty")
    parser.add_argument("-t", "--tty", action="store_true", help="a terminal for the program")
    add_container_arguments(parser)


def run(options: argparse.Namespace) -> int:
    image = Image.open(options.image, options.digest)
    settings = container_options(options, terminal=options.tty)
    make_bundle(image, options.directory, settings, persist=options.persist, fork=True)
    # An interpreter takes longer to end than the mount took to begin.
    os._exit(0)
