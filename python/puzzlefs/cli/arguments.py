"""Arguments that several verbs share: times, and how to run an image."""

from __future__ import annotations

from puzzlefs.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from puzzlefs.runtime_config import RuntimeConfig


def add_mtime_argument(group: argparse._ActionsContainer) -> None:
    """Add `--mtime`, which `mtime` reads."""
    group.add_argument(
        "--mtime",
        default="auto",
        metavar="keep|clamp|none|SECONDS",
        help="modification times (default: clamp to SOURCE_DATE_EPOCH where set, else keep)",
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `runtime_config` reads, and `--annotation`."""
    group = parser.add_argument_group("how to run the image")
    group.add_argument("--annotation", action="append", default=[], metavar="K=V", help="annotation of the manifest")
    group.add_argument("--cmd", metavar="WORDS", help="default arguments of the program, as for --entrypoint")
    group.add_argument("--label", action="append", default=[], metavar="K=V", help="label of the config")
    add_runtime_arguments(group)


def add_runtime_arguments(group: argparse._ActionsContainer) -> None:
    """Add the options of `runtime_config` that matter to who runs an image, too."""
    group.add_argument("--env", action="append", default=[], metavar="K=V", help="environment variable")
    group.add_argument("--entrypoint", metavar="WORDS", help="program to run: words as in a shell, or a JSON list")
    group.add_argument("--workdir", metavar="DIR", help="working directory")
    group.add_argument("--user", metavar="USER", help="user, or user:group")


def runtime_config(options: argparse.Namespace) -> RuntimeConfig:
    """Return what the options say of running the image."""
    from puzzlefs.runtime_config import RuntimeConfig

    return RuntimeConfig(
        env=[f"{key}={value}" for key, value in pairs(options.env, "--env").items()],
        entrypoint=_words(options.entrypoint, "--entrypoint"),
        cmd=_words(options.cmd, "--cmd"),
        workdir=options.workdir,
        user=options.user,
        labels=pairs(options.label, "--label"),
    )


def mtime(text: str) -> str | int:
    """Return a rule for times (`BuildOptions.mtime`). Raises `UsageError`."""
    if text in ("auto", "keep", "clamp", "none"):
        return text
    try:
        seconds = int(text)
    except ValueError:
        raise UsageError(f"--mtime: {text!r} is not keep, clamp, none or a number of seconds") from None
    if not -(1 << 63) <= seconds < 1 << 63:
        raise UsageError(f"--mtime: {text} is out of range")
    return seconds


def pairs(items: Sequence[str], option: str) -> dict[str, str]:
    """Return KEY=VALUE items by key. Raises `UsageError`, naming the option."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"{option}: {item!r} is not KEY=VALUE")
        found[_text(key, option)] = _text(value, option)
    return found


def _text(text: str, option: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{option}: not UTF-8") from None
    return text


def _words(text: str | None, option: str) -> list[str] | None:
    if text is None:
        return None
    import json
    import shlex

    try:
        words = json.loads(text) if text.lstrip().startswith("[") else shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if not all(isinstance(word, str) for word in words):
        raise UsageError(f"{option}: not a list of strings")
    return [_text(word, option) for word in words]
