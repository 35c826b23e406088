"""Chunks into packs, and packs into blobs (docs/format.md, Packs and Compressed blobs)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from puzzlefs.records import COMPRESSED
from puzzlefs.rows import BlobRecord

from .codec import compress_frames, seekable, upstream_frames
from .pack import PackRule
from .plan import Plan
from .put import BlobDirectory
from .trace import OFFERED, TraceChunk
from .verity import verity_digest

NONE: Final = 0
UPSTREAM: Final = 1
FRAMES: Final = 2


class Form(NamedTuple):
    """All that decides how chunks are stored.

    compression  NONE, UPSTREAM or FRAMES
    frame_size   uncompressed bytes in a frame
    pack_size    bytes in a pack on average; 0 where every chunk is a blob
    """

    compression: int
    frame_size: int
    pack_size: int


class Offered(NamedTuple):
    """Blobs of other images, and chunks in them by their SHA-256."""

    blobs: list[BlobRecord]
    chunks: dict[bytes, TraceChunk]


class Item(NamedTuple):
    """A chunk of the stream: its SHA-256, its length, and its bytes unless they are known."""

    content: bytes
    length: int
    chunk: bytes | None


@dataclass
class _Open:
    """A pack that takes further chunks.

    number       among all packs
    size         bytes so far, `frame_bytes` of them in the open frame
    frames       the chunks of each frame, the last of which is open
    """

    number: int
    size: int = 0
    frame_bytes: int = 0
    frames: list[list[Item]] = field(default_factory=lambda: [[]])


class Packer:
    """Takes the chunks of a stream one after another.

    groups   where in the stream groups of files begin: no pack goes on there
    offered  chunks of other images' blobs, which are referred to
    chunks  the distinct ones in order of first use; `blob` is the number of the pack
    stream  for each chunk its row there
    """

    def __init__(self, form: Form, store: BlobDirectory, plan: Plan, groups: Sequence[int], offered: Offered) -> None:
        self._form, self._store, self._plan = form, store, plan
        self._rule = PackRule(form.pack_size) if form.pack_size else None
        self._groups = set(groups)
        self._offered = offered
        self._offered_packs: dict[int, int] = {}
        self._at = 0
        self._rows: dict[bytes, int] = {}
        self._open: _Open | None = None
        self._blobs: list[BlobRecord | None] = []
        self.chunks: list[TraceChunk] = []
        self.stream: list[int] = []
        self.repeated = self.written = 0

    def add(self, item: Item) -> None:
        """Take the next chunk of the stream."""
        if self._open and self._at in self._groups:
            self._close(self._open)
        self._at += item.length
        row = self._rows.setdefault(item.content, len(self.chunks))
        self.stream.append(row)
        if row < len(self.chunks):
            self.repeated += item.length
            return
        if offered := self._offered.chunks.get(item.content):
            self.chunks.append(offered._replace(blob=self._offered_pack(offered.blob)))
            return
        if self._open and self._rule and self._rule.is_full(self._open.size, item.length):
            self._close(self._open)
        opened = self._place(item)
        if self._rule is None or self._rule.ends(opened.size, item.content, item.length):
            self._close(opened)

    def end(self) -> list[BlobRecord]:
        """Close what is open; return the blobs of all packs, in order of first use."""
        if self._open:
            self._close(self._open)
        return [blob for blob in self._blobs if blob]

    def _offered_pack(self, row: int) -> int:
        """Return the number of the pack that stands for an offered blob."""
        if row not in self._offered_packs:
            self._offered_packs[row] = len(self._blobs)
            self._blobs.append(self._offered.blobs[row]._replace(reserved=OFFERED))
        return self._offered_packs[row]

    def _place(self, item: Item) -> _Open:
        """Append a new chunk to the open pack; return that."""
        if self._open is None:
            self._open = _Open(len(self._blobs))
            self._blobs.append(None)
        opened = self._open
        self.chunks.append(TraceChunk(item.content, opened.number, item.length, opened.size))
        if opened.frame_bytes and opened.frame_bytes + item.length > self._form.frame_size:
            opened.frames.append([])
            opened.frame_bytes = 0
        opened.frames[-1].append(item)
        opened.frame_bytes += item.length
        opened.size += item.length
        return opened

    def _close(self, opened: _Open) -> None:
        self._open = None
        blob = self._plan.blob_of([item.content for frame in opened.frames for item in frame])
        if blob is None:
            blob = self._put([b"".join(map(self._bytes, frame)) for frame in opened.frames])
        self._blobs[opened.number] = blob

    def _bytes(self, item: Item) -> bytes:
        return self._plan.read(item.content) if item.chunk is None else item.chunk

    def _put(self, parts: Sequence[bytes]) -> BlobRecord:
        """Store a pack given in parts that are compressed by themselves."""
        raw = b"".join(parts)
        stored, measured, flags = self._compressed(parts, raw)
        digest = sha256(stored).digest()
        if self._store.put(digest, stored):
            self.written += len(stored)
        return BlobRecord(digest, verity_digest(measured), len(stored), len(raw), flags, 0)

    def _compressed(self, parts: Sequence[bytes], raw: bytes) -> tuple[bytes, bytes, int]:
        """Return (bytes to store, bytes whose fs-verity digest is recorded, flags).

        A pack of which compression makes no part smaller is stored as it is. The original records
        the digest of the compressed bytes even then (docs/format.md, fs-verity digest).
        """
        if self._form.compression == NONE:
            return raw, raw, 0
        upstream = self._form.compression == UPSTREAM
        encoded = [
            upstream_frames(part) if upstream else compress_frames(part, self._form.frame_size) for part in parts
        ]
        blob = seekable([frame for frames in encoded for frame in frames])
        if any(len(seekable(frames)) < len(part) for frames, part in zip(encoded, parts, strict=True)):
            return blob, blob, COMPRESSED
        return raw, blob if upstream else raw, 0
