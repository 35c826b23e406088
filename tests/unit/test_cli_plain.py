"""The plain reader of a verb's words: it agrees with argparse, or leaves the words to it."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzlefs.cli import declare, parser_for
from puzzlefs.cli.plain import NotPlain, PlainParser

PLAIN = ["mount", "umount", "extract", "verify", "tags", "enable-fs-verity"]
WORDS = [
    *("-d", "--digest", "ab", "-f", "--foreground", "-i", "-o", "ro,dev", "--allow-other", "--verify", "once", "twice"),
    *("--verify=never", "--verify=", "--cache-size", "12", "x", "--cache-size=7", "-oro", "-ab", "-", "--", "", "-h"),
    *("--lazy", "--laz", "--json", "--jobs", "-w", "--debug", "DIR:TAG", "DIR", "a b", "-f=1", "--foreground=1"),
]


def plain(verb: str, words: list[str]) -> dict[str, object] | None:
    """Return what the plain reader makes of a verb's words, None where it leaves them."""
    parser = PlainParser()
    try:
        declare(verb, parser)
        return vars(parser.parse(words))
    except NotPlain:
        return None


@pytest.mark.parametrize("verb", PLAIN)
@given(st.lists(st.sampled_from(WORDS), max_size=7))
def test_what_is_plain_means_what_argparse_says(verb: str, words: list[str]) -> None:
    """Values, names and defaults are the same for every verb."""
    values = plain(verb, words)
    if values is not None:
        with contextlib.redirect_stderr(io.StringIO()):
            assert values == vars(parser_for(verb).parse_args(words))


def test_usual_words_are_plain() -> None:
    """None of these needs argparse."""
    mount = ["-f", "-o", "dev", "--verify", "once", "--cache-size=5", "D:t", "/m", "-o", "suid"]
    values = plain("mount", mount)
    assert values is not None
    assert (values["options"], values["cache_size"], values["mountpoint"]) == (["dev", "suid"], 5, "/m")
    assert plain("umount", ["/m"]) is not None


@pytest.mark.parametrize("words", [["--help"], ["a"], ["a", "b", "c"], ["a", "b", "--digest"], ["a", "b", "-ofoo"]])
def test_mistakes_and_help_are_left_to_argparse(words: list[str]) -> None:
    """It has the words for them."""
    assert plain("mount", words) is None


@pytest.mark.parametrize("verb", ["build", "inspect", "ls", "cat"])
def test_a_verb_that_declares_more_is_left_to_argparse(verb: str) -> None:
    """Groups and lists of words are not plain."""
    assert plain(verb, ["a"]) is None
    assert plain(verb, ["a", "b"]) is None
