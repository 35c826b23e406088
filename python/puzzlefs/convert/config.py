"""Image configs of converted images: what running them needs, and how they came to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from puzzlefs.oci import Platform
from puzzlefs.runtime_config import RuntimeConfig, config_document

_KEPT = ("author", "created", "variant", "os.version", "os.features")


def converted_config(
    source: Mapping[str, Any] | None,
    runtime: RuntimeConfig,
    platform: Mapping[str, Any],
    diff_ids: Sequence[str],
    epoch: int | None,
) -> dict[str, Any] | None:
    """Return the config of an image made from one with the config `source`, None where both say nothing.

    The other arguments are those of `config_document`. The history tells how the source came to be,
    and none of its steps made a layer of this image.
    """
    described = Platform(str(platform["os"]), str(platform["architecture"]))
    document = config_document(runtime, source, described, diff_ids, epoch)
    if document is None:
        return None
    kept = {key: source[key] for key in _KEPT if key in source} if source else {}
    steps = (source or {}).get("history")
    if isinstance(steps, list) and all(isinstance(step, dict) for step in steps):
        kept["history"] = [{**step, "empty_layer": True} for step in steps]
    return {**kept, **document}
