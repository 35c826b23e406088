"""Recompute every digest of the image OCI_DIR:TAG, and the whole fs-verity chain in user space.

With --all: of every image in the store OCI_DIR, and of every blob file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from puzzlefs.errors import IntegrityError, UsageError
from puzzlefs.image import Image
from puzzlefs.verify import Finding, VerifyReport, verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("--all", action="store_true", help="check the whole store OCI_DIR, every tag and every blob")
    parser.add_argument("-d", "--digest", metavar="HEX", help="fs-verity digest that the manifest must have")
    parser.add_argument("--jobs", type=int, metavar="N", help="threads (default: one a CPU)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    if options.all:
        return _run_all(options)
    image = Image.open(options.image)
    report = verify(image, options.digest, options.jobs)
    if options.json:
        _print_json({"digest": image.verity, **_facts(report)})
    elif _tell(report.problems, report.warnings):
        counts = f"{report.blobs} blobs, {report.bytes} bytes, {report.chunks} chunks"
        print(f"{image.name}: {counts}: all as they should be")
    return 0 if report.ok else IntegrityError.exit_code


def _run_all(options: argparse.Namespace) -> int:
    from puzzlefs.verify_store import verify_store

    if options.digest is not None:
        raise UsageError("--digest is of one image, --all checks every image")
    path = options.image.removeprefix("oci:")
    report = verify_store(Path(path), options.jobs)
    if options.json:
        images = [{"name": name, **_facts(checked)} for name, checked in report.images]
        store = {"ok": report.ok, "blobs": report.blobs, "bytes": report.bytes, "images": images}
        _print_json({**store, **_findings(report.problems, report.warnings)})
    elif _tell(report.problems, report.warnings):
        print(f"{path}: {len(report.images)} images, {report.blobs} blobs, {report.bytes} bytes: all as they should be")
    return 0 if report.ok else IntegrityError.exit_code


def _facts(report: VerifyReport) -> dict[str, Any]:
    counts = {"ok": report.ok, "blobs": report.blobs, "bytes": report.bytes, "chunks": report.chunks}
    return {**counts, **_findings(report.problems, report.warnings)}


def _findings(problems: Sequence[Finding], warnings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "problems": [finding._asdict() for finding in problems],
        "warnings": [finding._asdict() for finding in warnings],
    }


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, sort_keys=True))


def _tell(problems: Sequence[Finding], warnings: Sequence[Finding]) -> bool:
    """Print what was found, a line each; return whether nothing is wrong."""
    for warning in warnings:
        print(f"puzzlefs: warning: {warning}", file=sys.stderr)
    for problem in problems:
        print(f"puzzlefs: {problem}", file=sys.stderr)
    return not problems
