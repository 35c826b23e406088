"""The OCI image config: how to run what an image holds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from puzzlefs.oci import Platform

# A config without any variable makes consumers fail: LXC's template, for one, iterates over them.
DEFAULT_ENV = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


class RuntimeConfig(NamedTuple):
    """What a user may say of running an image; None and empty mean nothing was said.

    env         "NAME=VALUE" strings
    entrypoint  the program and its first arguments
    cmd         default further arguments
    """

    env: Sequence[str] = ()
    entrypoint: Sequence[str] | None = None
    cmd: Sequence[str] | None = None
    workdir: str | None = None
    user: str | None = None
    labels: Mapping[str, str] = MappingProxyType({})

    def __bool__(self) -> bool:
        said = (self.env, self.labels)
        return any(said) or any(value is not None for value in (self.entrypoint, self.cmd, self.workdir, self.user))


def config_document(
    runtime: RuntimeConfig,
    base: Mapping[str, Any] | None,
    platform: Platform,
    diff_ids: Sequence[str],
    epoch: int | None,
) -> dict[str, Any] | None:
    """Return the config of an image, or None where there is nothing to say.

    base      the config document of the image built upon, whose `config` is inherited
    diff_ids  one digest for each layer
    epoch     SOURCE_DATE_EPOCH; the creation time is left out without it
    """
    if not runtime and not base:
        return None
    inherited = dict((base or {}).get("config") or {})
    document: dict[str, Any] = {
        "architecture": platform.architecture,
        "os": platform.os,
        "config": _merge(inherited, runtime),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    if epoch is not None:
        document["created"] = created(epoch)
    return document


def created(epoch: int) -> str:
    """Return a time as a config says it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def _merge(config: dict[str, Any], runtime: RuntimeConfig) -> dict[str, Any]:
    config["Env"] = merge_env(config.get("Env") or DEFAULT_ENV, runtime.env)
    if runtime.entrypoint is not None:
        config["Entrypoint"] = list(runtime.entrypoint)
        # Arguments meant for another program are not inherited.
        config.pop("Cmd", None)
    if runtime.cmd is not None:
        config["Cmd"] = list(runtime.cmd)
    if runtime.workdir is not None:
        config["WorkingDir"] = runtime.workdir
    if runtime.user is not None:
        config["User"] = runtime.user
    if runtime.labels:
        config["Labels"] = {**(config.get("Labels") or {}), **runtime.labels}
    return config


def merge_env(base: Sequence[str], new: Sequence[str]) -> list[str]:
    """Return the variables in order of first mention, later values winning."""
    variables = dict(item.partition("=")[::2] for item in [*base, *new])
    return [f"{name}={value}" for name, value in variables.items()]
