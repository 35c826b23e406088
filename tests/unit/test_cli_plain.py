"""The plain reader of a verb's words: it agrees with argparse, or leaves the words to it."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzlefs.builder import Profile
from puzzlefs.cli import build, declare, parser_for
from puzzlefs.cli.plain import NotPlain, PlainParser
from puzzlefs.durability import Durability
from puzzlefs.order import Order

PLAIN = ["build", "mount", "umount", "extract", "verify", "tags", "enable-fs-verity", "inspect", "ls"]
WORDS = [
    *("-d", "--digest", "ab", "-f", "--foreground", "-i", "-o", "ro,dev", "--allow-other", "--verify", "once", "twice"),
    *("--verify=never", "--verify=", "--cache-size", "12", "x", "--cache-size=7", "-oro", "-ab", "-", "--", "", "-h"),
    *("-c", "--no-cache", "--cache-dir", "--order", "path", "--no-xattrs", "--xattr", "--exclude", "*.pyc"),
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
    values = plain("build", ["-c", "--exclude", "a", "DIR", "D:t", "--exclude=b", "--env", "K=V"])
    assert values is not None
    assert (values["rootfs"], values["image"], values["exclude"]) == ("DIR", "D:t", ["a", "b"])


@pytest.mark.parametrize("words", [["a", "-c", "b"], ["--no-cache", "--cache-dir", "d", "a", "b"], ["a", "b", "c"]])
def test_what_belongs_elsewhere_or_excludes_another_is_left_to_argparse(words: list[str]) -> None:
    """It knows which words go together."""
    assert plain("build", words) is None


def test_the_words_of_choices_are_all_there_are() -> None:
    """They are written out where loading what they choose takes long."""
    assert [*Profile] == [*build.PROFILES]
    assert [*Durability] == [*build.DURABILITIES]
    assert [*Order] == [*build.ORDERS]


@pytest.mark.parametrize("words", [["--help"], ["a"], ["a", "b", "c"], ["a", "b", "--digest"], ["a", "b", "-ofoo"]])
def test_mistakes_and_help_are_left_to_argparse(words: list[str]) -> None:
    """It has the words for them."""
    assert plain("mount", words) is None


def test_a_verb_that_declares_more_is_left_to_argparse() -> None:
    """Lists of words are not plain."""
    assert plain("cat", ["a"]) is None
    assert plain("cat", ["a", "b"]) is None
