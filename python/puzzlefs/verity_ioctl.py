"""The kernel's two requests about fs-verity; `<linux/fsverity.h>` has the numbers and structures."""

from __future__ import annotations

import errno
import fcntl
from struct import Struct
from typing import Final

from puzzlefs.constants import VERITY_BLOCK

_ENABLE: Final = 0x40806685
_MEASURE: Final = 0xC0046686
_SHA256: Final = 1
# version, algorithm, block size, salt size and address, signature size, 0, signature address, 11 times 0
_ENABLE_ARGUMENT: Final = Struct("<IIIIQIIQ88x")
# algorithm, digest size, digest
_DIGEST: Final = Struct("<HH32s")


def enable_file(descriptor: int) -> bool:
    """Put a file, open for reading and by nobody for writing, under fs-verity; False where it was.

    Raises `OSError`: ENOTTY where the filesystem knows no fs-verity, EOPNOTSUPP where it or the
    kernel has it switched off.
    """
    argument = _ENABLE_ARGUMENT.pack(1, _SHA256, VERITY_BLOCK, 0, 0, 0, 0, 0)
    try:
        fcntl.ioctl(descriptor, _ENABLE, argument)
    except FileExistsError:
        return False
    return True


def measure_file(descriptor: int) -> bytes | None:
    """Return the fs-verity digest that the kernel enforces on reads of a file; None where it does not.

    Raises `OSError` as `enable_file` does, and where the file has another hash than SHA-256.
    """
    try:
        answer = fcntl.ioctl(descriptor, _MEASURE, _DIGEST.pack(0, 32, b""))
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise
    algorithm, size, digest = _DIGEST.unpack(answer)
    if algorithm != _SHA256 or size != 32:
        raise OSError(errno.EOPNOTSUPP, "measured with another algorithm than SHA-256")
    return bytes(digest)
