"""List the images of the store OCI_DIR: tag, manifest digest, platform."""

from __future__ import annotations

import json

from puzzlefs.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="OCI_DIR")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    rows = [
        {"tag": tag, "digest": entry.digest, "platform": dict(entry.platform) if entry.platform else None}
        for tag, entry in Store.open(options.store.removeprefix("oci:")).tags()
    ]
    if options.json:
        print(json.dumps(rows, sort_keys=True))
        return 0
    width = max((len(str(row["tag"])) for row in rows), default=0)
    for row in rows:
        platform = row["platform"]
        shown = f"{platform.get('os')}/{platform.get('architecture')}" if isinstance(platform, dict) else "-"
        print(f"{row['tag']:<{width}}  {row['digest']}  {shown}")
    return 0
