"""Convert the image SRC, whatever its layers are, into the PuzzleFS image OCI_DIR:TAG."""

from __future__ import annotations

import argparse
import json
import sys

from puzzlefs.cli.arguments import add_config_arguments, add_mtime_argument, mtime, pairs, runtime_config
from puzzlefs.cli.build import add_blob_arguments, blob_options, shown_progress
from puzzlefs.convert import ConvertOptions, LayerCompression, ReverseOptions, SourceOptions, convert, convert_back
from puzzlefs.convert.manifests import parse_platform
from puzzlefs.durability import Durability
from puzzlefs.errors import UsageError
from puzzlefs.image import Image
from puzzlefs.oci import Platform


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SRC",
        help="oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, dir:DIR, docker://NAME or another transport of "
        "skopeo's; a tar archive, or - for one on standard input",
    )
    parser.add_argument(
        "image", metavar="DST", help="OCI_DIR:TAG, the store made where there is none; with --reverse any transport"
    )
    add_blob_arguments(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="which of several images (default: for this machine)"
    )
    which.add_argument("--all-platforms", action="store_true", help="all of them; the tag names an index")
    parser.add_argument(
        "--size-limit",
        type=int,
        metavar="BYTES",
        help="most bytes that a layer may unpack to (default: 1 GiB, or 256 times its size where that is more)",
    )
    parser.add_argument("--authfile", metavar="FILE", help="registry credentials, for skopeo")
    parser.add_argument("--tls-verify", choices=["true", "false"], help="whether skopeo insists on TLS")
    _add_reverse_arguments(parser)
    group = parser.add_argument_group("what the image says of its tree")
    add_mtime_argument(group)
    group.add_argument("--all-root", action="store_true", help="everything belongs to user and group 0")
    add_config_arguments(parser)


def _add_reverse_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("back to layers")
    group.add_argument(
        "--reverse", action="store_true", help="SRC is a PuzzleFS image, DST becomes an image of tar layers"
    )
    group.add_argument(
        "--layer-compression",
        choices=[*LayerCompression],
        default=LayerCompression.GZIP,
        help="of the layers of DST (default: gzip)",
    )
    group.add_argument("-d", "--digest", metavar="HEX", help="fs-verity digest that the manifest of SRC must have")


def run(options: argparse.Namespace) -> int:
    return _reverse(options) if options.reverse else _convert(options)


def _reverse(options: argparse.Namespace) -> int:
    if options.all_platforms:
        raise UsageError("--all-platforms: layers are written for one platform at a time")
    platform = _platform(options.platform)
    wanted = Platform(platform["os"], platform["architecture"]) if platform else None
    settings = ReverseOptions(
        compression=LayerCompression(options.layer_compression),
        runtime=runtime_config(options),
        durability=Durability(options.durability),
        skopeo=tuple(_skopeo(options, "dest")),
    )
    image = convert_back(Image.open(options.source, options.digest, wanted), options.image, settings)
    for notice in image.notices:
        print(f"puzzlefs: {notice}", file=sys.stderr)
    print(json.dumps(image.document(), sort_keys=True) if options.json else image.manifest)
    return 0


def _convert(options: argparse.Namespace) -> int:
    with shown_progress(options) as report:
        images = convert(options.source, options.image, _options(options), report)
    for image in images:
        for notice in image.notices:
            print(f"puzzlefs: {notice}", file=sys.stderr)
    if options.json:
        print(json.dumps([image.document() for image in images], sort_keys=True))
        return 0
    for image in images:
        where = f"{'/'.join(map(str, image.platform.values()))}: " if len(images) > 1 else ""
        print(f"{where}puzzlefs image manifest digest: {image.digest}")
    return 0


def _options(options: argparse.Namespace) -> ConvertOptions:
    if options.size_limit is not None and options.size_limit < 0:
        raise UsageError("--size-limit: a number of bytes is expected")
    return ConvertOptions(
        source=SourceOptions(
            platform=_platform(options.platform),
            every=options.all_platforms,
            size_limit=options.size_limit,
            skopeo=_skopeo(options, "src"),
        ),
        mtime=mtime(options.mtime),
        all_root=options.all_root,
        annotations=pairs(options.annotation, "--annotation"),
        runtime=runtime_config(options),
        **blob_options(options),
    )


def _platform(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    platform = parse_platform(text)
    if platform is None:
        raise UsageError(f"--platform: {text!r} is not OS/ARCH or OS/ARCH/VARIANT")
    return platform


def _skopeo(options: argparse.Namespace, side: str) -> list[str]:
    given = {"--authfile": options.authfile, f"--{side}-tls-verify": options.tls_verify}
    return [f"{option}={value}" for option, value in given.items() if value is not None]
