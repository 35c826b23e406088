"""What is shipped: one version, light imports, and a wheel that works without Rust."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import puzzlefs
from tests.conftest import Backends
from tests.images import craft, directory, file_of

ROOT = Path(__file__).resolve().parents[2]


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with some variables of the environment replaced."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PUZZLEFS_", "PYTHON"))}
    return subprocess.run(
        [sys.executable, *words], env=variables | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel without Rust, fresh from this tree."""
    pytest.importorskip("hatchling", reason="hatchling builds the pure wheel")
    directory = tmp_path_factory.mktemp("wheel")
    done = python(str(ROOT / "tools/pure_wheel.py"), str(directory))
    assert done.returncode == 0, done.stderr
    (wheel,) = directory.iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(pure_wheel: Path) -> Path:
    """A directory with the contents of the pure wheel, for PYTHONPATH."""
    directory = pure_wheel.with_suffix("")
    with zipfile.ZipFile(pure_wheel) as archive:
        archive.extractall(directory)
    return directory


def test_the_version_has_one_source() -> None:
    """Cargo's workspace and the package state the same version."""
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert puzzlefs.__version__ == cargo["workspace"]["package"]["version"]


@pytest.mark.parametrize("name", puzzlefs.__all__)
def test_every_export_exists(name: str) -> None:
    """What `__all__` promises can be had."""
    assert getattr(puzzlefs, name) is not None


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    """The lazy loader leaves other names alone."""
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = puzzlefs.nothing


# What makes a start slow, and what no command needs before its work.
HEAVY = {
    *("concurrent.futures", "ctypes", "dataclasses", "hashlib", "inspect", "logging", "pathlib", "platform"),
    *("random", "rich", "shutil", "subprocess", "tempfile", "threading", "numpy", "trio", "typing"),
}
LOADED = """
import sys, puzzlefs.cli
sys.stdout = open("/dev/null", "w")
code = puzzlefs.cli.main(sys.argv[1:])
print(code, *sorted(sys.modules), file=sys.stderr)
"""


def loaded(*words: str) -> set[str]:
    """Run a command with the compiled backend, which must go well; return the modules that it loaded."""
    environment = {"PYTHONPATH": str(ROOT / "python"), "PUZZLEFS_BACKEND": "rust"}
    done = python("-S", "-P", "-c", LOADED, *words, **environment)
    code, *modules = done.stderr.split()
    assert code == "0", done.stderr
    return set(modules)


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_what_needs_no_verb_loads_no_parser(words: list[str], backends: Backends) -> None:
    """Start-up is part of every command."""
    assert loaded(*words) & (HEAVY | {"argparse", "json", "re"}) == set()


def test_light_commands_load_nothing_heavy(tmp_path: Path, backends: Backends) -> None:
    """Neither the standard library's heavy modules nor others that a command has no use for."""
    image = craft(tmp_path / "oci", [directory(1, (b"f", 2)), file_of(2, b"content")], [b"content"]).name
    assert loaded("ls", image) & HEAVY == set()
    assert loaded("cat", image, "f") & HEAVY == set()
    assert loaded("tags", str(tmp_path / "oci")) & HEAVY == set()
    assert loaded("extract", image, str(tmp_path / "out")) & HEAVY == set()
    assert loaded("inspect", image) & (HEAVY - {"typing"}) == set()


def test_a_build_loads_nothing_that_it_does_not_use(tmp_path: Path, backends: Backends) -> None:
    """The first one and the next, which start-up takes a good part of; a thread hears interrupts."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"content")
    words = ["build", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "tree"), f"{tmp_path}/oci:t"]
    unused = HEAVY - {"threading", "typing"} | {
        "datetime",
        "shlex",
        "urllib.parse",
        "puzzlefs.image",
        "puzzlefs.tables",
    }
    for _ in range(2):
        assert loaded(*words) & unused == set()


def test_a_build_of_what_has_not_changed_loads_little(tmp_path: Path, backends: Backends) -> None:
    """Neither what builds nor what reads words and documents."""
    tree, image = tmp_path / "tree", f"{tmp_path}/oci:t"
    (tree / "d").mkdir(parents=True)
    program = f"""
