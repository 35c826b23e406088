"""The command line: one file per verb, loaded when it is called, since start-up is part of every run."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

# verb -> (module, one line for the list of verbs)
VERBS = {
    "build": ("build", "build a directory tree into an image"),
    "convert": ("convert", "convert an image of layers, or a tar archive"),
    "commit": ("commit", "make an image of what was changed in a writable mount"),
    "mount": ("mount", "mount an image"),
    "run": ("run", "run an image in a container"),
    "bundle": ("bundle", "make a bundle for a container runtime"),
    "umount": ("umount", "unmount an image"),
    "extract": ("extract", "unpack an image into a directory"),
    "verify": ("verify", "recompute every digest of an image"),
    "enable-fs-verity": ("enable_fs_verity", "make the kernel check an image's blobs"),
    "inspect": ("inspect", "say what an image consists of"),
    "ls": ("ls", "list files of an image"),
    "cat": ("cat", "print files of an image"),
    "install-helpers": ("install_helpers", "let mount(8) and fstab mount images"),
    "lxc": ("lxc", "make LXC containers of images"),
    "tags": ("tags", "list the images of a store"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = _take(words, "--debug") or bool(os.environ.get("PUZZLEFS_DEBUG"))
    try:
        return _run(words)
    except BrokenPipeError:
        # Whoever read our output has enough; leave nothing for the interpreter to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        if debug:
            raise
        print("puzzlefs: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        return _report(error)


def parser_for(verb: str) -> argparse.ArgumentParser:
    """Return the parser of one verb; its `run` default is the function to call."""
    import argparse

    width = _width()
    parser = argparse.ArgumentParser(
        prog=f"puzzlefs {verb}",
        description=_module(verb).__doc__,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=width),
    )
    declare(verb, parser)
    return parser


def declare(verb: str, parser: Any) -> None:
    """Tell a parser, argparse's or `plain.PlainParser`, the arguments of a verb."""
    module = _module(verb)
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show a traceback where something fails")
    parser.set_defaults(run=module.run)


def _module(verb: str) -> Any:
    # Not `importlib.import_module`, whose own module takes longer to load than most of ours.
    return __import__(f"puzzlefs.cli.{VERBS[verb][0]}", fromlist=["run"])


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(_version())
        return 0
    if words[0] not in VERBS and ":" in words[0] and len(words) > 1:
        # mount(8) without our helpers: `mount -t fuse.puzzlefs` makes mount.fuse run `puzzlefs SPEC DIRECTORY -o …`.
        from puzzlefs import mount_helper

        return mount_helper.main(words)
    if words[0] not in VERBS:
        print(f"puzzlefs: no such command: {words[0]}\n\n{_usage()}", file=sys.stderr)
        return 2
    options = _parse(words[0], words[1:])
    code: int = options.run(options)
    return code


def _parse(verb: str, words: Sequence[str]) -> Any:
    from puzzlefs.cli.plain import NotPlain, PlainParser

    parser = PlainParser()
    try:
        declare(verb, parser)
        return parser.parse(words)
    except NotPlain:
        return _parse_by_argparse(parser_for(verb), words)


def _parse_by_argparse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    if "--" not in words or not parser.get_default("takes_command"):
        return parser.parse_args(words)
    # argparse finds no positional arguments behind options that follow others.
    at = list(words).index("--")
    options = parser.parse_args(words[:at])
    options.command = list(words[at + 1 :]) or options.command
    return options


def _width() -> int:
    """Return how wide help may be: two columns less than the terminal.

    argparse asks for the same at every argument that is added, by a module that is slow to load.
    """
    try:
        columns = int(os.environ.get("COLUMNS", "0"))
    except ValueError:
        columns = 0
    try:
        return (columns or os.get_terminal_size(sys.stdout.fileno()).columns or 80) - 2
    except (OSError, ValueError):
        return 78


def _usage() -> str:
    lines = [f"  {verb:<18}{summary}" for verb, (_, summary) in VERBS.items()]
    head = "usage: puzzlefs COMMAND ...\n\nBuild, mount and unpack PuzzleFS images (DIR:TAG in an OCI layout).\n"
    return "\n".join(
        [head, *lines, "", "`puzzlefs COMMAND --help` says more of one. `puzzlefs --version` names the backend."]
    )


def _version() -> str:
    from puzzlefs import __version__
    from puzzlefs._native import backend

    return f"puzzlefs {__version__} ({backend} backend)"


def _take(words: list[str], flag: str) -> bool:
    """Remove `flag` in front of the verb; say whether it was there (elsewhere the verb's parser takes it)."""
    found = flag in words
    if words[:1] == [flag]:
        del words[0]
    return found


def _report(error: Exception) -> int:
    from puzzlefs.errors import PuzzleFSError

    if isinstance(error, PuzzleFSError):
        print(f"puzzlefs: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        print(f"puzzlefs: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    print(f"puzzlefs: internal error: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
    return 1
