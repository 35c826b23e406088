"""Verifying crafted images: every kind of damage is told, all of it at once."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from puzzlefs import constants, verify
from puzzlefs._native import Backend, load
from puzzlefs.errors import UsageError
from puzzlefs.image import Image
from puzzlefs.records import COMPRESSED, Kind
from puzzlefs.tables import Inode
from puzzlefs.verify import Finding
from tests.conftest import GoldenImage
from tests.images import Crafted, craft, directory, file_of
from tests.mounts import layout_of

ONE, TWO = b"one" * 1000, b"two" * 1000
PACKED = load("python").compress(b"packed" * 10_000, constants.FRAME_SIZE)


@pytest.fixture(autouse=True)
def _backend(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with each backend."""
    monkeypatch.setattr(verify, "native", backend)


def blob_of(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


def place_of(crafted: Crafted, content: bytes) -> Path:
    return crafted.blobs / sha256(content).hexdigest()


def chunk(ino: int, blob: bytes, offset: int, length: int, flags: int = 0) -> Inode:
    return Inode(ino, Kind.FILE, chunks=((sha256(blob).digest(), flags, offset, length),))


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    """Two raw blobs and a compressed one."""
    inodes = [
        directory(1, (b"1", 2), (b"2", 3), (b"p", 4)),
        file_of(2, ONE),
        file_of(3, TWO),
        chunk(4, PACKED, 60_000 - 10, 10, COMPRESSED),
    ]
    return craft(tmp_path / "oci", inodes, [ONE, TWO, PACKED])


def problems_of(crafted: Crafted) -> list[Finding]:
    return Image.open(crafted.name).verify().problems


def test_whole_image(crafted: Crafted) -> None:
    """Manifest, config, rootfs and three blobs; three chunks; nothing to say."""
    report = Image.open(crafted.name).verify()
    assert (report.ok, report.problems, report.warnings) == (True, [], [])
    assert (report.blobs, report.chunks) == (6, 3)
    assert report.bytes == sum(path.stat().st_size for path in crafted.blobs.iterdir())


def test_every_problem_is_collected(crafted: Crafted) -> None:
    place_of(crafted, ONE).write_bytes(ONE[:-1] + b"!")
    place_of(crafted, TWO).unlink()
    place_of(crafted, PACKED).write_bytes(PACKED[:-1])
    assert set(problems_of(crafted)) == {
        (blob_of(ONE), "content does not match the digest"),
        (blob_of(TWO), "not in the store"),
        (blob_of(PACKED), f"{len(PACKED) - 1} bytes, not {len(PACKED)}"),
        (blob_of(PACKED), "content does not match the digest"),
    }


def test_blob_that_is_no_file(crafted: Crafted) -> None:
    place_of(crafted, ONE).unlink()
    place_of(crafted, ONE).mkdir()
    assert problems_of(crafted) == [(blob_of(ONE), "not a regular file")]


def test_damaged_rootfs_is_told_and_blobs_are_checked_on(crafted: Crafted) -> None:
    place = place_of(crafted, crafted.rootfs)
    place.write_bytes(crafted.rootfs[:-1] + b"!")
    place_of(crafted, ONE).unlink()
    found = problems_of(crafted)
    assert (blob_of(ONE), "not in the store") in found
    assert ("rootfs", "content does not match the digest") in found


def test_changed_manifest_and_config(crafted: Crafted) -> None:
    """Whatever changes after the image was opened is read again."""
    image = Image.open(crafted.name)
    place_of(crafted, image.content).write_bytes(image.content + b" ")
    place_of(crafted, b"{}").write_bytes(b"[]")
    assert image.verify().problems == [
        ("config", "content does not match the digest"),
        ("manifest", f"{len(image.content) + 1} bytes, not {len(image.content)}"),
        ("manifest", "content does not match the digest"),
    ]


def test_pinned_digest(crafted: Crafted) -> None:
    image = Image.open(crafted.name)
    assert verify.verify(image, image.verity).ok
    assert verify.verify(image, image.verity.upper()).ok
    assert verify.verify(image, "00" * 32).problems == [("manifest", f"its fs-verity digest is not {'00' * 32}")]
    with pytest.raises(UsageError):
        verify.verify(image, "00")


def test_chunk_beyond_its_blob(tmp_path: Path) -> None:
    inodes = [directory(1, (b"f", 2)), chunk(2, ONE, 1, len(ONE))]
    assert problems_of(craft(tmp_path / "oci", inodes, [ONE])) == [(blob_of(ONE), "shorter than its chunk")]


def test_chunk_beyond_its_compressed_blob(tmp_path: Path) -> None:
    inodes = [directory(1, (b"f", 2)), chunk(2, PACKED, 59_999, 2, COMPRESSED)]
    assert problems_of(craft(tmp_path / "oci", inodes, [PACKED])) == [(blob_of(PACKED), "shorter than its chunk")]


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (ONE, "seek table missing"),
        (PACKED[:20] + bytes(4) + PACKED[24:], "frame damaged"),
        (b"short", "seek table missing"),
    ],
)
def test_blob_that_does_not_decode(tmp_path: Path, blob: bytes, reason: str) -> None:
    """Its digests are right; only a look inside tells."""
    inodes = [directory(1, (b"f", 2)), chunk(2, blob, 0, 1, COMPRESSED)]
    assert problems_of(craft(tmp_path / "oci", inodes, [blob])) == [(blob_of(blob), reason)]


