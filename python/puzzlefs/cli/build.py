"""Build the tree below ROOTFS into the image OCI_DIR:TAG; or, with -f, what a file says: a stacker file's
layers into the store OCI_DIR (default: oci), each under its name, or the Containerfile of a CONTEXT."""

from __future__ import annotations

import os
import sys

from puzzlefs import constants
from puzzlefs.build_cache import default_directory
from puzzlefs.cli.arguments import add_config_arguments, add_mtime_argument, mtime, pairs, runtime_config
from puzzlefs.errors import UsageError
from puzzlefs.names import ImageName
from puzzlefs.recall import Memory, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from puzzlefs.builder import BuildOptions
    from puzzlefs.oci import Platform
    from puzzlefs.scan import ScanOptions
    from puzzlefs.stream import Progress

# The words of `Profile`, `Durability` and `Order`, whose module is slow to load.
PROFILES = ("oci", "upstream")
DURABILITIES = ("none", "commit", "blob")
ORDERS = ("path", "package")
# Options that decide where an image goes and how the work is done, but not what the image is.
_NEUTRAL = frozenset(
    ("cache_dir", "debug", "durability", "first", "image", "jobs", "json", "no_cache", "no_progress", "rootfs", "run")
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rootfs", nargs="?", metavar="ROOTFS|CONTEXT", help="directory to build, or to build from")
    parser.add_argument(
        "image", nargs="?", metavar="OCI_DIR:TAG", help="store and tag; the store is made where there is none"
    )
    parser.add_argument(
        "-b", "--base", "--base-layer", metavar="BASE_TAG", help="build a delta upon this tag of the store"
    )
    parser.add_argument(
        "--reuse",
        action="append",
        default=[],
        metavar="OCI_DIR:TAG",
        help="refer to this image's chunks instead of storing them again; with packs -b does so too",
    )
    parser.add_argument("--profile", choices=PROFILES, default="oci", help="shape of the image (default: oci)")
    add_form_arguments(parser)
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument("--no-cache", action="store_true", help="read every file, keep nothing for later builds")
    cache.add_argument(
        "--cache-dir", metavar="DIR", help="where builds note what they read (default: ~/.cache/puzzlefs/builds)"
    )
    _add_file_arguments(parser)
    _add_tree_arguments(parser)
    add_config_arguments(parser)


def add_form_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `form_options`, `shown_progress` and `tell` read."""
    add_blob_arguments(parser)
    parser.add_argument("--platform", metavar="OS/ARCH", help="what the image is for (default: this machine)")


def add_blob_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `blob_options` and `shown_progress` read, and `--json`."""
    parser.add_argument("-c", "--compression", action="store_true", help="compress blobs (Zstandard)")
    parser.add_argument(
        "--pack-size",
        default="2M",
        metavar="SIZE",
        help="chunks in one blob: 256K to 8M before compression, on average; 0 for one chunk (default: 2M)",
    )
    parser.add_argument(
        "--frame-size",
        default="0",
        metavar="SIZE",
        help="what is compressed together (default: 640K in packs, else 64K)",
    )
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="worker threads (default: one a CPU)")
    parser.add_argument("--durability", choices=DURABILITIES, default="commit", help="what is synced (default: commit)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def form_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `BuildOptions` that say how an image is stored. Raises `UsageError`."""
    return {**blob_options(options), "platform": _platform(options.platform)}


def blob_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return those of them that say how its blobs are. Raises `UsageError`."""
    from puzzlefs.durability import Durability

    if options.jobs < 0:
        raise UsageError("--jobs: a number of threads is expected")
    return {
        "compression": options.compression,
        "pack_size": _size(options.pack_size, "--pack-size", constants.PACK_SIZE_MIN, constants.PACK_SIZE_MAX),
        "frame_size": _size(
            options.frame_size, "--frame-size", constants.UPSTREAM_FRAME_SIZE, constants.FRAME_SIZE_LIMIT
        ),
        "jobs": options.jobs,
        "durability": Durability(options.durability),
    }


def _add_file_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("building from a file")
    group.add_argument("-f", "--file", metavar="FILE", help="a stacker file (*.yaml, *.yml), or a Containerfile")
    group.add_argument(
        "--substitute", action="append", default=[], metavar="NAME=VALUE", help="of ${{NAME}} in a stacker file"
    )
    group.add_argument("--substitute-file", metavar="FILE", help="a YAML file of such names and values")
    group.add_argument(
        "--build-arg", action="append", default=[], metavar="NAME=VALUE", help="of an ARG in a Containerfile"
    )
    group.add_argument(
        "--run", dest="run_image", action="store_true", help="then run the image of a Containerfile in a container"
    )
    group.add_argument("--target", metavar="STAGE", help="the stage of a Containerfile to build (default: the last)")


def _add_tree_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what of the tree is taken")
    add_mtime_argument(group)
    group.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="leave out: a name, or a path with '/'"
    )
    xattrs = group.add_mutually_exclusive_group()
    xattrs.add_argument("--no-xattrs", action="store_true", help="no extended attributes")
    xattrs.add_argument("--xattr", action="append", metavar="GLOB", help="only these (default: all but the host's own)")
    group.add_argument("--all-root", action="store_true", help="everything belongs to user and group 0")
    group.add_argument(
        "--order",
        choices=ORDERS,
        help="what lies together: the files of a package, or of a directory (default: package, without packs path)",
    )
    group.add_argument(
        "--first", metavar="FILE", help="paths, one a line: what a program reads when it starts, to lie together"
    )


def run(options: argparse.Namespace) -> int:
    if options.file is not None:
        from puzzlefs.cli import build_file

        return build_file.run(options)
    if options.rootfs is None or options.image is None:
        raise UsageError("a directory and OCI_DIR:TAG are expected")
    name = ImageName.to_build(options.image)
    first = _lines(options.first)
    memory = _memory(options, name, first)
    found = memory.recall(tagged=True, sync=options.durability != "none") if memory else None
    tell(_build(options, name, first, memory) if found is None else found, options)
    return 0


def _memory(options: argparse.Namespace, name: ImageName, first: Sequence[bytes]) -> Memory | None:
    """Return what the last build kept, None where none is to keep anything."""
    cache = cache_directory(options)
    if cache is None:
        return None
    said = {key: value for key, value in vars(options).items() if key not in _NEUTRAL} | {"first": [*first]}
    words = repr(sorted(said.items()))
    request = Request(words, options.base, options.reuse, excludes=bool(options.exclude))
    return Memory(cache, name, options.rootfs, request)


def _build(
    options: argparse.Namespace, name: ImageName, first: Sequence[bytes], memory: Memory | None
) -> dict[str, Any]:
    from puzzlefs.builder import Build

    settings = _options(options, first)
    with shown_progress(options) as report:
        return Build(options.rootfs, name, settings, report, memory).run().document()


def tell(result: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Print what was built (`BuildResult.document`), and what the user should know."""
    for notice in result["notices"]:
        print(f"puzzlefs: {notice}", file=sys.stderr)
    if options.json:
        import json

        print(json.dumps(result, sort_keys=True))
    else:
        print(f"puzzlefs image manifest digest: {result['digest']}")


def _options(options: argparse.Namespace, first: Sequence[bytes]) -> BuildOptions:
    from puzzlefs.builder import BuildOptions, Profile
    from puzzlefs.order import Order

    upstream = options.profile == Profile.UPSTREAM
    return BuildOptions(
        profile=Profile(options.profile),
        base=options.base,
        reuse=options.reuse,
        order=Order(options.order) if options.order else None,
        first=first,
        mtime=mtime(options.mtime),
        scan=_scan_options(options, upstream),
        all_root=options.all_root,
        annotations=pairs(options.annotation, "--annotation"),
        runtime=runtime_config(options),
        cache=cache_directory(options),
        **form_options(options),
    )


def _size(text: str, option: str, least: int, greatest: int) -> int:
    """Return a number of bytes, which may end in K or M; 0, or in the range."""
    unit = {"K": constants.KIB, "M": constants.MIB}.get(text[-1:].upper(), 1)
    number = text[:-1] if unit > 1 else text
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise UsageError(f"{option}: {text!r} is not a number of bytes, such as 256K or 1M")
    size = int(number) * unit
    if size and not least <= size <= greatest:
        raise UsageError(
            f"{option}: {text} is not 0, nor from {least // constants.KIB}K to {greatest // constants.MIB}M"
        )
    return size


def _lines(name: str | None) -> Sequence[bytes]:
    if name is None:
        return ()
    try:
        with open(name, "rb") as file:
            return [line.strip(b"/") for line in file.read().split(b"\n")]
    except OSError as error:
        raise UsageError(f"--first: {name}: {error.strerror}") from None


def cache_directory(options: argparse.Namespace) -> str | None:
    """Return where builds keep what later ones can use, None where they keep nothing."""
    if options.no_cache:
        return None
    return options.cache_dir or default_directory()


def _scan_options(options: argparse.Namespace, upstream: bool) -> ScanOptions:
    from puzzlefs.scan import ScanOptions

    exclude = [os.fsencode(pattern) for pattern in options.exclude]
    if options.no_xattrs or options.xattr:
        return ScanOptions(exclude, [os.fsencode(glob) for glob in options.xattr or []], (), sort_xattrs=not upstream)
    return ScanOptions(exclude, drop_xattrs=(), sort_xattrs=False) if upstream else ScanOptions(exclude)


def _platform(text: str | None) -> Platform | None:
    from puzzlefs.oci import Platform

    if text is None:
        return None
    system, slash, architecture = text.partition("/")
    if not slash or not system or not architecture:
        raise UsageError(f"--platform: {text!r} is not OS/ARCH")
    return Platform(system, architecture)


def shown_progress(options: argparse.Namespace) -> AbstractContextManager[Callable[[Progress], None] | None]:
    """Show a progress bar where somebody looks; give what to tell it."""
    if not sys.stderr.isatty() or options.no_progress or options.json:
        from contextlib import nullcontext

        return nullcontext()
    from puzzlefs.cli.progress import bar

    return bar()
