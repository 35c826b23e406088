"""What a stacker file says of its layers, checked; every directive that is not supported is refused by name."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from puzzlefs.errors import UsageError
from puzzlefs.names import check_tag
from puzzlefs.oci import Platform

_SOURCES = {"docker": ("url", "insecure"), "oci": ("url",), "tar": ("url",), "built": ("tag",), "scratch": ()}
_REFUSED = (
    "apply",
    "binds",
    "bom",
    "build_env",
    "build_env_passthrough",
    "generate_labels",
    "import",
    "overlay_dirs",
)
_SHEBANG = "#!/bin/sh -xe\n"
_HASH = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})\Z")
_MODE_LIMIT, _ID_LIMIT = 0o10000, 1 << 32


@dataclass(frozen=True, slots=True)
class Source:
    """What a layer begins with. `kind` is one of stacker's types, `url` what it names: for `built` a layer."""

    kind: str
    url: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Import:
    """A file or directory for the script, below /stacker/imports; with `dest` a copy of it is in the image.

    path  a local path, absolute; http(s)://; or stacker://LAYER/PATH
    hash  its SHA-256 in hex, where the file says one
    mode, uid, gid  what the copy in the image gets; None keeps the mode, and makes root the owner
    """

    path: str
    hash: str | None = None
    dest: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: an image to build.

    run          a script, its first line naming the interpreter; "" for none
    entrypoint, cmd  None where nothing was said
    build_only   whether it is for other layers only, and gets no tag
    """

    name: str
    source: Source
    imports: tuple[Import, ...]
    run: str
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    full_command: tuple[str, ...] | None
    environment: Mapping[str, str]
    volumes: tuple[str, ...]
    labels: Mapping[str, str]
    working_dir: str | None
    runtime_user: str | None
    annotations: Mapping[str, str]
    build_only: bool
    platform: Platform

    def needs(self) -> set[str]:
        """Return the names of the layers that must be built before this one."""
        found = {self.source.url} if self.source.kind == "built" else set()
        urls = [item.path for item in self.imports] + [self.source.url]
        return found | {layer_of(url) for url in urls if url.startswith(STACKER)}


STACKER = "stacker://"
REMOTE = ("http://", "https://")


def layer_of(url: str) -> str:
    """Return the layer that a stacker:// URL names."""
    return url.removeprefix(STACKER).partition("/")[0]


def read_layers(path: str, document: Mapping[str, Any]) -> list[Layer]:
    """Return the layers of a parsed stacker file, each after those that it needs.

    Relative paths are taken from the file's directory. Raises `UsageError`.
    """
    home = os.path.dirname(os.path.abspath(path))
    if "config" in document:
        raise UsageError(f"{path}: directive 'config' is not supported: build the prerequisites one by one")
    layers = [_LayerReader(path, home, name, fields).layer() for name, fields in document.items()]
    if not layers:
        raise UsageError(f"{path}: no layers")
    return _ordered(path, layers)


def _ordered(path: str, layers: Sequence[Layer]) -> list[Layer]:
    names = {layer.name for layer in layers}
    for layer in layers:
        if unknown := sorted(layer.needs() - names):
            raise UsageError(f"{path}: {layer.name}: there is no layer {unknown[0]!r}")
    done: dict[str, Layer] = {}
    while len(done) < len(layers):
        ready = next((each for each in layers if each.name not in done and each.needs() <= done.keys()), None)
        if ready is None:
            waiting = ", ".join(each.name for each in layers if each.name not in done)
            raise UsageError(f"{path}: layers that need one another: {waiting}")
        done[ready.name] = ready
    return list(done.values())


