"""`pfs-ovl-mount-helper`: what LXC's own template calls, in the form of its older versions and of the newer ones.

mount OCI_DIR:NAME MOUNTPOINT
mount --persist UPPER OCI_DIR:NAME MOUNTPOINT
umount MOUNTPOINT
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from puzzlefs.cli import main as puzzlefs

_USAGE = "usage: pfs-ovl-mount-helper mount [--persist UPPER] OCI_DIR:NAME MOUNTPOINT | umount MOUNTPOINT"


def main(arguments: Sequence[str] | None = None) -> int:
    """Mount or unmount as LXC says; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    match words:
        case ["mount", "--persist", upper, image, mountpoint, *_]:
            return puzzlefs(["mount", "--persist", upper, image, mountpoint])
        case ["mount", image, mountpoint, *_] if not image.startswith("-"):
            # The older form has no word for it; the container's directory is the one above its root.
            upper = os.path.join(os.path.dirname(os.path.abspath(mountpoint)), "upper")
            return puzzlefs(["mount", "--persist", upper, image, mountpoint])
        case ["umount" | "unmount", mountpoint]:
            return puzzlefs(["umount", mountpoint])
    # Hooks of LXC's first version add words of their own, so more of them are no mistake.
    print(_USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
