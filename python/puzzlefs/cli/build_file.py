"""`puzzlefs build -f FILE`: a stacker file's layers, or a Containerfile."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from puzzlefs.builder import BuildOptions
from puzzlefs.cli.arguments import mtime
from puzzlefs.cli.build import cache_directory, form_options
from puzzlefs.errors import UsageError

_OF_TREES = ("base", "profile", "exclude", "no_xattrs", "xattr")
_OF_CONFIGS = ("annotation", "env", "entrypoint", "cmd", "workdir", "user", "label")
_STORE = "oci"


def run(options: argparse.Namespace) -> int:
    """Build what `options.file` says."""
    return _build_stacker_file(options)


def _refuse(options: argparse.Namespace, names: tuple[str, ...]) -> None:
    """Raise `UsageError` where an option was given that a file leaves no room for."""
    for name in names:
        if getattr(options, name) not in (None, False, [], "oci"):
            raise UsageError(f"--{name.replace('_', '-')} has no meaning with --file {options.file}")


def _build_stacker_file(options: argparse.Namespace) -> int:
    from puzzlefs.stacker.build import StackerOptions, build_file
    from puzzlefs.stacker.document import substitutions

    _refuse(options, (*_OF_TREES, *_OF_CONFIGS, "platform"))
    if options.image is not None:
        raise UsageError(f"{options.image}: of a stacker file, the store is named alone: layers' names are the tags")
    cache = cache_directory(options)
    settings = StackerOptions(
        substitutions(options.substitute, options.substitute_file),
        BuildOptions(mtime=mtime(options.mtime), all_root=options.all_root, **form_options(options)),
        Path(options.cache_dir or os.path.dirname(cache), "steps") if cache else None,
    )
    store = Path((options.rootfs or _STORE).removeprefix("oci:"))
    layers = build_file(options.file, store, settings, lambda text: print(f"puzzlefs: {text}", file=sys.stderr))
    if options.json:
        print(json.dumps([layer._asdict() for layer in layers], sort_keys=True))
    else:
        for layer in layers:
            if layer.tag is not None:
                print(f"{layer.name}: puzzlefs image manifest digest: {layer.digest}")
    return 0
