"""One step of a layer: its imports and its script upon the base, in a process of its own (`isolation`).

The base is mounted, an overlay laid over it, and the script run (`runner`) with the overlay as its root.
What the step made in the overlay becomes the image.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from puzzlefs.builder import BuildOptions, BuildResult, build
from puzzlefs.commit import commit
from puzzlefs.errors import BuildError
from puzzlefs.image import Image
from puzzlefs.mount import mount
from puzzlefs.names import ImageName
from puzzlefs.overlay import Overlay, mount_overlay
from puzzlefs.stacker.layers import Import, import_name
from puzzlefs.stacker.runner import Script, run_script
from puzzlefs.syscalls import mount as system_mount
from puzzlefs.syscalls import unmount as system_unmount

HOME = "stacker"
"""The directory, in the image's root, of all that a step is given; it is gone when the image is made."""
_BIND, _READ_ONLY, _REMOUNT = 4096, 1, 32
_RESOLVER = "/etc/resolv.conf"


@dataclass(frozen=True, slots=True)
class Step:
    """What to do; every path is absolute.

    place    an empty directory on a filesystem that can hold an upper directory
    base     the image below, None for an empty one
    name     the image to make
    staged   the directory of the imports, by `import_name`
    script   what to run, "" for nothing
    """

    layer: str
    place: str
    base: ImageName | None
    name: ImageName
    options: BuildOptions
    staged: str
    imports: Sequence[Import]
    script: str
    environment: Mapping[str, str]


def run(step: Step) -> BuildResult:
    """Do a step in namespaces that are this process's own; return what was built.

    Raises `BuildError` where the script fails, `UnsupportedError` with nothing that can run it.
    """
    os.umask(0o022)
    try:
        return _do(step)
    finally:
        # What belongs to others here, the caller may have no right to remove.
        for name in ("upper", "work"):
            shutil.rmtree(os.path.join(step.place, name), ignore_errors=True)


def _do(step: Step) -> BuildResult:
    root = _lay(step)
    given = _in_root(root, _give)
    with _imports(step, root):
        _in_root(root, lambda: _copy_all(step.imports))
        if step.script:
            seen = f"/{HOME}/run.sh"
            run_script(Script(step.layer, step.place, root, step.script, seen, given.resolver, step.environment))
    _in_root(root, lambda: _take_back(given))
    upper = os.path.join(step.place, "upper")
    if step.base is None:
        return build(upper, step.name, step.options)
    return commit(upper, Image.open(step.base), step.name, step.options, user_marks=True)


def _lay(step: Step) -> str:
    """Mount the base and an overlay over it; return where."""
    lower, upper, work, root = (os.path.join(step.place, name) for name in ("lower", "upper", "work", "root"))
    for directory in (lower, upper, work, root):
        os.mkdir(directory, 0o755)
    if step.base is not None:
        mount(Image.open(step.base), lower, allow_other=True, options=["suid", "dev"])
        shutil.copystat(lower, upper)
        stat = os.stat(lower)
        os.chown(upper, stat.st_uid, stat.st_gid)
    mount_overlay(Overlay([lower], upper, work, root))
    return root


@contextmanager
def _imports(step: Step, root: str) -> Iterator[None]:
    """Show the imports in the root for a while."""
    place = os.path.join(root, HOME, "imports")
    system_mount(step.staged, place, "none", _BIND, b"")
    try:
        system_mount("none", place, "none", _BIND | _REMOUNT | _READ_ONLY, b"")
        yield
    finally:
        system_unmount(place)


# What is done with the overlay as the process's own root


def _in_root(root: str, call: Callable[[], Any]) -> Any:
    """Return what a call returns in a process whose root is a directory, so that no link leads out of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(root, call, writing)
    os.close(writing)
    with open(reading, "rb") as file:
        said = file.read()
    os.waitpid(child, 0)
    # It comes from a copy of this very process.
    value, error = pickle.loads(said) if said else (None, "a process was killed")  # noqa: S301
    if error is not None:
        raise BuildError(error)
    return value


def _be_child(root: str, call: Callable[[], Any], writing: int) -> NoReturn:
    try:
        os.chroot(root)
        os.chdir("/")
        answer: tuple[Any, str | None] = (call(), None)
    except OSError as error:
        answer = (None, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    with open(writing, "wb") as file:
        pickle.dump(answer, file)
    os._exit(0)


class _Given(NamedTuple):
    """What a step is given for as long as it runs.

    resolver  where the file is that says whom to ask for addresses
    paths     what was made
    times     of the directories in which it was made: before, and after
    """

    resolver: str
    paths: list[str]
    times: dict[str, tuple[int, int]]


def _give() -> _Given:
    resolver = os.path.realpath(_RESOLVER)
    directories = ["/dev", "/proc", "/sys", f"/{HOME}", f"/{HOME}/imports", *_with_parents(os.path.dirname(resolver))]
    missing = [path for path in directories if not os.path.lexists(path)]
    files = [] if os.path.lexists(resolver) else [resolver]
    parents = {os.path.dirname(path) for path in (*missing, *files)} - set(missing)
    before = {parent: os.stat(parent).st_mtime_ns for parent in parents}
    for path in missing:
        os.mkdir(path)
    for path in files:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    times = {parent: (then, os.stat(parent).st_mtime_ns) for parent, then in before.items()}
    return _Given(resolver, missing + files, times)


def _with_parents(directory: str) -> list[str]:
    """Return the path of a directory and of all above it, the outermost first."""
    parts = directory.split("/")
    return ["/".join(parts[: end + 1]) for end in range(1, len(parts))]


def _take_back(given: _Given) -> None:
    """Remove what a step was given where it is as it was, and make the directories look untouched that are."""
    untouched = [path for path, (_, after) in given.times.items() if _modified(path) == after]
    shutil.rmtree(f"/{HOME}")
    for path in reversed(given.paths):
        if path.startswith(f"/{HOME}"):
            continue
        # What the step has put something into stays.
        with suppress(OSError):
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            elif os.path.getsize(path) == 0:
                os.unlink(path)
    for path in untouched:
        os.utime(path, ns=(0, given.times[path][0]))


def _modified(path: str) -> int | None:
    """Return when a directory was modified, None where it is no more."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _copy_all(imports: Sequence[Import]) -> None:
    for item in imports:
        if item.dest is not None:
            _copy(item, item.dest)


def _copy(item: Import, dest: str) -> None:
    """Copy an import to `dest`, or into it where it is or is to be a directory."""
    name = import_name(item)
    source = f"/{HOME}/imports/{name}"
    if dest.endswith("/") or os.path.isdir(dest):
        os.makedirs(dest, exist_ok=True)
        dest = os.path.join(dest, name)
    else:
        os.makedirs(os.path.dirname(dest), exist_ok=True)
    if os.path.isdir(source):
        shutil.copytree(source, dest, symlinks=True, dirs_exist_ok=True)
        copies = [dest, *(os.path.join(at, name) for at, below, files in os.walk(dest) for name in below + files)]
    else:
        shutil.copy2(source, dest, follow_symlinks=False)
        copies = [dest]
    for path in copies:
        os.chown(path, item.uid or 0, item.gid or 0, follow_symlinks=False)
    if item.mode is not None:
        os.chmod(dest, item.mode)
