"""List files of an image: a directory's entries, or with -R everything below it."""

from __future__ import annotations

import os
import stat
import sys
import time

from puzzlefs.image import Image
from puzzlefs.records import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("path", metavar="PATH", nargs="?", default=b"/", type=os.fsencode)
    parser.add_argument("-d", "--digest", metavar="HEX", help="fs-verity digest that the manifest must have")
    parser.add_argument("-l", "--long", action="store_true", help="mode, links, owner, size and time too")
    parser.add_argument("-R", "--recursive", action="store_true", help="everything below PATH")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(options: argparse.Namespace) -> int:
    image = Image.open(options.image, options.digest)
    for path, ino in _chosen(image, options.path, options.recursive):
        if options.json:
            line = _json(image, path, ino)
        elif options.long:
            line = _long(image, path, ino)
        else:
            line = path
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
    return 0


def _chosen(image: Image, path: bytes, recursive: bool) -> Iterator[tuple[bytes, int]]:
    """Yield (path as shown, inode number)."""
    ino = image.resolve(path)
    if image.index.stat(ino)[1] != Kind.DIR:
        yield path, image.resolve(path, follow=False)
        return
    pending = [(b"", ino)]
    while pending:
        prefix, directory = pending.pop()
        entries = [(prefix + name, child) for name, child in image.index.entries(directory, 0, 1 << 32)]
        yield from entries
        if recursive:
            below = [(shown + b"/", child) for shown, child in entries if image.index.stat(child)[1] == Kind.DIR]
            pending += reversed(below)


def _json(image: Image, path: bytes, ino: int) -> bytes:
    import json

    attributes = image.filesystem.getattr(ino)
    facts = {
        "path": os.fsdecode(path).encode("utf-8", "backslashreplace").decode(),
        "ino": ino,
        "kind": Kind(image.index.stat(ino)[1]).name.lower(),
        "mode": f"{stat.S_IMODE(attributes.mode):04o}",
        "nlink": attributes.nlink,
        "uid": attributes.uid,
        "gid": attributes.gid,
        "size": attributes.size,
        "mtime_ns": attributes.mtime_ns,
        "device": [os.major(attributes.rdev), os.minor(attributes.rdev)],
        "target": os.fsdecode(image.index.symlink(ino)).encode("utf-8", "backslashreplace").decode(),
        "xattrs": {key.decode("utf-8", "backslashreplace"): value.hex() for key, value in image.index.xattrs(ino)},
    }
    return json.dumps(facts, sort_keys=True).encode()


def _long(image: Image, path: bytes, ino: int) -> bytes:
    attributes = image.filesystem.getattr(ino)
    device = stat.S_ISCHR(attributes.mode) or stat.S_ISBLK(attributes.mode)
    size = f"{os.major(attributes.rdev)}, {os.minor(attributes.rdev)}" if device else str(attributes.size)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(attributes.mtime_ns // 1_000_000_000))
    head = f"{stat.filemode(attributes.mode)} {attributes.nlink:>3} {attributes.uid:>5} {attributes.gid:>5} {size:>10} {when} "
    target = image.index.symlink(ino)
    return head.encode() + path + (b" -> " + target if target else b"")
