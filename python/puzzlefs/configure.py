"""Another runtime config for an image: a new manifest over the same blobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puzzlefs import constants
from puzzlefs.image import Image
from puzzlefs.oci import Descriptor, Manifest, Platform, canonical


def configure(
    image: Image, config: Mapping[str, Any], annotations: Mapping[str, str], platform: Platform
) -> Descriptor:
    """Store a manifest with an image's layers and the image config `config`; return its descriptor.

    The config's `rootfs` is set here, one diff_id for each layer. Raises `StoreError`.
    """
    layers = image.manifest.layers
    document = {**config, **platform.document(), "rootfs": {"type": "layers", "diff_ids": [x.digest for x in layers]}}
    content = canonical(document)
    manifest = Manifest(Descriptor.of(constants.IMAGE_CONFIG, content), layers, annotations)
    described = canonical(manifest.document(artifact=True))
    with image.store.unfinished() as unfinished:
        for blob in (content, described):
            image.store.put(blob, unfinished)
    return Descriptor.of(constants.MANIFEST, described, platform=platform.document())
