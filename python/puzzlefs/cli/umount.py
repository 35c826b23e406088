"""Unmount the image mounted on MOUNTPOINT, and an overlay over it first."""

from __future__ import annotations

from puzzlefs.unmount import unmount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")
    parser.add_argument("--lazy", action="store_true", help="detach now, end when the last user does")


def run(options: argparse.Namespace) -> int:
    unmount(options.mountpoint, options.lazy)
    return 0
