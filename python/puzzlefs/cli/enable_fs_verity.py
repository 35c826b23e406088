"""Put the blobs of the image OCI_DIR:TAG under fs-verity, so that the kernel checks every read.

HEX is the manifest's fs-verity digest, as build prints it.
"""

from __future__ import annotations

from puzzlefs.fsverity import enable
from puzzlefs.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("digest", metavar="HEX")


def run(options: argparse.Namespace) -> int:
    result = enable(Image.open(options.image, options.digest), options.digest)
    print(f"{options.image}: {result.files} files under fs-verity, {result.already} of them already were")
    return 0
