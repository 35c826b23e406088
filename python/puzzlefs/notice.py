"""One letter in a named pipe for whoever waits for a mount: `s` mounted, `f` failed."""

from __future__ import annotations

import errno
import os
import time

_PAUSE = 0.05
_PATIENCE = 10.0


def try_say(fifo: str, letter: bytes) -> bool:
    """Write a letter without waiting; return False where nobody reads the pipe yet. Raises `OSError`."""
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    try:
        os.write(descriptor, letter)
    finally:
        os.close(descriptor)
    return True


def say(fifo: str, letter: bytes, patience: float = _PATIENCE) -> bool:
    """Write a letter as soon as somebody reads the pipe, within `patience` seconds; return whether it was."""
    end = time.monotonic() + patience
    try:
        while not try_say(fifo, letter):
            if time.monotonic() >= end:
                return False
            time.sleep(_PAUSE)
    except OSError:
        return False
    return True
