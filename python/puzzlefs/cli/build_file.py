"""`puzzlefs build -f FILE`: a stacker file's layers, or a Containerfile."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from puzzlefs.builder import BuildOptions
from puzzlefs.cli.arguments import mtime, pairs, runtime_config
from puzzlefs.cli.build import cache_directory, form_options
from puzzlefs.errors import UsageError
from puzzlefs.names import ImageName

_OF_TREES = ("base", "profile", "exclude", "no_xattrs", "xattr")
_OF_CONFIGS = ("annotation", "env", "entrypoint", "cmd", "workdir", "user", "label")
_STORE = "oci"
_STEPS = "steps"


def run(options: argparse.Namespace) -> int:
    """Build what `options.file` says."""
    if options.file.endswith((".yaml", ".yml")):
        return _build_stacker_file(options)
    return _build_containerfile(options)


def _build_containerfile(options: argparse.Namespace) -> int:
    from puzzlefs.containerfile import ContainerfileOptions, build_containerfile
    from puzzlefs.convert import ConvertOptions

    _refuse(options, (*_OF_TREES, "substitute", "substitute_file"))
    if options.rootfs is None or options.image is None:
        raise UsageError("a directory to build from and OCI_DIR:TAG are expected")
    name = ImageName.parse(options.image)
    if name.is_digest:
        raise UsageError(f"{name}: a build needs a tag, not a digest")
    form = form_options(options)
    platform = form.pop("platform")
    settings = ContainerfileOptions(
        arguments=pairs(options.build_arg, "--build-arg"),
        target=options.target,
        cached=not options.no_cache,
        platform=platform,
        convert=ConvertOptions(
            mtime=mtime(options.mtime),
            all_root=options.all_root,
            annotations=pairs(options.annotation, "--annotation"),
            runtime=runtime_config(options),
            **form,
        ),
        steps=_steps(options),
    )
    image = build_containerfile(options.file, options.rootfs, name, settings, _say)
    if options.json:
        print(json.dumps({"digest": image.verity, "manifest": image.descriptor.digest}, sort_keys=True))
    else:
        print(f"puzzlefs image manifest digest: {image.verity}", file=sys.stderr if options.run_image else sys.stdout)
    if options.run_image:
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, "-P", "-m", "puzzlefs", "run", str(name)])  # noqa: S606 - its own
    return 0


def _say(text: str) -> None:
    print(f"puzzlefs: {text}", file=sys.stderr)


def _steps(options: argparse.Namespace) -> Path | None:
    """Return where results are kept, beside what builds of trees keep."""
    cache = cache_directory(options)
    if cache is None:
        return None
    return Path(cache if options.cache_dir else os.path.dirname(cache), _STEPS)


def _refuse(options: argparse.Namespace, names: tuple[str, ...]) -> None:
    """Raise `UsageError` where an option was given that a file leaves no room for."""
    for name in names:
        if getattr(options, name) not in (None, False, [], "oci"):
            raise UsageError(f"--{name.replace('_', '-')} has no meaning with --file {options.file}")


def _build_stacker_file(options: argparse.Namespace) -> int:
    from puzzlefs.stacker.build import StackerOptions, build_file
    from puzzlefs.stacker.document import substitutions

    _refuse(options, (*_OF_TREES, *_OF_CONFIGS, "platform", "build_arg", "target"))
    if options.run_image:
        raise UsageError(f"--run has no meaning with --file {options.file}")
    if options.image is not None:
        raise UsageError(f"{options.image}: of a stacker file, the store is named alone: layers' names are the tags")
    settings = StackerOptions(
        substitutions(options.substitute, options.substitute_file),
        BuildOptions(mtime=mtime(options.mtime), all_root=options.all_root, **form_options(options)),
        _steps(options),
    )
    store = Path((options.rootfs or _STORE).removeprefix("oci:"))
    layers = build_file(options.file, store, settings, _say)
    if options.json:
        print(json.dumps([layer._asdict() for layer in layers], sort_keys=True))
    else:
        for layer in layers:
            if layer.tag is not None:
                print(f"{layer.name}: puzzlefs image manifest digest: {layer.digest}")
    return 0
