"""Build the tree below ROOTFS into the image OCI_DIR:TAG."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from puzzlefs.build_cache import default_directory
from puzzlefs.builder import BuildOptions, BuildResult, Profile, build
from puzzlefs.errors import UsageError
from puzzlefs.oci import Platform
from puzzlefs.runtime_config import RuntimeConfig
from puzzlefs.scan import ScanOptions
from puzzlefs.store import Durability
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
    _add_config_arguments(parser)


def _add_tree_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what of the tree is taken")
    group.add_argument(
        "--mtime",
        default="auto",
        metavar="keep|clamp|none|SECONDS",
        help="modification times (default: clamp to SOURCE_DATE_EPOCH where set, else keep)",
    )
    group.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="leave out: a name, or a path with '/'"
    )
    xattrs = group.add_mutually_exclusive_group()
    xattrs.add_argument("--no-xattrs", action="store_true", help="no extended attributes")
    xattrs.add_argument("--xattr", action="append", metavar="GLOB", help="only these (default: all but the host's own)")
    group.add_argument("--all-root", action="store_true", help="everything belongs to user and group 0")


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to run the image")
    group.add_argument("--annotation", action="append", default=[], metavar="K=V", help="annotation of the manifest")
    group.add_argument("--env", action="append", default=[], metavar="K=V", help="environment variable")
    group.add_argument("--entrypoint", metavar="WORDS", help="program to run: words as in a shell, or a JSON list")
    group.add_argument("--cmd", metavar="WORDS", help="its default arguments, likewise")
    group.add_argument("--workdir", metavar="DIR", help="working directory")
    group.add_argument("--user", metavar="USER", help="user, or user:group")
    group.add_argument("--label", action="append", default=[], metavar="K=V", help="label of the config")


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
        mtime=_mtime(options.mtime),
        scan=_scan_options(options, upstream),
        all_root=options.all_root,
        jobs=options.jobs,
        annotations=_pairs(options.annotation, "--annotation"),
        runtime=RuntimeConfig(
            env=[f"{key}={value}" for key, value in _pairs(options.env, "--env").items()],
            entrypoint=_words(options.entrypoint, "--entrypoint"),
            cmd=_words(options.cmd, "--cmd"),
            workdir=options.workdir,
            user=options.user,
            labels=_pairs(options.label, "--label"),
        ),
        platform=_platform(options.platform),
        durability=Durability(options.durability),
        cache=_cache(options),
    )


def _cache(options: argparse.Namespace) -> Path | None:
    if options.no_cache:
        return None
    return Path(options.cache_dir) if options.cache_dir else default_directory()


def _scan_options(options: argparse.Namespace, upstream: bool) -> ScanOptions:
    exclude = [os.fsencode(pattern) for pattern in options.exclude]
    if options.no_xattrs or options.xattr:
        return ScanOptions(exclude, [os.fsencode(glob) for glob in options.xattr or []], (), sort_xattrs=not upstream)
    return ScanOptions(exclude, drop_xattrs=(), sort_xattrs=False) if upstream else ScanOptions(exclude)


def _mtime(text: str) -> str | int:
    if text in ("auto", "keep", "clamp", "none"):
        return text
    try:
        seconds = int(text)
    except ValueError:
        raise UsageError(f"--mtime: {text!r} is not keep, clamp, none or a number of seconds") from None
    if not -(1 << 63) <= seconds < 1 << 63:
        raise UsageError(f"--mtime: {text} is out of range")
    return seconds


def _pairs(items: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"{option}: {item!r} is not KEY=VALUE")
        pairs[_text(key, option)] = _text(value, option)
    return pairs


def _text(text: str, option: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{option}: not UTF-8") from None
    return text


def _words(text: str | None, option: str) -> list[str] | None:
    if text is None:
        return None
    try:
        words = json.loads(text) if text.lstrip().startswith("[") else shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if not all(isinstance(word, str) for word in words):
        raise UsageError(f"{option}: not a list of strings")
    return [_text(word, option) for word in words]


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
