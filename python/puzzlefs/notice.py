"""Telling whoever waits for a mount: one letter in a named pipe, `s` mounted or `f` failed, and systemd."""

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


def tell_service_manager(state: str) -> None:
    """Send a state, as sd_notify(3) words it, to the service manager that started this process, if one did."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    import socket
    from contextlib import suppress

    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        # An at sign stands for the byte that begins a name outside of the file system.
        channel.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
        channel.sendall(state.encode())
