"""Recompute every digest of the image OCI_DIR:TAG, and the whole fs-verity chain in user space."""

from __future__ import annotations

import argparse
import json
import sys

from puzzlefs.errors import IntegrityError
from puzzlefs.image import Image
from puzzlefs.verify import verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("-d", "--digest", metavar="HEX", help="fs-verity digest that the manifest must have")
    parser.add_argument("--jobs", type=int, metavar="N", help="threads (default: one a CPU)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    image = Image.open(options.image)
    report = verify(image, options.digest, options.jobs)
    if options.json:
        facts = {
            "digest": image.verity,
            "ok": report.ok,
            "blobs": report.blobs,
            "bytes": report.bytes,
            "chunks": report.chunks,
            "problems": [finding._asdict() for finding in report.problems],
            "warnings": [finding._asdict() for finding in report.warnings],
        }
        print(json.dumps(facts, sort_keys=True))
        return 0 if report.ok else IntegrityError.exit_code
    for warning in report.warnings:
        print(f"puzzlefs: warning: {warning}", file=sys.stderr)
    for problem in report.problems:
        print(f"puzzlefs: {problem}", file=sys.stderr)
    if not report.ok:
        return IntegrityError.exit_code
    print(f"{image.name}: {report.blobs} blobs, {report.bytes} bytes, {report.chunks} chunks: all as they should be")
    return 0
