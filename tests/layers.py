"""Layers and images of them, made by hand: to say what no well-meaning program would say."""

from __future__ import annotations

import gzip
import json
import sys
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from puzzlefs.convert import ConvertedImage, ConvertOptions, convert
from puzzlefs.image import Image

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OCI = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    """Return an entry of a layer: a file unless `kind` says otherwise."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def file(name: str, content: bytes = b"content", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.REGTYPE, content, **fields)


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def layer(*entries: tuple[tarfile.TarInfo, bytes], end: bytes = bytes(1024)) -> bytes:
    """Return the archive of entries, sizes and contents as given, whether they fit each other or not."""
    pieces = []
    for info, content in entries:
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        pieces += [header, content, bytes(-len(content) % 512)]
    return b"".join([*pieces, end])


def write_layout(path: Path, *archives: bytes, form: str = "", **changes: Any) -> str:
    """Write an image of layers, the lowest first, into a layout of its own; return its name.

    form     how the layers are compressed: "", "+gzip" or "+zstd"
    changes  `config`: its config block; `media_type` of layers; `diff_ids`; `descriptors`: what is
             updated in each layer's descriptor
    """
    blobs = path / "blobs/sha256"
    blobs.mkdir(parents=True)
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    compress = {"": bytes, "+gzip": lambda data: gzip.compress(data, mtime=0), "+zstd": zstd.compress}[form]
    layers = [put(blobs, changes.get("media_type", OCI + form), compress(archive)) for archive in archives]
    for described in layers:
        described.update(changes.get("descriptors", {}))
    diff_ids = changes.get("diff_ids", [f"sha256:{sha256(archive).hexdigest()}" for archive in archives])
    config = {"architecture": "amd64", "os": "linux", "config": changes.get("config", {})}
    if diff_ids is not None:
        config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    document = {"schemaVersion": 2, "config": put_json(blobs, CONFIG, config), "layers": layers}
    manifest = put_json(blobs, MANIFEST, document)
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return f"{path}:t"


def put(blobs: Path, media_type: str, content: bytes) -> dict[str, Any]:
    """Store a blob, return its descriptor."""
    digest = sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def put_json(blobs: Path, media_type: str, document: Any) -> dict[str, Any]:
    return put(blobs, media_type, json.dumps(document).encode())


def converted(home: Path, *archives: bytes, options: ConvertOptions | None = None, **changes: Any) -> Image:
    """Convert layers, the lowest first; return the image."""
    return Image.open(convert_into(home, *archives, options=options, **changes)[0])


def convert_into(
    home: Path, *archives: bytes, options: ConvertOptions | None = None, **changes: Any
) -> tuple[str, ConvertedImage]:
    name = write_layout(home / "source", *archives, **changes)
    (made,) = convert(name, f"{home}/store:t", options)
    return f"{home}/store:t", made


def paths(image: Image) -> list[str]:
    """Return every path of an image."""
    return [path.decode("utf-8", "surrogateescape") for path, _ in image.walk()]
