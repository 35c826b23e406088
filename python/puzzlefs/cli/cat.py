"""Print files of an image to standard output."""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from puzzlefs.constants import MIB
from puzzlefs.image import Image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("paths", metavar="PATH", nargs="+", type=os.fsencode)
    parser.add_argument("-d", "--digest", metavar="HEX", help="fs-verity digest that the manifest must have")


def run(options: argparse.Namespace) -> int:
    image = Image.open(options.image, options.digest)
    for path in options.paths:
        with image.open(path) as file:
            shutil.copyfileobj(file, sys.stdout.buffer, MIB)
    sys.stdout.buffer.flush()
    return 0
