"""Check the Rust dependencies against deny.toml: licences, sources, banned and repeated crates.

Reads `cargo metadata --locked` for the targets of deny.toml, so it needs no network once the crates
are fetched. Exits with 1 and one line for each breach.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any


def allowed(expression: str, licences: set[str]) -> bool:
    """Return whether an SPDX expression can be met with `licences`.

    `/` is the old spelling of OR; AND binds more tightly than OR; an exception belongs to its licence.
    """
    tokens = re.findall(r"\(|\)|/|[^\s()/]+(?: WITH [^\s()/]+)?", expression)

    def disjunction() -> bool:
        met = conjunction()
        while tokens and tokens[0] in ("OR", "/"):
            tokens.pop(0)
            met = conjunction() or met
        return met

    def conjunction() -> bool:
        met = term()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = term() and met
        return met

    def term() -> bool:
        token = tokens.pop(0) if tokens else ""
        if token != "(":
            return token in licences
        met = disjunction()
        return bool(tokens) and tokens.pop(0) == ")" and met

    met = disjunction()
    return met and not tokens


def metadata(targets: list[str]) -> dict[str, Any]:
    """Return what cargo says of every crate that a build for `targets` may use, dev-dependencies included."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--all-features"]
    for target in targets:
        command += ["--filter-platform", target]
    parsed: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return parsed


def breaches(rules: dict[str, Any], packages: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each thing that `rules` (deny.toml) forbids among `packages` of cargo's metadata."""
    licences = set(rules["licenses"]["allow"])
    registries = {f"registry+{address}" for address in rules["sources"]["allow-registry"]}
    banned = {ban["crate"] for ban in rules["bans"]["deny"]}
    versions: dict[str, set[str]] = defaultdict(set)
    for package in packages:
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].add(package["version"])
        if not allowed(package["license"] or "", licences):
            yield f"{name}: licence {package['license']!r} is not allowed"
        if package["source"] is not None and package["source"] not in registries:
            yield f"{name}: source {package['source']} is not allowed"
        if package["name"] in banned:
            yield f"{name}: banned"
        for dependency in package["dependencies"]:
            if package["source"] is None and dependency["req"] == "*" and not dependency.get("path"):
                yield f"{name}: any version of {dependency['name']} will do for it"
    for crate, found in versions.items():
        if len(found) > 1:
            yield f"{crate}: several versions ({', '.join(sorted(found))})"


def main() -> int:
    """Print the breaches, or how many crates were found in order."""
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    packages = metadata(rules["graph"]["targets"])["packages"]
    found = sorted(breaches(rules, packages))
    for line in found:
        print(f"deny.toml: {line}", file=sys.stderr)
    if not found:
        print(f"deny.toml: {len(packages)} crates in order")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
