"""The text of a stacker file: substitutions, then YAML, of which only text, lists and maps are taken.

Scalars stay the text that they are in the file, so that a label `1.10` is no number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from puzzlefs.constants import MIB
from puzzlefs.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_REFERENCE = re.compile(r"\$\{\{([^}:]*)(?::([^}]*))?\}\}")
_SIZE_LIMIT = MIB
_MERGE = "tag:yaml.org,2002:merge"
_TEXT = ("bool", "int", "float", "timestamp", "value")


class _Loader(yaml.SafeLoader):
    """A loader of plain data, without numbers and dates, that takes no key twice."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # A few of them, each merging several of the one before, grow without bounds.
        if any(key.tag == _MERGE for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "merge keys (<<) are not supported", node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _text(loader: _Loader, node: yaml.ScalarNode) -> object:
    return loader.construct_scalar(node)


for _kind in _TEXT:
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _text)


def read_text(path: str) -> str:
    """Return a file's text. Raises `UsageError` where it cannot be read."""
    try:
        with open(path, "rb") as file:
            content = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if len(content) > _SIZE_LIMIT:
        raise UsageError(f"{path}: more than {_SIZE_LIMIT} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8") from None


def parse(path: str, text: str) -> dict[str, Any]:
    """Return the map that a YAML text holds, in its order. Raises `UsageError` naming `path`."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - derived from the safe one
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UsageError(f"{path}: {where}{error.problem}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: {str(error).splitlines()[0]}") from error
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path}: not a map of names to layers")
    return document


def substitute(path: str, text: str, values: Mapping[str, str]) -> str:
    """Return a text with `${{NAME}}` and `${{NAME:default}}` replaced.

    Raises `UsageError` for a name without value and default, and where `$NAME` or `${NAME}` stands for a
    name that has a value: stacker once replaced those, and a shell would, but by something else.
    """
    for name in values:
        if match := re.search(rf"\$(?:{name}\b|\{{{name}\}})", text):
            raise UsageError(f"{path}: {match[0]} is not replaced; write ${{{{{name}}}}}")

    def value(match: re.Match[str]) -> str:
        name, default = match[1].strip(), match[2]
        if name in values:
            return values[name]
        if default is None:
            raise UsageError(f"{path}: {match[0]} has no value: --substitute {name}=...")
        return default

    return _REFERENCE.sub(value, text)


def substitutions(pairs: Sequence[str], file: str | None) -> dict[str, str]:
    """Return the values of `NAME=VALUE` words, and of a YAML file of names and values, which they overrule."""
    values: dict[str, str] = {}
    if file is not None:
        for name, value in parse(file, read_text(file)).items():
            if not isinstance(value, str):
                raise UsageError(f"{file}: {name}: not a text")
            values[_checked(name)] = value
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--substitute: {pair!r} is not NAME=VALUE")
        values[_checked(name)] = value
    return values


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise UsageError(f"{name!r} is not the name of a substitution: letters, digits and '_' are expected")
    return name
