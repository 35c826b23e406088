"""A machine without network or devices, emulated: boots a kernel into the checks and returns their results."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.guest.root import HOME, write_root

QEMU = "qemu-system-x86_64"
# Where `tools/bootstrap.sh` unpacks Debian's kernel package.
KERNEL = HOME / "build" / "debian" / "kernel"
MEMORY_MB = 1024
_PATIENCE_SECONDS = 600


class Result(NamedTuple):
    """What came of one check: `error` is the guest's traceback, or None."""

    name: str
    seconds: float
    value: object
    error: str | None


def kernel() -> Path | None:
    """Return the kernel's file, if it is there."""
    return next(KERNEL.glob("boot/vmlinuz-*"), None)


def run_checks(directory: Path, disks: list[Path]) -> dict[str, Result]:
    """Boot, with /dev/vda and so on from `disks`, and wait until the machine is done; results by name.

    Raises `AssertionError`, with what the kernel said, where the machine broke off.
    """
    image = kernel()
    assert image is not None, "no kernel"
    initramfs, console, results = (directory / name for name in ("initramfs", "console", "results"))
    write_root(initramfs, KERNEL / "lib" / "modules" / image.name.removeprefix("vmlinuz-"))
    command = [QEMU, "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MB), "-no-reboot"]
    command += ["-nodefaults", "-display", "none", "-nic", "none"]
    command += ["-kernel", str(image), "-initrd", str(initramfs), "-append", "console=ttyS0 panic=-1 quiet"]
    for disk in disks:
        command += ["-drive", f"file={disk},if=virtio,format=raw,cache=unsafe"]
    command += ["-serial", f"file:{console}", "-serial", f"file:{results}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE_SECONDS, check=False)
        said = done.stderr.decode()
    except subprocess.TimeoutExpired:
        said = f"not done after {_PATIENCE_SECONDS} seconds"
    found = [Result(**json.loads(line)) for line in results.read_text().splitlines()] if results.exists() else []
    assert found and found[-1].name == "end", f"{said}\n{console.read_text() if console.exists() else ''}"
    return {result.name: result for result in found}
