"""Unpack the image OCI_DIR:TAG into DIR, which is absent or empty."""

from __future__ import annotations

import json
import sys

from puzzlefs.errors import shown
from puzzlefs.extract import extract
from puzzlefs.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("-d", "--digest", metavar="HEX", help="fs-verity digest that the manifest must have")
    parser.add_argument("--no-same-owner", action="store_true", help="everything belongs to the caller")
    parser.add_argument("--jobs", type=int, metavar="N", help="threads (default: one a CPU, eight at most)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    image = Image.open(options.image, options.digest)
    result = extract(image, options.directory, same_owner=not options.no_same_owner, jobs=options.jobs)
    skipped = [{"path": shown(path), "reason": reason} for path, reason in result.skipped]
    if options.json:
        counts = {"files": result.files, "inodes": result.inodes, "bytes": result.bytes}
        print(json.dumps({**counts, "skipped": skipped}, sort_keys=True))
        return 0
    for item in skipped[:_SHOWN]:
        print(f"puzzlefs: {item['path']}: {item['reason']}", file=sys.stderr)
    if len(skipped) > _SHOWN:
        print(f"puzzlefs: and {len(skipped) - _SHOWN} more (--json lists them all)", file=sys.stderr)
    return 0
