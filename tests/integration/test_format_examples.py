"""The worked examples of docs/format.md are true: read from the document itself, computed anew."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from puzzlefs._fallback.pack import PackRule
from puzzlefs._native import Index, native

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "format.md").read_text()
HEX_BLOB = re.compile(r"^\| (\d+) \| `((?:[0-9a-f]{2} ){7}[0-9a-f]{2})` \|", re.MULTILINE)


def section(title: str) -> str:
    """Return the text between a heading and the next one of its level or above."""
    start = DOCUMENT.index(f"{title}\n")
    level = title.split(" ", 1)[0]
    end = re.compile(rf"^#{{1,{len(level)}}} ", re.MULTILINE).search(DOCUMENT, start + len(title))
    return DOCUMENT[start : end.start() if end else None]


def test_verity_examples() -> None:
    """The digests of zeros, and the two worked examples, of section 2."""
    text = section("## 2. fs-verity digests")
    zeros = re.findall(r"^\| ([\d,]+)[^|]*\| `([0-9a-f]{64})` \|", text, re.MULTILINE)
    assert len(zeros) == 6
    for size, digest in zeros:
        assert native.verity_digest(bytes(int(size.replace(",", "")))).hex() == digest
    for data in (b"hello, world\n", bytes(range(256)) * 32 + b"tail"):
        assert f"`{native.verity_digest(data).hex()}`" in text


def test_chunking_examples() -> None:
    """The chunk lengths of section 3."""
    text = section("## 3. Chunking")
    rows = re.findall(r"^\| (`.*|byte \d.*) \| ([\d, ]+) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    for what, lengths in rows:
        assert native.cut_lengths(example_data(what)) == [int(length) for length in lengths.split(",")]


def example_data(what: str) -> bytes:
    count = int(re.findall(r"([\d,]+) (?:bytes|times)", what)[0].replace(",", ""))
    if label := re.match(r"`(.*)`", what):
        return hashlib.shake_256(label[1].encode()).digest(count)
    byte = re.match(r"byte (\d+)", what)
    assert byte
    return bytes([int(byte[1])]) * count


def test_the_pseudo_code_of_chunking_runs() -> None:
    """Section 3's function, taken from the document and run, cuts as the backend does."""
    code = re.findall(r"```\n(def cut.*?)```", section("## 3. Chunking"), re.DOTALL)[0]
    code = re.sub(r"fingerprint = (.*?) +modulo 2\^64", r"fingerprint = (\1) % 2**64", code)
    names = {"MINIMUM": 16_384, "AVERAGE": 65_536, "MAXIMUM": 262_144, "S": 0x0000D90703537000, "L": 0x0000D90F03530000}
    gear = [int.from_bytes(hashlib.md5(bytes([byte]) * 64).digest()[:8], "big") for byte in range(256)]
    space: dict[str, object] = {**names, "GEAR": gear}
    exec(code, space)
    cut = space["cut"]
    assert callable(cut)
    for size in (0, 1, 16_384, 16_387, 65_535, 65_537, 262_143, 262_147):
        data = hashlib.shake_256(b"%d" % size).digest(size)
        lengths, rest = [], data
        while rest:
            lengths.append(cut(rest))
            rest = rest[lengths[-1] :]
        assert lengths == native.cut_lengths(data), size


def test_compression_example() -> None:
    """The bytes of 8,192 zeros of section 4."""
    block = re.findall(r"```\n(28 b5.*?)```", section("## 4. Compressed blobs"), re.DOTALL)[0]
    written = "".join(line.split("#")[0] for line in block.splitlines())
    assert native.compress_upstream(bytes(8_192)) == bytes.fromhex(written)


def test_empty_image_example() -> None:
    """The rootfs blob of section 11, word by word, is the one its manifest names, and reads as an empty tree."""
    words = HEX_BLOB.findall(section("### An empty tree"))
    assert [int(offset) for offset, _ in words] == list(range(0, 136, 8))
    blob = bytes.fromhex("".join(word for _, word in words))
    assert f"sha256:{hashlib.sha256(blob).hexdigest()}" in section("### An empty tree")
    assert native.verity_digest(blob).hex() in section("### An empty tree")
    index: Index = native.Index(blob)
    assert index.inodes() == [1] and index.entries(1, 0, 10) == []


def test_pack_vectors() -> None:
    """Which chunks end a pack, as the table of Packs has it."""
    text = section("### Packs")
    rows = re.findall(r"\| `(pack \d+)`, 65,536 bytes \| `([0-9a-f]{16})` \| ([\d,]+) \| (yes|no) \|", text)
    assert len(rows) == 5
    rule = PackRule(1 << 20)
    for label, begin, drawn, ends in rows:
        digest = hashlib.sha256(hashlib.shake_256(label.encode()).digest(65536)).digest()
        assert digest[:8].hex() == begin
        limit = int(drawn.replace(",", ""))
        assert [rule.ends(1 << 18, digest, length) for length in (limit, limit + 1)] == [False, True]
        assert rule.ends(1 << 18, digest, 65536) == (ends == "yes")
        assert not rule.ends((1 << 18) - 1, digest, 1 << 18)
