"""Build the tree below ROOTFS into the image OCI_DIR:TAG."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from puzzlefs.build_cache import default_directory
from puzzlefs.builder import BuildOptions, BuildResult, Profile, build
from puzzlefs.cli.arguments import add_config_arguments, add_mtime_argument, mtime, pairs, runtime_config
from puzzlefs.durability import Durability
from puzzlefs.errors import UsageError
from puzzlefs.oci import Platform
from puzzlefs.scan import ScanOptions
from puzzlefs.stream import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rootfs", metavar="ROOTFS", help="directory to build")
    parser.add_argument("image", metavar="OCI_DIR:TAG", help="store and tag; the store is made where there is none")
    parser.add_argument(
        "-b", "--base", "--base-layer", metavar="BASE_TAG", help="build a delta upon this tag of the store"
    )
    parser.add_argument("-c", "--compression", action="store_true", help="compress chunks (Zstandard)")
    parser.add_argument("--profile", choices=[*Profile], default=Profile.OCI, help="shape of the image (default: oci)")
    parser.add_argument("--platform", metavar="OS/ARCH", help="what the image is for (default: this machine)")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="worker threads (default: one a CPU)")
    parser.add_argument(
        "--durability", choices=[*Durability], default=Durability.COMMIT, help="what is synced (default: commit)"
    )
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument("--no-cache", action="store_true", help="read every file, keep nothing for later builds")
    cache.add_argument(
        "--cache-dir", metavar="DIR", help="where builds note what they read (default: ~/.cache/puzzlefs/builds)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    _add_tree_arguments(parser)
    add_config_arguments(parser)


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


def run(options: argparse.Namespace) -> int:
    settings = _options(options)
    bar = sys.stderr.isatty() and not options.no_progress and not options.json
    with _progress(bar) as report:
        result = build(options.rootfs, options.image, settings, report)
    for notice in result.notices:
        print(f"puzzlefs: {notice}", file=sys.stderr)
    _print(result, options.json)
    return 0


def _print(result: BuildResult, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.document(), sort_keys=True))
    else:
        print(f"puzzlefs image manifest digest: {result.digest}")


def _options(options: argparse.Namespace) -> BuildOptions:
    upstream = options.profile == Profile.UPSTREAM
    if options.jobs < 0:
        raise UsageError("--jobs: a number of threads is expected")
    return BuildOptions(
        profile=Profile(options.profile),
        base=options.base,
        compression=options.compression,
        mtime=mtime(options.mtime),
        scan=_scan_options(options, upstream),
        all_root=options.all_root,
        jobs=options.jobs,
        annotations=pairs(options.annotation, "--annotation"),
        runtime=runtime_config(options),
        platform=_platform(options.platform),
        durability=Durability(options.durability),
        cache=_cache(options),
    )


def _cache(options: argparse.Namespace) -> str | None:
    if options.no_cache:
        return None
    return options.cache_dir or default_directory()


def _scan_options(options: argparse.Namespace, upstream: bool) -> ScanOptions:
    exclude = [os.fsencode(pattern) for pattern in options.exclude]
    if options.no_xattrs or options.xattr:
        return ScanOptions(exclude, [os.fsencode(glob) for glob in options.xattr or []], (), sort_xattrs=not upstream)
    return ScanOptions(exclude, drop_xattrs=(), sort_xattrs=False) if upstream else ScanOptions(exclude)


def _platform(text: str | None) -> Platform | None:
    if text is None:
        return None
    system, slash, architecture = text.partition("/")
    if not slash or not system or not architecture:
        raise UsageError(f"--platform: {text!r} is not OS/ARCH")
    return Platform(system, architecture)


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[Progress], None] | None]:
    if not shown:
        yield None
        return
    from puzzlefs.cli.progress import bar

    with bar() as report:
        yield report
