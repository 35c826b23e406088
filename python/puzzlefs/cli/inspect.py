"""Say what an image consists of: digests, platform, blobs, layers, inodes, runtime config."""

from __future__ import annotations

import json

from puzzlefs import constants, records
from puzzlefs._native import native
from puzzlefs.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="OCI_DIR:TAG")
    parser.add_argument("-d", "--digest", metavar="HEX", help="fs-verity digest that the manifest must have")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument("--raw", action="store_true", help="print the manifest as it is stored")


def run(options: argparse.Namespace) -> int:
    image = Image.open(options.image, options.digest)
    if options.raw:
        print(image.content.decode())
        return 0
    facts = _facts(image)
    if options.json:
        print(json.dumps(facts, sort_keys=True))
        return 0
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key.replace('_', ' '):<{width}}  {json.dumps(value) if isinstance(value, dict) else value}")
    return 0


def _facts(image: Image) -> dict[str, Any]:
    from puzzlefs.fsverity import enforced

    manifest, platform = image.manifest, image.descriptor.platform
    version, digests, _, vectors = native.decode_rootfs(image.rootfs)
    blobs = {layer.digest: layer.size for layer in manifest.layers}
    compressed = sum(layer.media_type == constants.FILEDATA_ZSTD for layer in manifest.layers)
    return {
        "name": str(image.name),
        "digest": image.verity,
        "manifest": image.descriptor.digest,
        "platform": f"{platform.get('os')}/{platform.get('architecture')}" if platform else None,
        "manifest_version": version,
        "layers": len(vectors),
        "rootfs_bytes": manifest.rootfs.size,
        "blobs": len(blobs),
        "compressed_blobs": compressed,
        "fs_verity_blobs": enforced(image),
        "chunks": len(digests) // 32,
        "stored_bytes": sum(blobs.values()) + image.descriptor.size + manifest.config.size,
        "inodes": image.index.inode_count,
        "files": sum(image.index.stat(ino)[1] == records.Kind.FILE for ino in image.index.inodes()),
        "content_bytes": image.index.content_bytes,
        "annotations": dict(manifest.annotations),
        "config": (image.config or {}).get("config"),
    }
