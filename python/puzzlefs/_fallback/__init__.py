"""The pure-Python backend: the executable specification of what the compiled one does.

One module for each concept, each function beside the rule of docs/format.md that it implements.
`puzzlefs._native.Backend` says what the names below promise.
"""

from __future__ import annotations

from json import loads as parse_json

from puzzlefs import __version__
from puzzlefs._fallback.chunk import cut_lengths
from puzzlefs._fallback.codec import check_frames, compress, compress_upstream, decompress
from puzzlefs._fallback.encode import encode_rootfs
from puzzlefs._fallback.index import Index
from puzzlefs._fallback.look import Look
from puzzlefs._fallback.metadata import decode_rootfs
from puzzlefs._fallback.reader import Reader
from puzzlefs._fallback.runs import digest_runs
from puzzlefs._fallback.scan import scan_tree
from puzzlefs._fallback.sync import sync_filesystem
from puzzlefs._fallback.tree import Tree
from puzzlefs._fallback.verity import hash_bytes, hash_file, verity_digest
from puzzlefs._fallback.writer import StreamWriter

FuseServer = None
"""Pure Python serves mounts by pyfuse3 (`puzzlefs.fuse`)."""

__all__ = [
    "FuseServer",
    "Index",
    "Look",
    "Reader",
    "StreamWriter",
    "Tree",
    "__version__",
    "check_frames",
    "compress",
    "compress_upstream",
    "cut_lengths",
    "decode_rootfs",
    "decompress",
    "digest_runs",
    "encode_rootfs",
    "hash_bytes",
    "hash_file",
    "parse_json",
    "scan_tree",
    "sync_filesystem",
    "verity_digest",
]
