"""Building the layers of a stacker file, each upon its base, into one store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from puzzlefs.builder import BuildOptions, source_date_epoch
from puzzlefs.configure import configure
from puzzlefs.image import Image
from puzzlefs.isolation import isolated
from puzzlefs.names import ImageName
from puzzlefs.runtime_config import RuntimeConfig
from puzzlefs.stacker.config import layer_config
from puzzlefs.stacker.document import parse, read_text, substitute
from puzzlefs.stacker.imports import fetch
from puzzlefs.stacker.layers import Layer, import_name, read_layers
from puzzlefs.stacker.sources import Bases, form_of
from puzzlefs.stacker.step import Step
from puzzlefs.step_cache import StepCache
from puzzlefs.store import Store

_STEP = "puzzlefs.stacker.step"
_PROXIES = ("ftp_proxy", "http_proxy", "https_proxy", "no_proxy")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_YAML = "io.stackeroci.stacker.stacker_yaml"


@dataclass(frozen=True, slots=True)
class StackerOptions:
    """How to build a stacker file.

    substitutions  values of `${{NAME}}`
    options        what is said of each build; its base, config and tag come from the file
    steps          where the results of steps are kept; None does every step anew
    """

    substitutions: Mapping[str, str] = field(default_factory=dict)
    options: BuildOptions = field(default_factory=BuildOptions)
    steps: Path | None = None


class BuiltLayer(NamedTuple):
    """A layer that was built.

    digest    fs-verity digest of the manifest in hex
    manifest  `sha256:HEX` of the manifest
    tag       None for a layer that is for others only
    cached    whether its step was done before
    """

    name: str
    digest: str
    manifest: str
    tag: str | None
    cached: bool


def build_file(
    path: str, layout: Path, settings: StackerOptions, report: Callable[[str], None] = lambda _: None
) -> list[BuiltLayer]:
    """Build every layer of a stacker file; their names become tags of the store, which is made if needed.

    report is told what happens, one sentence at a time. A layer that fails leaves those before it built,
    and the store valid. Raises `UsageError` and `BuildError` naming the layer, or what its step raises.
    """
    text = substitute(path, read_text(path), settings.substitutions)
    layers = read_layers(path, parse(path, text))
    work = _FileBuild(Store.create(layout), settings, report, text)
    return [work.layer(layer) for layer in layers]


class _FileBuild:
    def __init__(self, store: Store, settings: StackerOptions, report: Callable[[str], None], text: str) -> None:
        self.store, self.settings, self.report, self.text = store, settings, report, text
        self.epoch = source_date_epoch()
        self.cache = StepCache(settings.steps, store.path)
        self.bases = Bases(store, settings.options, report)
        self.built: dict[str, Image] = {}

    def layer(self, layer: Layer) -> BuiltLayer:
        """Build one layer and tag it."""
        base = self.bases.image(layer, self.built)
        filled, cached = self.filled(layer, base)
        config = layer_config(layer, base.config if base else None, self.epoch)
        annotations = {_YAML: self.text, **layer.annotations}
        descriptor = configure(filled, config, annotations, layer.platform)
        if not layer.build_only:
            self.store.tag(layer.name, descriptor, sync=self.settings.options.durability.syncs)
        image = Image.open(ImageName(self.store.path, descriptor.digest))
        self.built[layer.name] = image
        tag = None if layer.build_only else layer.name
        return BuiltLayer(layer.name, image.verity, descriptor.digest, tag, cached)

    def filled(self, layer: Layer, base: Image | None) -> tuple[Image, bool]:
        """Return an image of what a layer's step makes of its base, and whether the step was done before."""
        if base is not None and not layer.run and not any(item.dest for item in layer.imports):
            return base, True
        with self.store.unfinished() as unfinished:
            place = Path(unfinished)
            staged = place / "imports"
            staged.mkdir()
            prints = [fetch(item, staged, self.built) for item in layer.imports]
            step = self.step(layer, base, place)
            facts = self.facts(step, prints)
            known = self.cache.load(facts)
            if known is not None:
                self.report(f"{layer.name}: nothing to do, its step was done before")
                return known, True
            self.report(f"{layer.name}: running its step")
            try:
                answer = isolated(_STEP, step)
            finally:
                _remove(place)
        for notice in answer.notices:
            self.report(f"{layer.name}: {notice}")
        self.cache.save(facts, answer.value.manifest)
        return Image.open(ImageName(self.store.path, answer.value.manifest)), False

    def step(self, layer: Layer, base: Image | None, place: Path) -> Step:
        layout = os.path.realpath(self.store.path)
        options = self.settings.options._replace(
            base=base.descriptor.digest if base else None,
            platform=layer.platform,
            cache=None,
            tagged=False,
            # The defaults are views, which do not travel to another process.
            annotations={},
            runtime=RuntimeConfig(labels={}),
        )
        return Step(
            layer=layer.name,
            place=str(place),
            base=ImageName(layout, base.descriptor.digest) if base else None,
            name=ImageName(layout, layer.name),
            options=options,
            staged=str(place / "imports"),
            imports=layer.imports,
            script=layer.run,
            environment=self.environment(layer),
        )

    def environment(self, layer: Layer) -> dict[str, str]:
        names = [name for proxy in _PROXIES for name in (proxy, proxy.upper())]
        passed = {name: os.environ[name] for name in [*names, "TERM", "SOURCE_DATE_EPOCH"] if name in os.environ}
        return {"PATH": _PATH, "HOME": "/root", "STACKER_LAYER_NAME": layer.name, **passed}

    def facts(self, step: Step, prints: list[str]) -> dict[str, Any]:
        """Return all that decides what a step makes."""
        options = step.options
        imports = [
            {**asdict(item), "path": import_name(item), "content": found}
            for item, found in zip(step.imports, prints, strict=True)
        ]
        return {
            "base": step.base.reference if step.base else None,
            "layer": step.layer,
            "imports": imports,
            "script": step.script,
            "platform": options.platform.document() if options.platform else None,
            "form": form_of(options),
        }


def _remove(place: Path) -> None:
    """Empty a step's directory; what another user's number owns there goes with the directory itself."""
    for entry in place.iterdir():
        shutil.rmtree(entry, ignore_errors=True)
