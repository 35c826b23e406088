"""Writable mounts: an image below, by FUSE, and an overlay above that keeps what is written.

Inside the mountpoint, hidden by the overlay, lie `ro` (the image), `work` and `upper`; with a directory to
persist in, that is the upper one, and its work directory lies beside it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from puzzlefs import mountinfo, shared
from puzzlefs.errors import MountError, UsageError
from puzzlefs.image import Image
from puzzlefs.kernel_mount import is_generic
from puzzlefs.mount import checked_options, mount, say_failed
from puzzlefs.overlay import Overlay, mount_overlay, record_base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Unpack

    from puzzlefs.mount import Settings

LOWER, WORK, UPPER = "ro", "work", "upper"


def mount_writable(
    image: Image,
    mountpoint: str | os.PathLike[str],
    *,
    persist: str | os.PathLike[str] | None = None,
    share: bool = False,
    options: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> None:
    """Mount an image on a directory so that it can be written to; the image stays as it is.

    persist  where changes are kept, made where absent; without it they are in `upper` in the mountpoint
    share    use one read-only mount, and so one page cache, together with all others who ask for it
    options  generic ones go to the overlay, the filesystem's own to the mount of the image

    Everything else, and what it raises, is as `mount` says.
    """
    fifo = settings.get("fifo")
    try:
        words = checked_options(options)
        if share and (fifo is not None or settings.get("foreground")):
            raise UsageError("a shared mount has its own process: it takes neither foreground nor a named pipe")
        with _Directories() as made:
            over = _places(mountpoint, persist, [*_defaults(), *filter(is_generic, words)], made)
            record_base(over.upper, f"{os.path.abspath(image.name.directory)}@{image.descriptor.digest}")
            own = [word for word in words if not is_generic(word)]
            if share:
                with shared.lower(image, own, settings) as lower:
                    raise_overlay(Overlay([lower], over.upper, over.work, over.mountpoint, over.options))
            else:
                made.make(over.lowers[0])
                mount(image, over.lowers[0], over=over, options=own, **settings)
            if not settings.get("foreground"):
                # They are in use from now on.
                made.pop_all()
    except Exception:
        say_failed(None if fifo is None else os.path.abspath(fifo))
        raise


def raise_overlay(overlay: Overlay) -> None:
    """Mount an overlay whose lower directory answers by now. Raises as `mount_overlay` does."""
    if not os.listdir(overlay.upper) and not os.listdir(overlay.work):
        # The upper directory stands for the root of the whole, so a new one is to look like the image's.
        _dress(overlay.upper, overlay.lowers[0])
    mount_overlay(overlay)


def remove_places(mountpoint: str) -> None:
    """Remove what a writable mount made in its mountpoint, but no directory with something in it."""
    for name in (f"{WORK}/work", WORK, LOWER, UPPER):
        with suppress(OSError):
            os.rmdir(os.path.join(mountpoint, name))


class _Directories(ExitStack):
    """The directories that a mount makes: at the end gone again, as far as they are empty."""

    def make(self, path: str) -> None:
        """Make a directory where there is none. Raises `MountError`."""
        try:
            os.mkdir(path)
        except FileExistsError:
            if os.path.islink(path) or not os.path.isdir(path):
                raise MountError(f"{path}: not a directory") from None
        except OSError as error:
            raise MountError(f"{path}: {error.strerror}") from error
        else:
            self.callback(_remove, path)


def _remove(directory: str) -> None:
    with suppress(OSError):
        os.rmdir(directory)


def _places(
    mountpoint: str | os.PathLike[str],
    persist: str | os.PathLike[str] | None,
    options: Sequence[str],
    made: _Directories,
) -> Overlay:
    """Return the overlay over `ro` in a mountpoint, its upper and work directory made."""
    place = os.path.realpath(mountpoint)
    if not os.path.isdir(place):
        raise MountError(f"{os.fspath(mountpoint)}: not a directory")
    if (there := mountinfo.topmost(place)) is not None and (there.is_ours or there.is_overlay):
        raise MountError(f"{os.fspath(mountpoint)}: {os.fsdecode(there.source)} is mounted there")
    if persist is None:
        upper, work = os.path.join(place, UPPER), os.path.join(place, WORK)
    else:
        upper = os.path.realpath(persist)
        work = f"{upper}.{WORK}"
    made.make(upper)
    made.make(work)
    if os.stat(upper).st_dev != os.stat(work).st_dev:
        raise MountError(f"{upper}: a mountpoint itself cannot hold changes; name a directory in it")
    return Overlay([os.path.join(place, LOWER)], upper, work, place, options)


def _defaults() -> tuple[str, ...]:
    """Return the options of an overlay that says nothing else.

    On the host, programs of an image gain nobody rights; in a container, for which LXC's hooks mount, they may.
    """
    return () if "LXC_ROOTFS_PATH" in os.environ else ("nosuid", "nodev")


def _dress(upper: str, lower: str) -> None:
    """Give a directory the owner, mode, attributes and times of another, as far as that is permitted."""
    stat = os.stat(lower)
    with suppress(OSError):
        os.chown(upper, stat.st_uid, stat.st_gid)
    os.chmod(upper, stat.st_mode & 0o7777)
    for name in os.listxattr(lower):
        with suppress(OSError):
            os.setxattr(upper, name, os.getxattr(lower, name))
    os.utime(upper, ns=(stat.st_atime_ns, stat.st_mtime_ns))
