"""Make the image OCI_DIR:NEWTAG of what a writable mount shows: a delta upon the image below, in the same store."""

from __future__ import annotations

import argparse
import os

from puzzlefs import mountinfo
from puzzlefs.builder import BuildOptions
from puzzlefs.cli.arguments import add_config_arguments, add_mtime_argument, mtime, pairs, runtime_config
from puzzlefs.cli.build import add_form_arguments, form_options, shown_progress, tell
from puzzlefs.commit import commit
from puzzlefs.errors import MountError, UsageError
from puzzlefs.image import Image
from puzzlefs.names import ImageName
from puzzlefs.overlay import marks, recorded_base, split, upper_directory
from puzzlefs.syscalls import NEW_MOUNTS, make_mounts_private, unmount, unshare

_USER = "user.overlay."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place", metavar="MOUNTPOINT|UPPER", help="a writable mount, or the upper directory of an overlay that was one"
    )
    parser.add_argument("image", metavar="OCI_DIR:NEWTAG", help="tag for the image, in the store of the one below")
    parser.add_argument(
        "-b", "--base", metavar="TAG", help="the image below (default: the one that was mounted there last)"
    )
    parser.add_argument(
        "--userxattr", action="store_true", help="the overlay's marks are in user attributes (default: as mounted)"
    )
    add_form_arguments(parser)
    add_mtime_argument(parser)
    add_config_arguments(parser)


def run(options: argparse.Namespace) -> int:
    name = ImageName.parse(options.image)
    if name.is_digest:
        raise UsageError(f"{name}: a commit needs a tag, not a digest")
    upper, by_user = _upper(options.place)
    base = _base(name, upper, options.base)
    settings = BuildOptions(
        mtime=mtime(options.mtime),
        annotations=pairs(options.annotation, "--annotation"),
        runtime=runtime_config(options),
        **form_options(options),
    )
    with shown_progress(options) as report:
        result = commit(upper, base, name, settings, report, user_marks=by_user or options.userxattr)
    tell(result.document(), options)
    return 0


def _upper(place: str) -> tuple[str, bool]:
    """Return the upper directory, and whether its marks are in user attributes."""
    mount = mountinfo.topmost(place)
    if mount is None:
        if not os.path.isdir(place):
            raise UsageError(f"{place}: neither a mount nor a directory")
        return place, marks() == _USER
    if mount.kind != "overlay":
        raise MountError(f"{place}: a mount of type {mount.kind}, not a writable one; name its upper directory")
    upper = upper_directory(mount.options)
    if upper is None:
        raise MountError(f"{place}: an overlay without an upper directory")
    mountpoint = os.fsdecode(mount.mountpoint)
    if os.path.commonpath([mountpoint, upper]) == mountpoint:
        _uncover(mountpoint, upper)
    return upper, b"userxattr" in split(mount.options)


def _uncover(mountpoint: str, upper: str) -> None:
    """Let this process, and no other, see the upper directory that lies under the mount itself."""
    try:
        unshare(NEW_MOUNTS)
        make_mounts_private()
        unmount(mountpoint, lazy=True)
    except OSError as error:
        raise MountError(f"{upper}: hidden by the mount; unmount it first, then commit this directory") from error


def _base(name: ImageName, upper: str, tag: str | None) -> Image:
    if tag is not None:
        return Image.open(ImageName(name.directory, tag))
    recorded = recorded_base(upper)
    if recorded is None:
        raise UsageError(f"{upper}: nothing says which image is below; name its tag with --base")
    return Image.open(ImageName.parse(recorded))
