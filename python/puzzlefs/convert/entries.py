"""The entries of a layer's tar archive, each checked: what a name, a time, a device may be."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, BinaryIO, NamedTuple, cast

from puzzlefs import constants
from puzzlefs.convert.expand import STEP
from puzzlefs.convert.layer import LayerStream
from puzzlefs.errors import CorruptImageError, UnsupportedError, shown
from puzzlefs.records import Kind
from puzzlefs.scan import HOST_XATTRS

_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.GNUTYPE_SPARSE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIR,
    tarfile.SYMTYPE: Kind.LNK,
    tarfile.CHRTYPE: Kind.CHR,
    tarfile.BLKTYPE: Kind.BLK,
    tarfile.FIFOTYPE: Kind.FIFO,
}
WHITEOUT = b".wh."
"""How the name of an entry begins that hides the rest of that name below."""
OPAQUE = b".wh..wh..opq"
"""The name of an entry that hides all that its directory has below."""
XATTR = "SCHILY.xattr."
"""What the pax header of an extended attribute is called, followed by its name."""
# What eStargz adds to a layer for its own readers.
_TABLES_OF_CONTENTS = (b".prefetch.landmark", b".no.prefetch.landmark", b"stargz.index.json")
_TIME = re.compile(r"(-?)(\d{1,19})(?:\.(\d*))?\Z", re.ASCII)
_TRUNCATED = "the archive ends inside its content"
_ID_LIMIT = 1 << 32
# Seconds before and after the epoch; the format has room for a few more.
_TIME_LIMIT = 1 << 62
_ZEROS = memoryview(bytes(STEP))


class Entry(NamedTuple):
    """One entry of a layer.

    path         from the root, without "." and ".."; b"" is the root
    kind         of the inode; None for one more name of another
    mtime        ns since the epoch
    target       a symbolic link's, or the path that a hard link names
    size         of the file's content
    number       its place among the layer's entries with content, from 0
    """

    path: bytes
    kind: Kind | None
    permissions: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    target: bytes = b""
    size: int = 0
    number: int = -1

    @property
    def is_whiteout(self) -> bool:
        """Whether it hides something below instead of being something."""
        return self.path.rpartition(b"/")[2].startswith(WHITEOUT)


class _Archive(tarfile.TarFile):
    """A tar archive read once, none of it kept, an error for whatever is no header."""

    def next(self) -> tarfile.TarInfo | None:
        stream: Any = self.fileobj
        # Some writers leave out even the padding of the last entry: then there is nothing to be read.
        stream.skip_to(self.offset)
        stream.begin_entry()
        try:
            return self.tarinfo.fromtarfile(self)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            return None
        except RecursionError as error:
            raise CorruptImageError(f"{stream.what}: headers follow headers without end") from error
        except (tarfile.TarError, ValueError, IndexError, OverflowError) as error:
            raise CorruptImageError(f"{stream.what}: no tar header at byte {self.offset}") from error


class LayerReader:
    """Iterates over a layer's entries; after each, `content` gives its content.

    stream  the layer; raises `CorruptImageError` and `UnsupportedError`, both naming the entry
    """

    def __init__(self, stream: LayerStream) -> None:
        self._stream = stream
        self._total = 0
        self._info = tarfile.TarInfo()
        self._end = 0

    def __iter__(self) -> Iterator[Entry]:
        archive: Any = _Archive(fileobj=cast("BinaryIO", self._stream), encoding="utf-8", errors="surrogateescape")
        info, number = archive.firstmember, 0
        while info:
            self._info, self._end = info, archive.offset
            entry = self._entry(number)
            if entry.path not in _TABLES_OF_CONTENTS:
                yield entry
                number += bool(entry.size)
            self._skip_to(info.offset_data + (sum(size for _, size in self._extents()) if entry.size else 0))
            info = archive.next()

    @property
    def stored_size(self) -> int:
        """How many bytes of the layer, as it is stored, were read."""
        return self._stream.stored_size

    def content(self) -> Iterator[memoryview]:
        """Yield the bytes of the entry that came last, holes as zeros."""
        self._skip_to(self._info.offset_data)
        at = 0
        for offset, size in self._extents():
            yield from _zeros(offset - at)
            yield from self._data(size)
            at = offset + size
        yield from _zeros(self._info.size - at)

    def _extents(self) -> list[tuple[int, int]]:
        """Return where the stored bytes belong: (offset, size) of each part that is no hole."""
        if self._info.sparse is None:
            return [(0, self._info.size)]
        return cast("list[tuple[int, int]]", self._info.sparse)

    def _data(self, size: int) -> Iterator[memoryview]:
        while size:
            piece = self._stream.take(min(size, STEP))
            if not piece:
                raise self._fault(_TRUNCATED)
            size -= len(piece)
            yield piece

    def _skip_to(self, position: int) -> None:
        if not self._stream.skip_to(position):
            raise self._fault(_TRUNCATED)

    def _entry(self, number: int) -> Entry:
        info = self._info
        if info.type != tarfile.LNKTYPE and info.type not in _KINDS:
            raise UnsupportedError(self._said(f"unknown type {info.type!r}"))
        kind = _KINDS.get(info.type)
        size = info.size if kind == Kind.FILE else 0
        if kind == Kind.FILE:
            self._check_extents()
        return Entry(
            self._path(info.name),
            kind,
            0o777 if kind == Kind.LNK else info.mode & 0o7777,
            self._within(info.uid, _ID_LIMIT, "user"),
            self._within(info.gid, _ID_LIMIT, "group"),
            self._mtime(),
            self._device() if kind in (Kind.CHR, Kind.BLK) else (0, 0),
            tuple(self._xattrs()),
            self._target(kind),
            size,
            number if size else -1,
        )

    def _path(self, name: str) -> bytes:
        """Return a path from the root, with no way to leave it."""
        raw = name.encode("utf-8", "surrogateescape")
        path = posixpath.normpath(b"/" + raw.lstrip(b"/"))[1:]
        if b"\0" in path or any(len(part) > constants.NAME_LIMIT for part in path.split(b"/")):
            raise self._fault("not a file name")
        return path

    def _target(self, kind: Kind | None) -> bytes:
        if kind is None:
            return self._path(self._info.linkname)
        if kind != Kind.LNK:
            return b""
        target = self._info.linkname.encode("utf-8", "surrogateescape")
        if not 0 < len(target) <= constants.SYMLINK_LIMIT or b"\0" in target:
            raise self._fault("a symbolic link cannot lead there")
        return target

    def _device(self) -> tuple[int, int]:
        numbers = (self._info.devmajor, self._info.devminor)
        major, minor = (self._within(number, _ID_LIMIT, "device") for number in numbers)
        return major, minor

    def _within(self, number: int, limit: int, what: str) -> int:
        if not 0 <= number < limit:
            raise self._fault(f"{what} number {number} is out of range")
        return number

    def _mtime(self) -> int:
        text = self._info.pax_headers.get("mtime")
        if text is None:
            seconds, nanoseconds, sign = int(self._info.mtime), 0, 1
        else:
            match = _TIME.match(text)
            if not match:
                raise self._fault(f"modification time {text[:40]!r} is no time")
            sign = -1 if match[1] else 1
            seconds, nanoseconds = int(match[2]), int((match[3] or "")[:9].ljust(9, "0"))
        if not -_TIME_LIMIT <= seconds < _TIME_LIMIT:
            raise self._fault("modification time is out of range")
        return sign * (seconds * 1_000_000_000 + nanoseconds)

    def _xattrs(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the extended attributes by name, those of the host that made the layer left out."""
        for key, value in sorted(self._info.pax_headers.items()):
            if not key.startswith(XATTR):
                continue
            name, content = (text.encode("utf-8", "surrogateescape") for text in (key[len(XATTR) :], value))
            if any(fnmatchcase(name, pattern) for pattern in HOST_XATTRS):
                continue
            if not 0 < len(name) <= constants.XATTR_KEY_LIMIT or b"\0" in name:
                raise self._fault("not a name of an extended attribute")
            if len(content) > constants.XATTR_VALUE_LIMIT:
                raise self._fault(f"extended attribute {shown(name)} has {len(content)} bytes")
            yield name, content

    def _check_extents(self) -> None:
        """Check that a file's content lies in order within its size and within the archive."""
        info, at, stored = self._info, 0, 0
        if info.size < 0:
            raise self._fault("its size is negative")
        for offset, size in self._extents():
            if offset < at or size < 0:
                raise self._fault("its parts overlap")
            at, stored = offset + size, stored + size
        if not at <= info.size <= constants.FILE_SIZE_LIMIT or stored > self._end - info.offset_data:
            raise self._fault("its content is larger than itself")
        self._total += info.size
        if self._total > self._stream.limit:
            limit = self._stream.limit
            raise self._fault(f"with it the layer unpacks to more than {limit} bytes; a size limit allows more")

    def _fault(self, reason: str) -> CorruptImageError:
        return CorruptImageError(self._said(reason))

    def _said(self, reason: str) -> str:
        name = self._info.name.encode("utf-8", "surrogateescape")
        return f"{self._stream.what}: {shown(name)}: {reason}"


def _zeros(size: int) -> Iterator[memoryview]:
    while size > 0:
        yield _ZEROS[:size]
        size -= STEP
