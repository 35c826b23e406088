"""Mount the image OCI_DIR:TAG on MOUNTPOINT, read-only unless told otherwise; returns when the mount answers."""

from __future__ import annotations

import os

from puzzlefs.image import MOUNT_CACHE_SIZE, VERIFY_ALWAYS, VERIFY_NEVER, VERIFY_ONCE, Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from puzzlefs.mount import Settings

_VERIFY = {"auto": None, "always": VERIFY_ALWAYS, "once": VERIFY_ONCE, "never": VERIFY_NEVER}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an existing directory")
    parser.add_argument(
        "-d",
        "--digest",
        metavar="HEX",
        help="fs-verity digest that the manifest must have; everything is checked against it",
    )
    parser.add_argument("-f", "--foreground", action="store_true", help="serve here, return when unmounted")
    parser.add_argument(
        "-i", "--init-pipe", metavar="FIFO", help="named pipe that is told 's' (mounted) or 'f' (failed)"
    )
    parser.add_argument(
        "-o", dest="options", action="append", default=[], metavar="OPTIONS", help="mount options, separated by commas"
    )
    parser.add_argument("--allow-other", action="store_true", help="let other users in")
    parser.add_argument(
        "--verify",
        choices=_VERIFY,
        default="auto",
        help="when blobs are checked: always, once on first use, or never; auto is always with --digest, else once",
    )
    parser.add_argument(
        "--cache-size", type=int, default=MOUNT_CACHE_SIZE, metavar="BYTES", help="decompressed data to keep"
    )
    parser.add_argument(
        "-w", "--writable", "--writeable", action="store_true", help="lay an overlay over the image that keeps changes"
    )
    parser.add_argument(
        "-p", "--persist", metavar="DIR", help="where a writable mount keeps changes (default: upper in MOUNTPOINT)"
    )
    parser.add_argument(
        "--idmap",
        action="append",
        default=[],
        metavar="INSIDE:OUTSIDE:COUNT",
        help="let files of so many users and groups of the image, from INSIDE on, belong to those from OUTSIDE on",
    )
    parser.add_argument(
        "--share", action="store_true", help="let writable mounts of the image use one read-only mount and page cache"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="requests answered at a time (default: up to 4)")
    parser.add_argument("--log", metavar="FILE", help="where the mount's messages go (default: the system's log)")


def run(options: argparse.Namespace) -> int:
    words = [word for text in options.options for word in text.split(",") if word]
    settings: Settings = {
        "foreground": options.foreground,
        "fifo": options.init_pipe,
        "allow_other": options.allow_other or "allow_other" in words,
        "verify": _VERIFY[options.verify],
        "cache_size": options.cache_size,
        "workers": options.workers,
        "log": options.log,
        "fork": True,
    }
    words = [word for word in words if word != "allow_other"]
    image = _opened(options)
    # What follows takes as long to load as the index.
    image.load()
    from puzzlefs.mount import mount

    if options.writable or options.persist is not None or options.share:
        from puzzlefs.writable import mount_writable

        mount_writable(
            image, options.mountpoint, persist=options.persist, share=options.share, options=words, **settings
        )
    else:
        mount(image, options.mountpoint, options=words, **settings)
    if not options.foreground:
        # An interpreter takes longer to end than the mount took to begin, and somebody waits for it.
        os._exit(0)
    return 0


def _opened(options: argparse.Namespace) -> Image:
    try:
        image = Image.open(options.image, options.digest)
        return _with_owners(image, options.idmap) if options.idmap else image
    except Exception:
        from puzzlefs.mount import say_failed

        say_failed(options.init_pipe)
        raise


def _with_owners(image: Image, ranges: list[str]) -> Image:
    from puzzlefs.owners import Owners, parse_range

    owners = [parse_range(text) for text in ranges]
    return image.with_owners(Owners(owners, owners))
