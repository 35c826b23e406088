"""Every text of the specification's tables has a test that triggers it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.malformed import test_compressed, test_framing, test_pointers, test_tree, test_values
from tests.parity import test_reader

FORMAT = Path(__file__).parent.parent.parent / "docs" / "format.md"


def specified() -> set[str]:
    """Return the first cell of each row of the tables in sections 9 and 10."""
    sections = FORMAT.read_text().partition("\n## 9.")[2].partition("\n## 11.")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", sections, re.MULTILINE))


def triggered() -> set[str]:
    """Return the texts that tests expect, numbers and bits as the specification writes them."""
    rootfs = [
        case[0]
        for module in (test_framing.BROKEN, test_pointers.CASES, test_values.CASES, test_tree.CASES)
        for case in module
    ]
    rootfs += [re.sub(r"0x\w+", "0x…", text) for text, _ in test_values.UNSUPPORTED]
    texts = {re.sub(r"version \d+", "version N", f"rootfs: {text}") for text in rootfs} | {"rootfs: too large"}
    blobs = {
        re.sub(r"(?<=read: ).*", "STRERROR", text)
        for text in [*test_reader.SAID.values(), *test_reader.UNVERIFIED.values()]
    }
    return texts | blobs | set(test_compressed.BROKEN) | {test_reader.OTHER}


def test_every_rule_is_tested() -> None:
    """The tables and the tests name the same texts."""
    assert triggered() == specified()
