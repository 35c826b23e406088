"""A Containerfile -> an image: buildah does its steps, what comes of them is converted straight from its layers.

buildah keeps each step's layer and takes it again while nothing above has changed; an image that is as it
was before is not converted again either.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from puzzlefs.builder import source_date_epoch
from puzzlefs.configure import configure
from puzzlefs.convert import ConvertOptions, SourceOptions, convert
from puzzlefs.errors import BuildError, UnsupportedError, UsageError
from puzzlefs.image import Image
from puzzlefs.names import ImageName, check_tag
from puzzlefs.oci import Platform
from puzzlefs.runtime_config import created
from puzzlefs.step_cache import StepCache
from puzzlefs.store import Store

_VERSION = re.compile(r"buildah version (\d+)\.(\d+)")
_OLDEST = (1, 24)  # the first with `build`
_FETCHED = "image"
_BASE_DIGEST, _BASE_NAME = "org.opencontainers.image.base.digest", "org.opencontainers.image.base.name"


@dataclass(frozen=True, slots=True)
class ContainerfileOptions:
    """How to build a Containerfile.

    arguments  values of its ARG instructions
    target     the stage to build, None for the last
    cached     whether layers and results of earlier builds are used
    platform   what the image is for; None means this machine's
    convert    how the image is stored
    steps      where the results of conversions are kept; None keeps none
    """

    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    cached: bool = True
    platform: Platform | None = None
    convert: ConvertOptions = field(default_factory=ConvertOptions)
    steps: Path | None = None


def build_containerfile(
    file: str,
    context: str,
    name: ImageName,
    options: ContainerfileOptions,
    report: Callable[[str], None] = lambda _: None,
) -> Image:
    """Build the Containerfile `file` with the directory `context` into an image; return it, tagged.

    What buildah says goes to standard error. Raises `UnsupportedError` without a buildah that can do it,
    `BuildError` where the build fails, or what converting raises.
    """
    check_tag(name.reference)
    if not os.path.isdir(context):
        raise UsageError(f"{context}: not a directory to build from")
    if not os.path.isfile(file):
        raise UsageError(f"{file}: no such Containerfile")
    program = _buildah()
    with tempfile.TemporaryDirectory(prefix="puzzlefs-") as place:
        made = _build(program, file, context, options, os.path.join(place, "id"))
        store = Store.create(name.directory)
        cache = StepCache(options.steps if options.cached else None, store.path)
        facts = _facts(made, options)
        image = cache.load(facts)
        if image is None:
            layout = os.path.join(place, _FETCHED)
            _run([program, "push", "--quiet", "--format", "oci", made, f"oci:{layout}:{_FETCHED}"], f"{file}: buildah")
            image = _converted(layout, name, options)
            cache.save(facts, image.descriptor.digest)
        else:
            report(f"{name}: nothing to convert, the image is as it was")
        store.tag(name.reference, image.descriptor, sync=options.convert.durability.syncs)
    return Image.open(name)


def _buildah() -> str:
    """Return the program. Raises `UnsupportedError`."""
    program = shutil.which("buildah")
    if program is None:
        raise UnsupportedError("building a Containerfile needs buildah, which is not installed")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    match = _VERSION.match(said)
    if match is None:
        raise UnsupportedError(f"{program}: not a buildah whose version can be told")
    if (int(match[1]), int(match[2])) < _OLDEST:
        raise UnsupportedError(f"{program}: version {match[1]}.{match[2]} is older than {'.'.join(map(str, _OLDEST))}")
    return program


def _build(program: str, file: str, context: str, options: ContainerfileOptions, result: str) -> str:
    """Have buildah build; return its name for the image, which is its config's digest."""
    words = [program, "build", "--layers", "--format", "oci", "--iidfile", result, "--file", file]
    # The other kinds of isolation need more rights than mounting and changing one's root.
    words += ["--isolation", os.environ.get("BUILDAH_ISOLATION", "chroot")]
    epoch = source_date_epoch()
    if epoch is not None:
        words += ["--timestamp", str(epoch)]
    if not options.cached:
        words.append("--no-cache")
    if options.platform is not None:
        words += ["--platform", f"{options.platform.os}/{options.platform.architecture}"]
    if options.target is not None:
        words += ["--target", options.target]
    for name, value in options.arguments.items():
        words += ["--build-arg", f"{name}={value}"]
    _run([*words, context], f"{file}: buildah")
    with open(result, encoding="ascii") as answer:
        return answer.read().strip()


def _run(words: Sequence[str], what: str) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode:
        raise BuildError(f"{what} failed with exit code {done.returncode}")


def _converted(layout: str, name: ImageName, options: ContainerfileOptions) -> Image:
    platform = options.platform.document() if options.platform else None
    chosen = options.convert
    source = SourceOptions(platform, size_limit=chosen.source.size_limit)
    convert(f"oci:{layout}:{_FETCHED}", name, ConvertOptions(**{**_fields(chosen), "source": source}))
    image = Image.open(name)
    epoch = source_date_epoch()
    if epoch is None or image.config is None:
        return image
    described = image.descriptor.platform or {}
    where = Platform(described.get("os", "linux"), described.get("architecture", ""))
    config, annotations = _of_any_day(image.config, image.manifest.annotations, created(epoch))
    again = configure(image, config, annotations, where)
    return Image.open(ImageName(name.directory, again.digest))


def _of_any_day(
    config: Mapping[str, Any], annotations: Mapping[str, str], when: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a config and annotations without what layers, kept from an earlier build or not, say of their making."""
    history = [
        {**{key: value for key, value in entry.items() if key != "comment"}, "created": when}
        for entry in config.get("history") or []
    ]
    # A base without a name is one of the file's own stages, in this machine's storage only.
    kept = {key: value for key, value in annotations.items() if key != _BASE_DIGEST or annotations.get(_BASE_NAME)}
    return {**config, "created": when, "history": history}, kept


def _fields(options: ConvertOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__slots__}


def _facts(made: str, options: ContainerfileOptions) -> dict[str, Any]:
    """Return all that decides what an image of buildah's becomes."""
    fields = _fields(options.convert)
    del fields["source"], fields["jobs"], fields["durability"]
    fields["runtime"] = fields["runtime"]._asdict()
    fields["annotations"] = dict(fields["annotations"])
    return {"made": made, "epoch": source_date_epoch(), **fields}