class _LayerReader:
    def __init__(self, path: str, home: str, name: str, fields: object) -> None:
        self.where = f"{path}: {name}"
        self.home = home
        self.name = name
        try:
            check_tag(name)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        if ":" in name:
            raise UsageError(f"{path}: {name!r}: a layer's name has no ':'")
        if not isinstance(fields, dict):
            raise self.fault("not a map of directives")
        self.fields = dict(fields)

    def layer(self) -> Layer:
        take = self.take
        source = self.source(self.fields.pop("from", None))
        layer = Layer(
            name=self.name,
            source=source,
            imports=self.imports(self.fields.pop("imports", None)),
            run=self.script(self.fields.pop("run", None)),
            entrypoint=take("entrypoint", self.words),
            cmd=take("cmd", self.words),
            full_command=take("full_command", self.words),
            environment=take("environment", self.pairs) or {},
            volumes=take("volumes", self.texts) or (),
            labels=take("labels", self.pairs) or {},
            working_dir=take("working_dir", self.text),
            runtime_user=take("runtime_user", self.text),
            annotations=take("annotations", self.pairs) or {},
            build_only=bool(take("build_only", self.flag)),
            platform=self.platform(),
        )
        for directive in self.fields:
            known = "is not supported" if directive in _REFUSED else "is unknown"
            hint = ": write 'imports', and /stacker/imports for /stacker" if directive == "import" else ""
            raise self.fault(f"directive {directive!r} {known}{hint}")
        return layer

    def fault(self, text: str) -> UsageError:
        return UsageError(f"{self.where}: {text}")

    def take(self, directive: str, read: Callable[[str, object], Any]) -> Any:
        value = self.fields.pop(directive, None)
        return None if value is None else read(directive, value)

    def text(self, directive: str, value: object) -> str:
        if not isinstance(value, str) or not value or "\0" in value:
            raise self.fault(f"{directive}: a text is expected")
        return value

    def texts(self, directive: str, value: object) -> tuple[str, ...]:
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) and "\0" not in item for item in items):
            raise self.fault(f"{directive}: a text or a list of texts is expected")
        return tuple(items)

    def words(self, directive: str, value: object) -> tuple[str, ...]:
        """Read a command: a list, or one text that is split as a shell does."""
        if not isinstance(value, str):
            return self.texts(directive, value)
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise self.fault(f"{directive}: {error}") from None

    def pairs(self, directive: str, value: object) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(item, str) for pair in value.items() for item in pair):
            raise self.fault(f"{directive}: a map of texts is expected")
        return value

    def flag(self, directive: str, value: object) -> bool:
        if value not in ("true", "false"):
            raise self.fault(f"{directive}: true or false is expected")
        return value == "true"

    def number(self, directive: str, value: object, limit: int, base: int = 10) -> int:
        try:
            number = int(str(value).removeprefix("0o") if base == 8 else str(value), base)
        except ValueError:
            number = -1
        if not isinstance(value, str) or not 0 <= number < limit:
            raise self.fault(f"{directive}: {value!r} is out of range")
        return number

    def script(self, value: object) -> str:
        if value is None:
            return ""
        lines = "\n".join(self.texts("run", value))
        if not lines.strip():
            return ""
        return lines if lines.startswith("#!") else _SHEBANG + lines

    def platform(self) -> Platform:
        host = Platform.host()
        return Platform(self.take("os", self.text) or host.os, self.take("arch", self.text) or host.architecture)

    def source(self, value: object) -> Source:
        if not isinstance(value, dict):
            raise self.fault("from: a map with a type is expected")
        fields = dict(value)
        kind = fields.pop("type", None)
        if kind not in _SOURCES:
            raise self.fault(f"from: type {kind!r} is not one of {', '.join(_SOURCES)}")
        for name in fields:
            if name not in _SOURCES[kind]:
                raise self.fault(f"from: {name!r} has no meaning for type {kind}")
        if kind == "scratch":
            return Source(kind)
        if kind == "built":
            return Source(kind, self.text("from: tag", fields.get("tag")))
        url = self.text("from: url", fields.get("url"))
        if kind in ("oci", "tar"):
            url = self.located(url.removeprefix("oci:") if kind == "oci" else url)
        return Source(kind, url, self.flag("from: insecure", fields.get("insecure", "false")))

    def located(self, path: str) -> str:
        return path if path.startswith((*REMOTE, STACKER)) else os.path.join(self.home, path)

    def imports(self, value: object) -> tuple[Import, ...]:
        if value is None:
            return ()
        items = value if isinstance(value, list) else [value]
        found = tuple(self.one_import({"path": item} if isinstance(item, str) else item) for item in items)
        names = [import_name(item) for item in found]
        for name in names:
            if name in (".", ".."):
                raise self.fault(f"imports: a path that ends in {name!r} has no name")
            if names.count(name) > 1:
                raise self.fault(f"imports: two are called {name!r}")
        return found

    def one_import(self, value: object) -> Import:
        if not isinstance(value, dict):
            raise self.fault("imports: a path or a map with a path is expected")
        fields = {name: item for name, item in value.items() if item is not None}
        for name in fields:
            if name not in ("path", "hash", "dest", "mode", "uid", "gid"):
                raise self.fault(f"imports: {name!r} is unknown")
        path = self.located(self.text("imports: path", fields.get("path")))
        digest, dest = fields.get("hash"), fields.get("dest")
        if digest is not None and not _HASH.match(self.text("imports: hash", digest)):
            raise self.fault(f"imports: hash {digest!r} is not a SHA-256 in hex")
        if dest is not None and not self.text("imports: dest", dest).startswith("/"):
            raise self.fault(f"imports: dest {dest!r} is not an absolute path")
        limits = {"mode": (_MODE_LIMIT, 8), "uid": (_ID_LIMIT - 1, 10), "gid": (_ID_LIMIT - 1, 10)}
        numbers = {
            name: self.number(f"imports: {name}", fields[name], *limits[name]) for name in limits if name in fields
        }
        digest = digest and digest[-64:].lower()
        return Import(path, digest, dest, numbers.get("mode"), numbers.get("uid"), numbers.get("gid"))


def import_name(item: Import) -> str:
    """Return the name that an import has below /stacker/imports."""
    return os.path.basename(item.path.rstrip("/").partition("?")[0]) or "root"
