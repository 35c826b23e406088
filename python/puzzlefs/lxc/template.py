"""What `lxc-create -t puzzlefs` runs: gets an image, writes a container's configuration and first files."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from puzzlefs.errors import NotFoundError, PuzzleFSError, UsageError
from puzzlefs.image import Image
from puzzlefs.launcher import command
from puzzlefs.lxc import config, fetch

_HOSTS = """\
127.0.0.1   localhost
127.0.1.1   {name}
::1         localhost ip6-localhost ip6-loopback
ff02::1     ip6-allnodes
ff02::2     ip6-allrouters
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a container as LXC and the user say; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        create(options)
    except PuzzleFSError as error:
        print(f"lxc-puzzlefs: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"lxc-puzzlefs: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _found(helper: list[str]) -> list[str]:
    """Return a command with the program's path: hooks have a search path of their own."""
    return [shutil.which(helper[0]) or helper[0], *helper[1:]] if helper else helper


def create(options: argparse.Namespace) -> None:
    """Make a container. Raises `PuzzleFSError` or `OSError`; then LXC removes what there is."""
    if not (options.name and options.path and options.rootfs):
        raise UsageError("this is a template of LXC: lxc-create -t puzzlefs -n NAME -- --url oci:DIR:TAG")
    if options.mount_helper and options.share:
        raise UsageError("--share is of the own mount helper")
    image = fetch.image(
        options.url,
        None if options.cache else (os.path.join(options.path, "oci"), options.name),
        options.username,
        options.password,
    )
    helper = _found(shlex.split(options.mount_helper)) if options.mount_helper else command()
    # Other helpers know no digests; ours is told the very manifest that is seen now.
    name = fetch.tagged_name(image) if options.mount_helper else fetch.pinned_name(image)
    upper = os.path.join(os.path.realpath(options.path), "upper")
    lines = [config.checked(line, "line") for line in _lines(options, image, helper, upper, name)]
    _write_first_files(options, helper, upper, name)
    with open(os.path.join(options.path, "config"), "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(f"{line}\n" for line in lines))
    _give_away(options)


def _lines(options: argparse.Namespace, image: Image, helper: Sequence[str], upper: str, name: str) -> Iterator[str]:
    yield f"# {image.name}"
    yield from config.includes(_mapped(options.mapped_uid) is not None)
    yield f"lxc.uts.name = {options.name}"
    yield from config.process_lines(image, _has_init(image))
    if options.share:
        owners = config.identity_options(os.path.join(options.path, "config"))
        yield from config.shared_hooks(helper, upper, name, owners)
    else:
        yield from config.mount_hook(helper, upper, name)
    if options.dhcp:
        yield from config.dhcp_lines()


def _has_init(image: Image) -> bool:
    for path in ("/sbin/init", "/lib/systemd/systemd"):
        try:
            image.resolve(path)
        except NotFoundError:
            continue
        return True
    return False


def _write_first_files(options: argparse.Namespace, helper: Sequence[str], upper: str, name: str) -> None:
    """Write the host's name where the image has a directory for it."""
    with _mounted(helper, upper, name, options.rootfs):
        files = {"hostname": f"{options.name}\n", "hosts": _HOSTS.format(name=options.name)}
        root = os.open(options.rootfs, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # No link of the image may lead to a file of the host.
            etc = os.open("etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        except OSError:
            return
        finally:
            os.close(root)
        try:
            for file, content in files.items():
                _replace(etc, file, content.encode())
        finally:
            os.close(etc)


def _replace(directory: int, name: str, content: bytes) -> None:
    unfinished = f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(unfinished, flags, 0o644, dir_fd=directory)
    with open(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, 0o644)
    os.rename(unfinished, name, src_dir_fd=directory, dst_dir_fd=directory)


@contextmanager
def _mounted(helper: Sequence[str], upper: str, name: str, rootfs: str) -> Iterator[None]:
    """Have the helper mount an image for a while. Raises `MountError`."""
    fetch.run([*helper, "mount", "--persist", upper, name, rootfs])
    try:
        yield
    finally:
        fetch.run([*helper, "umount", rootfs])


def _give_away(options: argparse.Namespace) -> None:
    """Let the user for whom LXC makes the container have its files."""
    uid, gid = _mapped(options.mapped_uid), _mapped(options.mapped_gid)
    for name in ("config", "fstab"):
        path = os.path.join(options.path, name)
        if os.path.exists(path):
            os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)


def _mapped(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lxc-puzzlefs", description="Make an LXC container whose root filesystem is a PuzzleFS image."
    )
    parser.add_argument("-u", "--url", required=True, help="oci:DIR:TAG, or what skopeo takes, such as docker://…")
    parser.add_argument("--username", help="name for the registry")
    parser.add_argument("--password", help="password for the registry")
    parser.add_argument("--no-cache", dest="cache", action="store_false", help="copy the image into the container")
    parser.add_argument("--dhcp", action="store_true", help="let the host ask for the container's address")
    parser.add_argument("--mount-helper", metavar="COMMAND", help="another program that mounts and unmounts the image")
    parser.add_argument("--share", action="store_true", help="share one mount of the image with other containers")
    internal = parser.add_argument_group("given by LXC")
    for name in ("name", "path", "rootfs", "mapped-uid", "mapped-gid"):
        internal.add_argument(f"--{name}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
