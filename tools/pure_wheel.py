"""Build the wheel without Rust: `pure_wheel.py DIRECTORY` puts puzzlefs-VERSION-py3-none-any.whl there.

The project's own build backend, maturin, always compiles. So the Python sources and a pyproject.toml
derived from the real one, with hatchling as its backend, are laid out in build/pure and built there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HATCH = """
[tool.hatch.build.targets.wheel]
packages = ["puzzlefs"]
"""


def pure_pyproject(pyproject: str, version: str) -> str:
    """Return `pyproject` with hatchling as its backend and a fixed version."""
    text, backends = re.subn(
        r"\[build-system\]\n.*?\n\n",
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n',
        pyproject,
        count=1,
        flags=re.DOTALL,
    )
    text, versions = re.subn(r"^dynamic = \[\"version\"\]$", f'version = "{version}"', text, flags=re.MULTILINE)
    if (backends, versions) != (1, 1):
        raise SystemExit("pyproject.toml: no build-system table or no dynamic version where expected")
    return text + HATCH


def lay_out(directory: Path) -> None:
    """Fill `directory` with what the pure wheel is built from."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(
        ROOT / "python/puzzlefs", directory / "puzzlefs", ignore=shutil.ignore_patterns("_rust*", "__pycache__")
    )
    pyproject = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(pyproject)["project"]
    for name in (*project["license-files"], *filter(None, [project.get("readme")])):
        shutil.copy(ROOT / name, directory)
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    (directory / "pyproject.toml").write_text(pure_pyproject(pyproject, version))


def main(wheels: str) -> None:
    """Build the wheel into the directory `wheels`."""
    directory = ROOT / "build/pure"
    lay_out(directory)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, str(directory)], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
