"""Commands, measured, and what they leave running."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parents[1]
TIMEOUT = 900.0
PR_SET_CHILD_SUBREAPER = 36
CHILD = str(Path(__file__).with_name("child.py"))


class CommandError(Exception):
    """A command that failed: how, and the end of what it said."""


class Usage(NamedTuple):
    """What a command took: seconds from its start to its end, seconds on processors, peak memory in bytes."""

    seconds: float
    processor: float
    peak: int


def adopt_orphans() -> None:
    """Make daemons that are started below this process its own children once their parents are gone."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end. Raises `CommandError` where it fails or takes longer than TIMEOUT."""
    reader, writer = os.pipe()
    try:
        run([sys.executable, "-I", "-S", CHILD, str(writer), *command], environment, writer)
        seconds, processor, peak = os.read(reader, 200).decode().split()
    finally:
        os.close(writer)
        os.close(reader)
    return Usage(float(seconds), float(processor), int(peak))


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, *keep: int) -> None:
    """Run a command to its end with the descriptors `keep`. Raises `CommandError` where it fails."""
    with started(command, environment, keep) as (process, said):
        await_end(process, TIMEOUT)
        if code := process.wait():
            raise CommandError(f"exit status {code}: {last_words(said)}")
        if os.fstat(said.fileno()).st_size:
            print(f": {last_words(said)}", end="", file=sys.stderr)


@contextlib.contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str] | None = None, keep: Sequence[int] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start a command in its own process group; kill the group at an error. Yields it and what it says.

    What it says goes to a file: a daemon would keep a pipe open.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            list(command),
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=keep,
            process_group=0,
        )
        try:
            yield process, said
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def await_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a process without looking again and again, as `Popen.wait` with a timeout does: that is imprecise."""
    descriptor = os.pidfd_open(process.pid)
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        if not waiting.poll(seconds * 1000):
            raise CommandError(f"{process.args!r}: no end after {seconds:.0f} s")
    finally:
        os.close(descriptor)


def last_words(said: IO[bytes]) -> str:
    """Return the last line that a command said."""
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "(nothing said)"


def reap(patience: float = 10.0) -> None:
    """Wait for all children, adopted ones too; kill what is still there after `patience` seconds."""
    deadline = time.monotonic() + patience
    with contextlib.suppress(ChildProcessError):
        while True:
            process, _ = os.waitpid(-1, os.WNOHANG)
            if process == 0 and time.monotonic() > deadline:
                for child in children():
                    os.kill(child, signal.SIGKILL)
                os.waitpid(-1, 0)
            elif process == 0:
                time.sleep(0.002)


def children() -> list[int]:
    """Return the numbers of this process's children."""
    return [int(word) for task in Path("/proc/self/task").iterdir() for word in (task / "children").read_text().split()]


def settle(patience: float = 1.0) -> None:
    """Let the machine come to rest: nothing left to write, processors free, if they become so within `patience` s."""
    os.sync()
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = busy(niced=False)
        time.sleep(0.05)
        if busy(niced=False) - before <= 0.01:
            return


def busy(*, niced: bool = True) -> float:
    """Return the seconds that all processors together have not been idle, with or without what gives way to others."""
    user, nice, system, _idle, _waiting, *interrupts = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    return sum(map(int, (user, nice if niced else 0, system, *interrupts))) / os.sysconf("SC_CLK_TCK")
