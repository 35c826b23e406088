"""`mount.puzzlefs` and `mount.fuse.puzzlefs`: what mount(8) runs for `mount -t` and for lines of fstab(5).

mount(8) calls `mount.TYPE SPEC DIRECTORY [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE.SUBTYPE]` and knows
exit codes of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from puzzlefs.errors import PuzzleFSError, UnsupportedError, UsageError
from puzzlefs.image import MOUNT_CACHE_SIZE, VERIFY_ALWAYS, VERIFY_NEVER, VERIFY_ONCE, Image
from puzzlefs.kernel_mount import is_known
from puzzlefs.owners import Owners, parse_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from puzzlefs._native import Range
    from puzzlefs.elsewhere import Elsewhere
    from puzzlefs.mount import Settings

# mount(8): wrong call or no permission; a fault of the system; the mount itself failed.
_USAGE, _SYSTEM, _FAILED = 1, 2, 32
_VERIFY = {"auto": None, "always": VERIFY_ALWAYS, "once": VERIFY_ONCE, "never": VERIFY_NEVER}
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
# For mount(8), systemd and the like; an image is read-only whatever is said, and written to by an overlay.
_IGNORED = frozenset(
    [
        "auto",
        "noauto",
        "user",
        "nouser",
        "users",
        "owner",
        "group",
        "nofail",
        "_netdev",
        "defaults",
        "rw",
        "loud",
        "silent",
        "mand",
        "nomand",
        "iversion",
        "noiversion",
    ]
)
_IGNORED_PREFIXES = ("x-", "X-", "comment=", "uhelper=", "helper=", "fsname=", "subtype=", "setuid=")


def main(arguments: Sequence[str] | None = None) -> int:
    """Mount as mount(8) says; return the exit code that it knows."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    try:
        given = parser.parse_args(words)
    except SystemExit as error:
        return _USAGE if error.code else 0
    try:
        _mount(given)
    except PuzzleFSError as error:
        return _report(error, _code(error))
    except PermissionError as error:
        return _report(error, _USAGE)
    except OSError as error:
        return _report(error, _SYSTEM)
    return 0


class Options:
    """What the options of a line of fstab(5) say.

    mount  those for the mount itself, passed on
    """

    def __init__(self, text: str, sloppy: bool = False) -> None:
        """Read options separated by commas. Raises `UsageError` for one that nobody knows, unless `sloppy`."""
        self.digest: str | None = None
        self.persist: str | None = None
        self.writable = self.share = False
        self.users: list[Range] = []
        self.groups: list[Range] = []
        # What mount(8) calls its defaults, which it does not hand on. Others than root have no choice.
        self.mount = ["suid", "dev"] if os.geteuid() == 0 else []
        self.settings: Settings = {"cache_size": MOUNT_CACHE_SIZE, "fork": True}
        for word in filter(None, text.split(",")):
            name, _, value = word.partition("=")
            if not self._take(name, value) and not self._pass_on(word) and not sloppy:
                raise UsageError(f"unknown option {word!r}")

    def _take(self, name: str, value: str) -> bool:
        match name:
            case "digest":
                self.digest = value
            case "persist":
                self.persist, self.writable = value, True
            case "writable" | "writeable":
                self.writable = True
            case "share":
                self.share = self.writable = True
            case "verify":
                self.settings["verify"] = _choice(value)
            case "cache_size":
                self.settings["cache_size"] = _size(value)
            case "idmap":
                self._add_range(value, self.users, self.groups)
            case "uidmap":
                self._add_range(value, self.users)
            case "gidmap":
                self._add_range(value, self.groups)
            case "workers":
                self.settings["workers"] = _count(value)
            case "allow_other":
                self.settings["allow_other"] = True
            case "remount":
                raise UnsupportedError("a mount of an image cannot be changed: unmount it, and mount it again")
            case "log":
                self.settings["log"] = value
            case _:
                return False
        return True

    def owners(self) -> Owners:
        """Return whom files are to belong to. Raises `UsageError`."""
        return Owners(self.users, self.groups)

    def _add_range(self, value: str, *kinds: list[Range]) -> None:
        for kind in kinds:
            kind.append(parse_range(value))

    def _pass_on(self, word: str) -> bool:
        if word in _IGNORED or word.startswith(_IGNORED_PREFIXES):
            return True
        if not is_known(word):
            return False
        self.mount.append(word)
        return True


def _choice(value: str) -> int | None:
    if value not in _VERIFY:
        raise UsageError(f"verify={value}: {', '.join(_VERIFY)} are possible")
    return _VERIFY[value]


def _count(value: str) -> int:
    if not value.isascii() or not value.isdecimal():
        raise UsageError(f"workers={value}: not a number")
    return int(value)


def _size(value: str) -> int:
    digits, unit = value.lower().rstrip("kmg"), value.lower()[-1:]
    if not digits.isascii() or not digits.isdecimal() or len(digits) + 1 < len(value):
        raise UsageError(f"cache_size={value}: not a number of bytes, as 67108864 or 64M")
    return int(digits) * _UNITS.get(unit, 1)


def _mount(given: argparse.Namespace) -> None:
    options = Options(",".join(given.options), given.sloppy)
    elsewhere = None if given.namespace is None else _enter(given.namespace)
    image = Image.open(given.spec, options.digest).with_owners(options.owners())
    if given.fake:
        return
    if options.writable:
        from puzzlefs.writable import mount_writable

        mount_writable(
            image,
            given.directory,
            persist=options.persist,
            share=options.share,
            options=options.mount,
            **options.settings,
        )
    else:
        from puzzlefs.mount import mount

        mount(image, given.directory, options=options.mount, elsewhere=elsewhere, **options.settings)


def _enter(namespace: str) -> Elsewhere:
    """Work in another table of mounts: that of a process, or of a file that stands for it."""
    from puzzlefs.daemon import load_server
    from puzzlefs.elsewhere import Elsewhere

    # Python's own modules may be elsewhere there.
    load_server()
    return Elsewhere(f"/proc/{namespace}/ns/mnt" if namespace.isdecimal() else namespace)


def _code(error: PuzzleFSError) -> int:
    if isinstance(error, UsageError):
        return _USAGE
    return _SYSTEM if isinstance(error, UnsupportedError) else _FAILED


def _report(error: Exception, code: int) -> int:
    print(f"mount.puzzlefs: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="mount.puzzlefs", description="Mount a PuzzleFS image; see mount(8).", allow_abbrev=False
    )
    parser.add_argument("spec", metavar="OCI_DIR:TAG")
    parser.add_argument("directory", metavar="DIRECTORY")
    parser.add_argument("-s", dest="sloppy", action="store_true", help="ignore unknown options")
    parser.add_argument("-f", dest="fake", action="store_true", help="do everything but mount")
    parser.add_argument("-n", dest="unlisted", action="store_true", help="no meaning here")
    parser.add_argument("-v", dest="verbose", action="store_true", help="no meaning here")
    parser.add_argument("-N", dest="namespace", metavar="NAMESPACE", help="mount there: a process or a file")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPTIONS")
    parser.add_argument("-t", dest="type", metavar="TYPE", help="no meaning here")
    return parser


if __name__ == "__main__":
    code = main()
    # An interpreter takes longer to end than the mount took to begin, and mount(8) waits for it.
    sys.stderr.flush()
    os._exit(code)
