"""The guest's first process: makes a system of it, runs every check, says what came of each, ends the machine.

A result is one line of JSON on the second serial port: name, seconds, value, and `error`, a
traceback or null; the last one is called `end`. The first serial port has what the kernel says.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.guest import system

CONSOLE, RESULTS = "/dev/ttyS0", "/dev/ttyS1"


def make_system() -> None:
    """Mount the kernel's filesystems, talk to the console, load the modules."""
    for kind, place in (("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/tmp")):
        system.mount(kind, place, kind)
    console = os.open(CONSOLE, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(console, descriptor)
    for module in sorted(Path("/modules").iterdir()):
        system.load_module(module)
    # The programs that checks start find the package, too.
    os.environ["PYTHONPATH"] = sys.path[0]


def run_checks(results: int) -> None:
    """Run the functions `check_*` in the order in which they are written."""
    from tests.guest import checks

    for name, check in list(vars(checks).items()):
        if name.startswith("check_"):
            os.write(results, json.dumps(result_of(name, check)).encode() + b"\n")
    os.write(results, json.dumps(result_of("end", time.monotonic)).encode() + b"\n")


def result_of(name: str, check: Callable[[], object]) -> dict[str, object]:
    """Run one check."""
    started = time.monotonic()
    value = error = None
    try:
        value = check()
    except Exception:
        error = traceback.format_exc()
    return {"name": name, "seconds": round(time.monotonic() - started, 1), "value": value, "error": error}


try:
    make_system()
    run_checks(os.open(RESULTS, os.O_WRONLY))
except Exception:
    traceback.print_exc()
finally:
    system.restart()
