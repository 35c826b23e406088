"""The image config of a layer: its base's, and what the stacker file says of running it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puzzlefs.runtime_config import DEFAULT_ENV, created, merge_env
from puzzlefs.stacker.layers import Layer

_AUTHOR = "puzzlefs"


def layer_config(layer: Layer, base: Mapping[str, Any] | None, epoch: int | None) -> dict[str, Any]:
    """Return the config of a layer upon an image with the config `base`.

    Variables, labels and volumes are added to the base's; entrypoint and command are never inherited.
    """
    config: dict[str, Any] = dict((base or {}).get("config") or {})
    new = [f"{name}={value}" for name, value in layer.environment.items()]
    config["Env"] = merge_env(config.get("Env") or DEFAULT_ENV, new)
    for name in ("Entrypoint", "Cmd"):
        config.pop(name, None)
    entrypoint, cmd = (layer.full_command, None) if layer.full_command else (layer.entrypoint, layer.cmd)
    if entrypoint:
        config["Entrypoint"] = list(entrypoint)
    if cmd:
        config["Cmd"] = list(cmd)
    if layer.labels:
        config["Labels"] = {**(config.get("Labels") or {}), **layer.labels}
    if layer.volumes:
        config["Volumes"] = {**(config.get("Volumes") or {}), **{volume: {} for volume in layer.volumes}}
    if layer.working_dir:
        config["WorkingDir"] = layer.working_dir
    if layer.runtime_user:
        config["User"] = layer.runtime_user
    document: dict[str, Any] = {"author": _AUTHOR, "config": config}
    if epoch is not None:
        document["created"] = created(epoch)
    return document
