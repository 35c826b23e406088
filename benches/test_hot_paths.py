"""Every function and class that crosses to a backend, measured on both.

`extra_info["bytes"]` or `["items"]` is what one call goes through, so that a rate can be told.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from puzzlefs import constants
from puzzlefs._native import Backend
from puzzlefs.records import BLOB, CHUNK, ENTRY, INODE, VERITY, Kind
from puzzlefs.rows import Vector

Tables = tuple[bytes, bytes, Vector]
Tree = tuple[bytes, bytes, bytes]
FILE = 2


@pytest.mark.benchmark(group="cut_lengths")
def test_cut_lengths(backend: Backend, benchmark: BenchmarkFixture, noise: bytes) -> None:
    benchmark.extra_info["bytes"] = len(noise)
    assert sum(benchmark(backend.cut_lengths, noise)) == len(noise)


@pytest.mark.benchmark(group="verity_digest")
def test_verity_digest(backend: Backend, benchmark: BenchmarkFixture, noise: bytes) -> None:
    benchmark.extra_info["bytes"] = len(noise)
    assert len(benchmark(backend.verity_digest, noise)) == 32


@pytest.mark.benchmark(group="hash_file")
def test_hash_file(backend: Backend, benchmark: BenchmarkFixture, noise: bytes, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(noise)
    benchmark.extra_info["bytes"] = len(noise)
    with open(tmp_path / "blob", "rb") as file:
        assert benchmark(backend.hash_file, file.fileno())[0] == len(noise)


@pytest.mark.benchmark(group="compress")
def test_compress(backend: Backend, benchmark: BenchmarkFixture, text: bytes) -> None:
    benchmark.extra_info["bytes"] = len(text)
    benchmark(backend.compress, text, constants.FRAME_SIZE)


@pytest.mark.benchmark(group="compress_upstream")
def test_compress_upstream(backend: Backend, benchmark: BenchmarkFixture, text: bytes) -> None:
    benchmark.extra_info["bytes"] = len(text)
    benchmark(backend.compress_upstream, text)


@pytest.mark.parametrize("frame_size", [constants.UPSTREAM_FRAME_SIZE, constants.FRAME_SIZE])
@pytest.mark.benchmark(group="decompress")
def test_decompress(backend: Backend, benchmark: BenchmarkFixture, text: bytes, frame_size: int) -> None:
    benchmark.group = f"decompress, {frame_size // constants.KIB} KiB frames"
    benchmark.extra_info["bytes"] = len(text)
    assert benchmark(backend.decompress, backend.compress(text, frame_size)) == text


@pytest.mark.benchmark(group="encode_rootfs")
def test_encode_rootfs(backend: Backend, benchmark: BenchmarkFixture, tables: Tables) -> None:
    digests, verity, vector = tables
    benchmark.extra_info["items"] = len(vector.inodes) // INODE.size
    benchmark(backend.encode_rootfs, digests, verity, [vector])


@pytest.mark.benchmark(group="decode_rootfs")
def test_decode_rootfs(backend: Backend, benchmark: BenchmarkFixture, tables: Tables) -> None:
    digests, verity, vector = tables
    benchmark.extra_info["items"] = len(vector.inodes) // INODE.size
    decoded = benchmark(backend.decode_rootfs, backend.encode_rootfs(digests, verity, [vector]))
    assert decoded[:3] == (constants.MANIFEST_VERSION, digests, verity)


@pytest.mark.benchmark(group="Index")
def test_index(backend: Backend, benchmark: BenchmarkFixture, tables: Tables) -> None:
    digests, verity, vector = tables
    items = benchmark.extra_info["items"] = len(vector.inodes) // INODE.size
    assert benchmark(backend.Index, backend.encode_rootfs(digests, verity, [vector])).inode_count == items


@pytest.mark.parametrize("compression", [0, 2], ids=["raw", "compressed"])
@pytest.mark.benchmark(group="StreamWriter.run")
def test_stream_writer(
    backend: Backend, benchmark: BenchmarkFixture, tree: Tree, tmp_path: Path, compression: int
) -> None:
    benchmark.group = f"StreamWriter.run, {'compressed' if compression else 'raw'}"
    benchmark.extra_info["bytes"] = sum(
        os.stat(os.path.join(tree[0], name)).st_size for name in tree[1].split(b"\0")[:-1]
    )
    stores = itertools.count()

    def fresh() -> tuple[tuple[Path], dict[str, object]]:
        blobs = tmp_path / str(next(stores))
        (blobs / "unfinished").mkdir(parents=True)
        return (blobs,), {}

    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda blobs: store(backend, tree, blobs, compression), setup=fresh, rounds=5
    )


@pytest.mark.parametrize("compression", [0, 2], ids=["raw", "compressed"])
@pytest.mark.parametrize("order", ["sequential", "random"])
def test_read(
    backend: Backend, benchmark: BenchmarkFixture, tree: Tree, tmp_path: Path, compression: int, order: str
) -> None:
    (tmp_path / "unfinished").mkdir()
    rootfs, size = one_file(backend, store(backend, tree, tmp_path, compression))
    step = 128 * constants.KIB if order == "sequential" else 4 * constants.KIB
    offsets = list(range(0, size, step))
    if order == "random":
        random.Random(4).shuffle(offsets)
    benchmark.group = f"Reader.read, {order}, {'compressed' if compression else 'raw'}"
    benchmark.extra_info["bytes"] = size
    index = backend.Index(rootfs)

    def read_all() -> int:
        reader = backend.Reader(index, os.fsencode(tmp_path), 1, 64 * constants.MIB)
        return sum(len(reader.read(FILE, offset, step)) for offset in offsets)

    assert benchmark(read_all) == size


def store(backend: Backend, tree: Tree, blobs: Path, compression: int) -> tuple[bytes, bytes]:
    """Store the tree's files; return the blob rows and the chunk rows of all of them."""
    root, names, rows = tree
    temporary = os.fsencode(blobs / "unfinished")
    writer = backend.StreamWriter(root, os.fsencode(blobs), temporary, compression, constants.FRAME_SIZE, 2, False)
    stored, chunks, *_ = writer.run(names, rows)
    return stored, chunks


def one_file(backend: Backend, stored: tuple[bytes, bytes]) -> tuple[bytes, int]:
    """Return the rootfs blob of an image whose only file has all those chunks, and the file's size."""
    blobs, chunks = stored
    rows = [BLOB.unpack_from(blobs, at)[:2] for at in range(0, len(blobs), BLOB.size)]
    size = sum(length for _, _, _, length in CHUNK.iter_unpack(chunks))
    count = len(chunks) // CHUNK.size
    inodes = [(1, Kind.DIR, 0, 1), (FILE, Kind.FILE, 0, count)]
    packed = b"".join(
        INODE.pack(number, kind, 0o755, 0, 0, 0, 0, first, size, 0, 0, 0, 0, 0, 0)
        for number, kind, first, size in inodes
    )
    vector = Vector(packed, ENTRY.pack(FILE, 0, 4, 0), chunks, b"", b"file")
    verity = b"".join(VERITY.pack(*row) for row in sorted(rows))
    return backend.encode_rootfs(b"".join(digest for digest, _ in rows), verity, [vector]), size