import sys, puzzlefs.build_cache, puzzlefs.recall, puzzlefs.cli
puzzlefs.build_cache.horizon = lambda: 1 << 62
puzzlefs.recall.Memory._tells = lambda _: True
puzzlefs.cli.main(["build", "-c", "--cache-dir", {str(tmp_path / "cache")!r}, {str(tree)!r}, {image!r}])
print(*sorted(sys.modules))
"""
    python("-S", "-P", "-c", program, PYTHONPATH=str(ROOT / "python"), PUZZLEFS_BACKEND="rust")
    done = python("-S", "-P", "-c", program, PYTHONPATH=str(ROOT / "python"), PUZZLEFS_BACKEND="rust")
    modules = set(done.stdout.split())
    unused = {"argparse", "collections", "contextlib", "enum", "functools", "json", "re", "struct"}
    assert modules & (HEAVY | unused) == set(), done.stderr
    assert "puzzlefs.builder" not in modules


def test_a_mount_loads_what_serves_it(tmp_path: Path, backends: Backends) -> None:
    """No parser of words or documents, and of this package no module that writes images or knows of overlays."""
    image = craft(tmp_path / "oci", [directory(1)], []).name
    program = f"""
import os, sys, puzzlefs.cli, puzzlefs.mount, puzzlefs.daemon
puzzlefs.mount._await = lambda reading: print(*sorted(sys.modules))
os.fork = lambda: 1
os._exit = lambda code: sys.exit(code)
puzzlefs.cli.main(["mount", {image!r}, {str(tmp_path)!r}])
"""
    done = python("-S", "-P", "-c", program, PYTHONPATH=str(ROOT / "python"), PUZZLEFS_BACKEND="rust")
    modules = set(done.stdout.split())
    unused = {
        "argparse",
        "collections",
        "contextlib",
        "enum",
        "fcntl",
        "functools",
        "importlib",
        "json",
        "re",
        "struct",
    }
    assert modules & (HEAVY | unused) == set(), done.stderr
    ours = {name.removeprefix("puzzlefs.") for name in modules if name.startswith("puzzlefs.")}
    assert ours == {
        *("_native", "_rust", "background", "cli", "cli.mount", "cli.plain", "constants", "daemon", "errors", "image"),
        *("kernel_mount", "mount", "mountinfo", "names", "notice", "oci", "server", "store", "value"),
    }


def test_an_unmount_loads_little(backends: Backends) -> None:
    """Somebody waits for it too."""
    program = "import sys, puzzlefs.cli.umount; print(*sys.modules)"
    done = python("-S", "-P", "-c", program, PYTHONPATH=str(ROOT / "python"), PUZZLEFS_BACKEND="rust")
    assert set(done.stdout.split()) & (HEAVY | {"argparse", "json", "re"}) == set()


def test_the_pure_wheel_is_pure(pure_wheel: Path) -> None:
    """It has every Python module, nothing compiled, and the metadata that a wheel needs."""
    with zipfile.ZipFile(pure_wheel) as archive:
        names = set(archive.namelist())
        information = f"puzzlefs-{puzzlefs.__version__}.dist-info"
        wheel = archive.read(f"{information}/WHEEL").decode()
        metadata = archive.read(f"{information}/METADATA").decode()
        scripts = archive.read(f"{information}/entry_points.txt").decode()
    package = ROOT / "python/puzzlefs"
    modules = {f"puzzlefs/{path.relative_to(package)}" for path in package.rglob("*.py")}

    assert pure_wheel.name == f"puzzlefs-{puzzlefs.__version__}-py3-none-any.whl"
    assert modules | {"puzzlefs/py.typed", f"{information}/licenses/LICENSE"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyd")) or "/_rust" in name]
    assert "Root-Is-Purelib: true" in wheel
    assert "puzzlefs = puzzlefs.cli:main" in scripts
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_the_pure_wheel_runs(installed: Path) -> None:
    """Installed alone, it chooses the pure backend by itself."""
    done = python("-m", "puzzlefs", "--version", PYTHONPATH=str(installed))
    assert done.stdout == f"puzzlefs {puzzlefs.__version__} (python backend)\n", done.stderr


def test_the_pure_wheel_refuses_the_compiled_backend(installed: Path) -> None:
    """A backend that was asked for and is not there is an error, never another backend."""
    done = python("-m", "puzzlefs", "--version", PYTHONPATH=str(installed), PUZZLEFS_BACKEND="rust")
    assert done.returncode == 7
    assert "the compiled extension is not installed" in done.stderr
