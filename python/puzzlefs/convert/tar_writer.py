"""Layers as tar archives of one form: the same tree gives the same bytes."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator

from puzzlefs._native import Reader
from puzzlefs.constants import MIB
from puzzlefs.convert.changes import Change
from puzzlefs.convert.entries import XATTR, Entry
from puzzlefs.errors import UnsupportedError, shown
from puzzlefs.records import Kind

_TYPES = {
    Kind.FILE: tarfile.REGTYPE,
    Kind.DIR: tarfile.DIRTYPE,
    Kind.LNK: tarfile.SYMTYPE,
    Kind.CHR: tarfile.CHRTYPE,
    Kind.BLK: tarfile.BLKTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}
_END = bytes(2 * tarfile.BLOCKSIZE)
_NANO = 1_000_000_000


def tar_archive(changes: Iterable[Change], reader: Reader, notices: list[str]) -> Iterator[bytes]:
    """Yield the bytes of a pax archive; what an archive cannot hold is told in `notices`.

    Raises `BlobError`, `MissingBlobError`, and `UnsupportedError` for numbers without room in an archive.
    """
    sockets = set()
    for entry, ino in changes:
        if entry.kind == Kind.SOCK or entry.target in sockets:
            sockets.add(entry.path)
            notices.append(f"{shown(entry.path)}: a socket, which a layer cannot hold")
            continue
        yield _header(entry)
        for offset in range(0, entry.size, MIB):
            yield reader.read(ino, offset, MIB)
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield _END


def _header(entry: Entry) -> bytes:
    info = tarfile.TarInfo(_text(entry.path or b"."))
    info.type = tarfile.LNKTYPE if entry.kind is None else _TYPES[entry.kind]
    info.mode = entry.permissions
    info.uid, info.gid = entry.uid, entry.gid
    info.size = entry.size
    info.linkname = _text(entry.target)
    info.devmajor, info.devminor = entry.device
    headers = {XATTR + _text(name): _text(value) for name, value in entry.xattrs}
    info.mtime, fraction = divmod(entry.mtime, _NANO)
    if fraction:
        sign, time = ("-", -entry.mtime) if entry.mtime < 0 else ("", entry.mtime)
        headers["mtime"] = f"{sign}{time // _NANO}.{time % _NANO:09}"
    info.pax_headers = headers
    try:
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    except ValueError as error:
        raise UnsupportedError(f"{shown(entry.path)}: a tar archive has no room for it: {error}") from error


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
