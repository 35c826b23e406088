"""Work in a process with users, mounts and processes of its own, all of which end with it.

The new interpreter becomes root of a user namespace: as root with everybody's number as it is, as another
user with the numbers that /etc/subuid and /etc/subgid grant. What it mounts nobody else sees, and what it
leaves running, the server of a mount among it, is killed when it ends or its caller dies.

Run as `python -m puzzlefs.isolation MODULE READY REQUEST ANSWER`, the last three descriptors of pipes: the
process says that it has its users, is told what to do when their numbers are set, and answers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from puzzlefs import launcher
from puzzlefs.errors import PuzzleFSError, UnsupportedError
from puzzlefs.subordinate import MAPPERS, further_numbers
from puzzlefs.syscalls import NEW_MOUNTS, NEW_PROCESSES, NEW_USERS, make_mounts_private, mount, unshare

_MODULE = "puzzlefs.isolation"
_DIE_WITH_PARENT = 1


class IsolatedError(PuzzleFSError):
    """What went wrong in the process, in its words."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Answer(NamedTuple):
    """What the process said, and what the user should know, one sentence each."""

    value: Any
    notices: tuple[str, ...]


def isolated(work: str, request: Any) -> Answer:
    """Call `run(request)` of the module `work` in a process of its own; return what it returns.

    Both go through a pipe as pickles. Raises `IsolatedError` for what it raises, `UnsupportedError` where the system lets nobody have
    namespaces of their own.
    """
    (ready, say_ready), (hear, tell), (answer, say_answer) = (os.pipe() for _ in range(3))
    theirs = (say_ready, hear, say_answer)
    with open(ready, "rb") as readiness, open(tell, "wb") as telling, open(answer, "rb") as answering:
        words = [sys.executable, "-P", "-m", _MODULE, work, *map(str, theirs)]
        process = subprocess.Popen(words, pass_fds=theirs, env=launcher.environment())
        try:
            for descriptor in theirs:
                os.close(descriptor)
            notices = _give_numbers(process.pid) if readiness.read(1) else ()
            with suppress(BrokenPipeError):
                pickle.dump(request, telling)
                telling.close()
            said = answering.read()
            process.wait()
        finally:
            process.kill()
            process.wait()
    # It comes from this very program.
    value, error, code = pickle.loads(said) if said else (None, f"the process of {work} ended without a word", 1)  # noqa: S301
    if error is not None:
        raise IsolatedError(error, code)
    return Answer(value, notices)


# Numbers of users and groups


def _give_numbers(process: int) -> tuple[str, ...]:
    """Say which numbers of users and groups the new namespace has; return what the user should know."""
    if os.geteuid() == 0:
        for table in ("uid_map", "gid_map"):
            with open(f"/proc/self/{table}", encoding="ascii") as file:
                known = [line.split() for line in file]
            _write(process, table, "".join(f"{inner} {inner} {count}\n" for inner, _, count in known))
        return ()
    granted = further_numbers()
    if granted:
        own = (os.geteuid(), os.getegid())
        for program, number, ranges in zip(MAPPERS, own, granted, strict=True):
            words = [0, number, 1]
            for first, count in ranges:
                words += [words[-3] + words[-1], first, count]
            done = subprocess.run([program, *map(str, (process, *words))], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise UnsupportedError(f"{program}: {done.stderr.strip()}")
        return ()
    _write(process, "setgroups", "deny")
    _write(process, "uid_map", f"0 {os.geteuid()} 1\n")
    _write(process, "gid_map", f"0 {os.getegid()} 1\n")
    return ("only root has a number here (no newuidmap, or nothing in /etc/subuid): no step can change owners",)


def _write(process: int, table: str, text: str) -> None:
    try:
        with open(f"/proc/{process}/{table}", "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise UnsupportedError(f"a user namespace cannot be set up here: {error.strerror}") from error


# In the process


def main(arguments: Sequence[str]) -> int:
    """Get the namespaces, then do the work as the first process in them."""
    work, *descriptors = arguments
    ready, hear, answer = map(int, descriptors)
    for descriptor in (ready, hear, answer):
        os.set_inheritable(descriptor, False)
    return _told(answer, lambda: _enter(work, ready, hear, answer))


def _enter(work: str, ready: int, hear: int, answer: int) -> int:
    _die_with_parent()
    _unshare(NEW_USERS)
    os.write(ready, b"r")
    with open(hear, "rb") as file:
        request = pickle.load(file)  # noqa: S301 - from this very program
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _unshare(NEW_MOUNTS | NEW_PROCESSES)
    first = os.fork()
    if first:
        return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    os._exit(_told(answer, lambda: _work(answer, work, request)))


def _told(answer: int, call: Callable[[], int]) -> int:
    """Return what a call returns; what it raises is told in the answer."""
    try:
        return call()
    except KeyboardInterrupt:
        _say(answer, None, "interrupted", 130)
    except PuzzleFSError as error:
        _say(answer, None, str(error), error.exit_code)
    except Exception as error:
        if os.environ.get("PUZZLEFS_DEBUG"):
            raise
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error, OSError) and error.filename else ""
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        _say(answer, None, f"{where}{reason}", 1)
    return 1


def _work(answer: int, work: str, request: Any) -> int:
    _die_with_parent()
    make_mounts_private()
    # The old table of processes stays where the system keeps another from being seen.
    with suppress(OSError):
        mount("proc", "/proc", "proc", 0, b"")
    from importlib import import_module

    value = import_module(work).run(request)
    _say(answer, value)
    return 0


def _say(answer: int, value: Any, error: str | None = None, code: int = 0) -> None:
    with open(answer, "wb", closefd=False) as file:
        pickle.dump((value, error, code), file)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def _unshare(flags: int) -> None:
    try:
        unshare(flags)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = "the limit is reached (user.max_user_namespaces)" if full else error.strerror
        raise UnsupportedError(f"this system gives no user namespace of one's own: {reason}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
