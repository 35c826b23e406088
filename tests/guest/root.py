"""What the guest's root has: this very Python, the package with what it imports, kernel modules, the checks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tests.guest.archive import Archive

HOME = Path(__file__).resolve().parents[2]
MODULES = ("virtio_pci", "virtio_blk", "fuse")
PACKAGES = Path("/packages")
_NOT_NEEDED = ("site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "numpy")
_IMPORTED = """
import sys, puzzlefs.cli, puzzlefs.daemon, puzzlefs.fuse, puzzlefs._fallback
print(*(module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)), sep="\\n")
"""


def write_root(output: Path, modules: Path) -> None:
    """Write the initramfs; `modules` is a kernel's /lib/modules/VERSION."""
    python = Path(sys.executable).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    config = [entry.name for entry in stdlib.glob("config-*")]
    with open(output, "wb") as file:
        archive = Archive(file)
        archive.tree(python, python)
        archive.tree(stdlib, stdlib, (*_NOT_NEEDED, *config))
        archive.tree(HOME / "python", PACKAGES)
        archive.tree(HOME / "tests" / "guest", PACKAGES / "tests" / "guest")
        binaries = [python, *(stdlib / "lib-dynload").glob("*.so"), *(HOME / "python").rglob("*.so")]
        for package in _imported_packages():
            archive.tree(package, PACKAGES / package.name, _NOT_NEEDED)
            binaries += package.rglob("*.so")
        for library in _libraries(binaries):
            archive.tree(library, library)
        for number, module in enumerate(_module_order(modules)):
            archive.tree(module, Path(f"/modules/{number:02}-{module.name}"))
        archive.file(Path("/init"), _init(python))
        archive.close()


def _init(python: Path) -> bytes:
    return f"#!{python}\nimport sys\nsys.path.insert(0, '{PACKAGES}')\nimport tests.guest.init\n".encode()


def _imported_packages() -> list[Path]:
    """Return the installed packages, or single modules, that the package imports."""
    installed = Path(sysconfig.get_path("purelib"))
    environment = {**os.environ, "PYTHONPATH": str(HOME / "python")}
    listing = subprocess.run([sys.executable, "-c", _IMPORTED], env=environment, capture_output=True, check=True)
    found = {
        installed / Path(line).relative_to(installed).parts[0]
        for line in listing.stdout.decode().splitlines()
        if line.startswith(f"{installed}/")
    }
    return sorted(package for package in found if package.name != "numpy")


def _libraries(binaries: list[Path]) -> list[Path]:
    """Return the shared libraries that programs need, where the loader looks for them."""
    listing = subprocess.run(["ldd", *binaries], capture_output=True, check=True).stdout.decode()
    return sorted({Path(path) for path in re.findall(r"(/\S+) \(0x", listing)})


def _module_order(modules: Path) -> list[Path]:
    """Return the files of the wanted kernel modules, each after those that it depends on."""
    files = {path.stem.replace("-", "_"): path for path in (modules / "kernel").rglob("*.ko")}
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        # What is no file is compiled into the kernel.
        if name in order or name not in files:
            return
        for needed in _needed(files[name]):
            visit(needed)
        order[name] = None

    for name in MODULES:
        visit(name)
    return [files[name] for name in order]


def _needed(module: Path) -> Iterator[str]:
    for found in re.findall(rb"\0depends=([^\0]*)\0", module.read_bytes()):
        yield from (name.replace("-", "_") for name in found.decode().split(",") if name)