def test_no_more_of_a_blob_is_decoded_than_the_tree_takes(tmp_path: Path, backend: Backend) -> None:
    """Frames beyond that may be as large, as many and as bad as they like."""
    good, bad = backend.compress(b"good" * 100, constants.FRAME_SIZE), b"no frame"
    frame, entry, magic = good[:-25], good[-17:-9], good[-4:]
    entries = entry + (len(bad).to_bytes(4, "little") + constants.FRAME_SIZE_LIMIT.to_bytes(4, "little")) * 100
    header = (0x184D2A5E).to_bytes(4, "little") + (len(entries) + 9).to_bytes(4, "little")
    blob = frame + bad * 100 + header + entries + (101).to_bytes(4, "little") + b"\0" + magic
    for length, problems in ((400, []), (401, [(blob_of(blob), "frame damaged")])):
        inodes = [directory(1, (b"f", 2)), chunk(2, blob, 0, length, COMPRESSED)]
        assert problems_of(craft(tmp_path / str(length), inodes, [blob])) == problems


def test_blob_of_more_than_memory_is_decoded_by_frames(tmp_path: Path, backend: Backend) -> None:
    """The size of a blob, compressed or not, is no reason to refuse it."""
    packed = backend.compress(bytes(80 * constants.MIB), constants.FRAME_SIZE_LIMIT)
    inodes = [directory(1, (b"f", 2)), chunk(2, packed, 0, 80 * constants.MIB, COMPRESSED)]
    assert problems_of(craft(tmp_path / "oci", inodes, [packed])) == []


def test_wrong_verity_entry(tmp_path: Path) -> None:
    crafted = craft(tmp_path / "oci", [directory(1, (b"f", 2)), file_of(2, ONE)], [ONE], lambda _: b"v" * 32)
    assert problems_of(crafted) == [(blob_of(ONE), "verity entry is not of the stored bytes")]


@pytest.mark.parametrize("packed", [True, False])
def test_wrong_verity_entry_of_a_layer_called_compressed(tmp_path: Path, packed: bool) -> None:
    """Only where the chunk was kept as it was may the entry be the original's peculiar one."""
    blob = PACKED if packed else ONE
    inodes = [directory(1, (b"f", 2)), chunk(2, blob, 0, 1, COMPRESSED if packed else 0)]
    crafted = craft(tmp_path / "oci", inodes, [blob], lambda _: b"v" * 32, constants.FILEDATA_ZSTD)
    report = Image.open(crafted.name).verify()
    found, none = (report.problems, report.warnings) if packed else (report.warnings, report.problems)
    assert (found, none) == ([(blob_of(blob), "verity entry is not of the stored bytes")], [])


def test_images_of_the_original(golden: dict[str, GoldenImage]) -> None:
    """They are whole; what the original does otherwise is a warning."""
    reports = {name: Image.open(layout_of(image)).verify() for name, image in golden.items()}
    assert {name: report.problems for name, report in reports.items()} == {key: [] for key in golden}
    texts = {name: {warning.text for warning in report.warnings} for name, report in reports.items()}
    assert texts.pop("vi-delta:delta") == {"not a layer of the manifest: a copy of the image would lack it"}
    for name, found in texts.items():
        assert found == ({"verity entry is not of the stored bytes"} if name.startswith("vic-") else set()), name
