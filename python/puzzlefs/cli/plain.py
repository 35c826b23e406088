"""Reading a verb's words without argparse, which takes longer to load than an image to mount.

A verb declares its arguments once, by `add_argument`, and either parser takes the declarations. This
one reads what is plain; whatever is not (help, joined words, mistakes) it leaves to argparse.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class NotPlain(Exception):
    """Only argparse can read these words, or say what is wrong with them."""


class Options:
    """A verb's values by name, as attributes."""

    def __init__(self, values: dict[str, Any]) -> None:
        vars(self).update(values)


class PlainParser:
    """Reads words that argparse would read likewise."""

    def __init__(self) -> None:
        self._positionals: list[_Argument] = []
        self._options: dict[str, _Argument] = {}
        self._defaults: dict[str, Any] = {}
        self._exclusive: list[set[str]] = []

    def add_argument(self, *names: str, **declaration: Any) -> None:
        """Declare an argument as argparse takes it. Raises `NotPlain` for what only argparse offers."""
        argument = _Argument(names, **declaration)
        if names[0].startswith("-"):
            self._options |= dict.fromkeys(names, argument)
        else:
            self._positionals.append(argument)

    def set_defaults(self, **values: Any) -> None:
        """Add values that no word gives."""
        self._defaults |= values

    def add_argument_group(self, *_: str) -> PlainParser:
        """Return where the arguments of a group are declared, which matters to help alone."""
        return self

    def add_mutually_exclusive_group(self) -> _Exclusive:
        """Return where to declare options of which one may be given."""
        group = _Exclusive(self)
        self._exclusive.append(group.options)
        return group

    def parse(self, words: Sequence[str]) -> Options:
        """Return the values by name. Raises `NotPlain`."""
        values = {argument.name: argument.default for argument in (*self._positionals, *self._options.values())}
        values |= self._defaults
        given: list[str] = []
        places: list[int] = []
        named = set()
        rest = iter(words)
        for place, word in enumerate(rest):
            if not word.startswith("-"):
                given.append(word)
                places.append(place)
                continue
            name, joined, text = word.partition("=") if word.startswith("--") else (word, "", "")
            argument = self._options.get(name)
            if argument is None or (joined and (argument.is_flag or not text)):
                raise NotPlain
            if not argument.is_flag and not joined:
                text = next(rest, "-")
                if text.startswith("-"):
                    raise NotPlain
            named.add(name)
            values[argument.name] = argument.read(text, values[argument.name])
        self._check(places, named)
        for argument, word in zip(self._positionals, given, strict=False):
            values[argument.name] = argument.read(word, None)
        return Options(values)

    def _check(self, places: list[int], named: set[str]) -> None:
        """Raise `NotPlain` for too few or too many arguments, or options that exclude each other."""
        needed = sum(not argument.is_optional for argument in self._positionals)
        if not needed <= len(places) <= len(self._positionals):
            raise NotPlain
        # Where one may be missing, those behind an option are no part of those before it.
        if needed < len(self._positionals) and places and places[-1] - places[0] >= len(places):
            raise NotPlain
        if any(len(named & options) > 1 for options in self._exclusive):
            raise NotPlain


class _Exclusive:
    """Options of which one may be given."""

    def __init__(self, parser: PlainParser) -> None:
        self._parser = parser
        self.options: set[str] = set()

    def add_argument(self, *names: str, **declaration: Any) -> None:
        """Declare an option."""
        self.options |= set(names)
        self._parser.add_argument(*names, **declaration)


class _Argument:
    """One argument: its value's name, its default, how its value is read."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        action: str = "store",
        dest: str | None = None,
        default: Any = None,
        choices: Any = None,
        nargs: str | None = None,
        **rest: Any,
    ) -> None:
        if nargs not in (None, "?") or action not in ("store", "store_true", "append"):
            raise NotPlain
        long = next((name for name in names if name.startswith("--")), names[0])
        self.name = dest or long.lstrip("-").replace("-", "_")
        self.is_flag = action == "store_true"
        self.is_optional = nargs == "?"
        self.default = False if self.is_flag else default
        self._appends = action == "append"
        self._type: Callable[[str], Any] = rest.get("type", str)
        self._choices = choices

    def read(self, text: str, before: Any) -> Any:
        """Return the value after `text` was given, where it was `before`. Raises `NotPlain`."""
        if self.is_flag:
            return True
        try:
            value = self._type(text)
        except (TypeError, ValueError) as error:
            raise NotPlain from error
        if self._choices is not None and value not in self._choices:
            raise NotPlain
        return [*(before or ()), value] if self._appends else value
