"""Print files of an image to standard output."""

from __future__ import annotations

import os
import sys

from puzzlefs.constants import MIB
from puzzlefs.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("paths", metavar="PATH", nargs="+", type=os.fsencode)
    parser.add_argument("-d", "--digest", metavar="HEX", help="fs-verity digest that the manifest must have")


def run(options: argparse.Namespace) -> int:
    image = Image.open(options.image, options.digest)
    for path in options.paths:
        with image.open(path) as file:
            while content := file.read(MIB):
                sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return 0
