"""A Debian system in successive states, and two images upon one base: made by mmdebstrap, apt and pip.

Each state is a copy of the one before it, changed by a script as an administrator would change it. A state
is a whole tree under build/packs/trees/NAME, made once. Versions of packages are those that the mirror has.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benches.trees import copy_tree, made

MIRROR = "http://deb.debian.org"
BASE_PACKAGES = "ca-certificates,curl,openssl,perl,python3,python3-distutils,vim-tiny"
APPLICATION = ("asgiref==3.7.2", "sqlparse==0.4.4", "typing_extensions==4.7.1", "urllib3==1.26.15", "idna==3.4")
OLDER = ("Django==4.1.13", "requests==2.28.2", "certifi==2023.5.7", "charset-normalizer==3.0.1", *APPLICATION)
NEWER = ("Django==4.2.16", "requests==2.31.0", "certifi==2024.7.4", "charset-normalizer==3.1.0", *APPLICATION)
SERVICE = "#!/bin/sh\nexit 101\n"  # no daemon is started by its package


class State(NamedTuple):
    """A tree, made from another one.

    after   the name of the tree that it is a copy of
    script  what is run in it; packages can be installed
    wheels  what pip puts into its /opt/application before that
    """

    name: str
    title: str
    after: str
    script: str = ""
    wheels: tuple[str, ...] = ()


def sources(release: str, *, security: bool) -> str:
    """Return the command that makes a release, with or without security updates, the source of packages."""
    lines = [f"deb {MIRROR}/debian {release} main"]
    if security:
        lines.append(f"deb {MIRROR}/debian-security {release}-security main")
    text = "\\n".join(lines)
    return f"printf '{text}\\n' > /etc/apt/sources.list && apt-get -qq update"


UPGRADE = 'apt-get -qq -o Dpkg::Options::="--force-confnew" -y'
COMPILE = "find /opt/application -name __pycache__ -prune -exec rm -r {} + ; python3 -m compileall -q /opt/application"
SERIES = (
    State("release", "Debian 11.11 with Python, Perl, curl", ""),
    State(
        "security",
        "two years of security updates",
        "release",
        f"{sources('bullseye', security=True)}\n{UPGRADE} upgrade",
    ),
    State(
        "packages",
        "nginx, git and SQLite added",
        "security",
        f"apt-get -qq update\n{UPGRADE} install nginx-light git sqlite3",
    ),
    State("application", "a Django application added by pip", "packages", COMPILE, OLDER),
    State("newer-application", "the application's packages updated", "application", COMPILE, NEWER),
    State(
        "compiler",
        "a C compiler added",
        "newer-application",
        f"apt-get -qq update\n{UPGRADE} install gcc libc6-dev make",
    ),
    State(
        "configuration",
        "settings and accounts changed",
        "compiler",
        "useradd -m operator-2\nsed -i s/www-data/operator-2/ /etc/nginx/nginx.conf\necho 10.0.0.1 host >> /etc/hosts",
    ),
    State(
        "removed", "compiler and git removed", "configuration", f"{UPGRADE} purge --autoremove gcc libc6-dev make git"
    ),
    State(
        "next-release",
        "upgrade to Debian 12",
        "removed",
        f"{sources('bookworm', security=False)}\n{UPGRADE} full-upgrade",
    ),
    State(
        "next-security",
        "security updates of Debian 12",
        "next-release",
        f"{sources('bookworm', security=True)}\n{UPGRADE} upgrade",
    ),
)
BRANCHES = (
    State("web", "nginx and PHP", "security", f"apt-get -qq update\n{UPGRADE} install nginx-light php-fpm"),
    State("database", "PostgreSQL", "security", f"apt-get -qq update\n{UPGRADE} install postgresql"),
)
BY_NAME = {state.name: state for state in (*SERIES, *BRANCHES)}


def tree(trees: Path, name: str) -> Path:
    """Return the tree of a state; make it, and those before it, where it is missing."""
    state = BY_NAME[name]
    if (trees / name).exists():
        return trees / name
    return made(trees / name, partial(make, state, tree(trees, state.after) if state.after else None))


def make(state: State, before: Path | None, path: Path) -> None:
    """Make a state's tree at `path`."""
    if before is None:
        include = f"--include={BASE_PACKAGES}"
        run("mmdebstrap", "--quiet", "--variant=minbase", include, "bullseye", path, f"{MIRROR}/debian")
    else:
        copy_tree(before, path)
    if state.wheels:
        install(state.wheels, path / "opt/application")
    if state.script:
        change(path, state.script)
    clean(path)


def install(wheels: tuple[str, ...], directory: Path) -> None:
    """Put Python packages into a directory that had others before."""
    shutil.rmtree(directory, ignore_errors=True)
    choice = ["--no-deps", "--only-binary=:all:", "--python-version=3.9", "--no-compile"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--root-user-action=ignore"]
    run(*pip, *choice, f"--target={directory}", *wheels)


def change(path: Path, script: str) -> None:
    """Run a script in a tree that has the system's devices, processes and resolver."""
    resolver, policy = path / "etc/resolv.conf", path / "usr/sbin/policy-rc.d"
    shutil.copyfile("/etc/resolv.conf", resolver)
    policy.write_text(SERVICE)
    policy.chmod(0o755)
    mounts = 'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; exec chroot "$0" sh -e -c "$1"'
    try:
        run("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C",
            "unshare", "--mount", "--pid", "--fork", "sh", "-e", "-c", mounts, path, script)  # fmt: skip
    finally:
        policy.unlink()
        resolver.unlink()


def clean(path: Path) -> None:
    """Remove what package management can fetch again, and what it wrote down about the run."""
    for name in ("var/lib/apt/lists", "var/cache/apt", "var/log/apt"):
        shutil.rmtree(path / name, ignore_errors=True)
        (path / name).mkdir(parents=True)


def run(*command: str | Path) -> None:
    """Run a command; what it prints is shown only if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout[-4000:])
        raise subprocess.CalledProcessError(done.returncode, [str(word) for word in command])
