"""The manual pages, from the parsers of the command line: `man_pages.py DIRECTORY`.

Writes puzzlefs.1 and puzzlefs-VERB.1 for every verb, so that `man` says what `--help` says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from puzzlefs import __version__
from puzzlefs.cli import VERBS, parser_for

EXIT_CODES = {
    0: "success",
    1: "failure",
    2: "usage: the request makes no sense",
    3: "integrity: bytes are not what a digest promised",
    4: "no such store, image or file",
    5: "a registry failed",
    6: "mounting or unmounting failed",
    7: "the image, the system or this installation lacks what was asked for",
}


def escaped(text: str) -> str:
    """Return text as roff takes it literally."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def heading(name: str) -> str:
    """Return a page's first line."""
    return f'.TH "{name.upper()}" 1 "" "puzzlefs {__version__}" "PuzzleFS"'


def options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the lines that describe a parser's arguments, group by group."""
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if not actions:
            continue
        title = (group.title or "options").removeprefix("positional ")
        yield f'.SH "{escaped(title).upper()}"'
        for action in actions:
            value = "" if action.nargs == 0 else parser._get_formatter()._format_args(action, action.dest.upper())
            names = ", ".join(action.option_strings)
            term = f"\\fB{escaped(names)}\\fR {escaped(value)}".strip() if names else f"\\fI{escaped(value)}\\fR"
            yield f".TP\n{term}\n{escaped((action.help or '') % vars(action))}"


def verb_page(verb: str) -> str:
    """Return the page of one verb."""
    parser = parser_for(verb)
    usage = parser.format_usage().removeprefix("usage: ").removeprefix(parser.prog)
    lines = [
        heading(f"puzzlefs-{verb}"),
        f".SH NAME\npuzzlefs\\-{escaped(verb)} \\- {escaped(VERBS[verb][1])}",
        f".SH SYNOPSIS\n\\fBpuzzlefs {escaped(verb)}\\fR {escaped(usage)}",
        f".SH DESCRIPTION\n{escaped(parser.description or '')}",
        *options_of(parser),
        ".SH SEE ALSO\n.BR puzzlefs (1)",
    ]
    return "\n".join(lines) + "\n"


def main_page() -> str:
    """Return the page of the program as a whole."""
    lines = [heading("puzzlefs"), ".SH NAME\npuzzlefs \\- build, mount and unpack PuzzleFS images"]
    lines += [".SH SYNOPSIS\n\\fBpuzzlefs\\fR \\fICOMMAND\\fR ...", ".SH COMMANDS"]
    lines += [f".TP\n.BR puzzlefs\\-{escaped(verb)} (1)\n{escaped(summary)}" for verb, (_, summary) in VERBS.items()]
    lines += [".SH EXIT STATUS", *(f".TP\n{code}\n{escaped(meaning)}" for code, meaning in EXIT_CODES.items())]
    return "\n".join(lines) + "\n"


def main(directory: str) -> None:
    """Write all pages."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    (target / "puzzlefs.1").write_text(main_page())
    for verb in VERBS:
        (target / f"puzzlefs-{verb}.1").write_text(verb_page(verb))


if __name__ == "__main__":
    main(sys.argv[1])
