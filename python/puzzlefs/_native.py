"""The only chooser of a backend: `_rust` (compiled) or `_fallback` (pure Python).

`PUZZLEFS_BACKEND=rust|python` is strict: an unknown or unavailable choice raises. Without it the
compiled backend is used where it is installed. Both give the same bytes and the same errors.
"""

from __future__ import annotations

import os

from puzzlefs.errors import UnsupportedError, UsageError

# The contract is for type checkers; to every command, importing `typing` would be a tenth of its start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from puzzlefs.rows import ScanRules, Vector
else:
    Protocol = object

RawVector = tuple[bytes, bytes, bytes, bytes, bytes]
"""The fields of a `rows.Vector`."""

RawRootfs = tuple[int, bytes, bytes, list[RawVector]]
"""(manifest version, digest table, verity table, vectors uppermost first)."""

InodeStat = tuple[int, int, int, int, int, int, int, int, int, int, int]
"""(ino, kind, permissions, uid, gid, mtime_sec, mtime_nsec, size, nlink, major, minor)."""

Unpacked = tuple[int, int, int, list[tuple[bytes, bytes, int]]]
"""(files, inodes without the root, bytes of files, what the system refused: (path relative to the target, what,
error number)). What is `owner`, `mode`, `times`, an attribute's key, or empty for an inode that was not made."""


ScannedTree = tuple["Tree", bytes, bytes, list[bytes], bytes]
"""(tree; paths of its files and their `records.SOURCE` rows, as `StreamWriter.run` takes them; mount points met;
the tree's snapshot, for a `Look` later: empty for trees of more than 262,144 entries)."""


Range = tuple[int, int, int]


class Index(Protocol):
    """An image's merged tree: what its layers, uppermost first, look like as one filesystem.

    Raises `CorruptImageError` (a rule of docs/format.md is broken) or `UnsupportedError`
    (a version or feature this reader does not know) when built. Every method that takes an inode
    number raises `KeyError` where the tree does not reach it, and `OverflowError` for a number that
    is not a u64; `lookup`, `parent` and `entries` raise `NotADirectoryError` for an inode that is no
    directory.
    """

    def __init__(self, rootfs: bytes, users: Sequence[Range] = (), groups: Sequence[Range] = ()) -> None:
        """Decode and merge. Owners inside ranges of (inside, outside, count) are shown as those outside, in
        access control lists and file capabilities too, and others as 65534; without ranges as they are."""

    @property
    def inode_count(self) -> int:
        """Inodes that the root reaches, the root included."""

    @property
    def highest_ino(self) -> int:
        """The highest number in any layer, whiteouts included."""

    @property
    def content_bytes(self) -> int:
        """Sum of file sizes, each inode once; it may exceed 64 bits."""

    @property
    def has_xattrs(self) -> bool:
        """Whether any reachable inode has an extended attribute."""

    def inodes(self) -> list[int]:
        """Return the reachable inode numbers, ascending."""

    def stat(self, ino: int) -> InodeStat:
        """Return an inode's fields. size: content, link target, or 0; nlink: 2 + subdirectories for a
        directory, else the number of entries."""

    def lookup(self, parent: int, name: bytes) -> int:
        """Return the number that directory `parent` gives `name`, or 0."""

    def parent(self, ino: int) -> int:
        """Return the number of a directory's parent; the root is its own."""

    def entries(self, ino: int, start: int, count: int) -> list[tuple[bytes, int]]:
        """Return up to `count` entries (name, number) of a directory, by name, from position `start`."""

    def xattrs(self, ino: int) -> list[tuple[bytes, bytes]]:
        """Return an inode's extended attributes in stored order."""

    def symlink(self, ino: int) -> bytes:
        """Return a symbolic link's target; b"" for other kinds."""

    def chunks(self, ino: int) -> bytes:
        """Return a file's `records.CHUNK` rows; blob numbers are rows of `blobs()`."""

    def blobs(self) -> bytes:
        """Return `records.VERITY` rows, one for each distinct digest that any layer's chunks name, in
        order of first mention. A blob without a verity entry has a zero fs-verity digest."""


class Reader(Protocol):
    """File contents of one image, each blob checked as `verify` says before its bytes are used.

    index      the backend's own `Index`
    directory  the directory that holds the blobs, named by hex digest; links are followed
    verify     0 never; 1 once a blob, on first use; 2 every byte each time it is taken from disk
    cache_size bytes of decompressed data to keep
    """

    def __init__(self, index: Index, directory: bytes, verify: int, cache_size: int) -> None: ...

    def read(self, ino: int, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of a file from `offset`; short only at its end.

        Raises `BlobError` or `MissingBlobError`; `KeyError` for an inode that is no file.
        """

    def extract(self, ino: int, fd: int) -> None:
        """Write a whole file to the empty regular file `fd`, leaving holes for blocks of zeros
        (4,096 bytes, aligned), and set its size. Also raises `OSError` of the write."""

    def extract_tree(self, fd: int, name: bytes, same_owner: bool, jobs: int) -> Unpacked:
        """Unpack the whole image into the empty directory `fd`, called `name` in errors, with `jobs` threads.

        With `same_owner`, inodes get the owners that the image names. An error leaves what was made
        before it: `StoreError` of the target, `BlobError`, `MissingBlobError`, or `UnsupportedError`
        for directories nested more than 2,048 deep. A signal whose handler raises ends the work.
        """


class FuseServer(Protocol):
    """Serves an image on a connection to the kernel, by threads of its own, until it is unmounted.

    index, reader  the backend's own; the tree and the contents that are served
    connection     a descriptor of /dev/fuse that was mounted; the server keeps one of its own
    notices        the writing end of a pipe, which must not block; the server keeps one of its own.
                   `i` is written when the kernel has begun to talk, `e` when there is something for
                   `take_errors`; it is closed when the mount has ended.
    threads        how many requests are answered at a time
    """

    def __init__(self, index: Index, reader: Reader, connection: int, notices: int, threads: int) -> None: ...

    def take_errors(self) -> list[Exception]:
        """Return the errors that came up since the last call, of each damaged blob the first only."""

    @staticmethod
    def mount(connection: int, source: bytes, target: bytes, flags: int, options: bytes) -> None:
        """Mount on a directory by the system call of this name.

        connection  a fresh descriptor of /dev/fuse
        source      what the table of mounts shows
        flags       those of the system call
        options     the filesystem's own, separated by commas
        Raises `OSError`.
        """

    @staticmethod
    def unmount(target: bytes, lazy: bool) -> None:
        """Unmount what is mounted at a path, by umount2(2); with `lazy` when its last user leaves.

        Raises `OSError`.
        """


class Look(Protocol):
    """What became of the inodes that a snapshot of a tree tells; whatever is no snapshot tells none.

    Raises `SourceError` where there is no directory `root`, and what a signal's handler raises.
    """

    def __init__(self, root: bytes, snapshot: bytes) -> None: ...

    @property
    def is_unchanged(self) -> bool:
        """Whether every inode is as it was, so far as the system's times of change tell, and there is no other."""


AnyLook = Look
"""The class, where a backend's own attribute of the name hides it."""


class Tree(Protocol):
    """A directory tree in tables, on its way into an image: a vector of every inode, 1 the root.

    vector  tables of a tree that was made otherwise; what is wrong with them shows when they are used
    `scan_tree` makes a tree from a directory. No two calls may be made at a time, and none after `encode`.
    """

    def __init__(self, vector: Vector) -> None: ...

    @property
    def inode_count(self) -> int:
        """How many inodes there are."""

    def set_chunks(self, chunks: bytes, counts: bytes, digests: bytes) -> None:
        """Give the files their chunks, in ascending order of inode number.

        chunks   `records.CHUNK` rows of all files, file after file
        counts   u32 for each file: how many of those rows are its own
        digests  u32 for each blob number in the rows: its row of the image's digest table
        Raises `ValueError` for tables that do not fit.
        """

    def rebase(self, base: Index, whole: bool) -> None:
        """Number the inodes so that the tree, as the uppermost layer, turns the base into itself.

        A path that the base has keeps its number, unless that went to another inode of the tree (a
        hard link that was split); anything else gets the next number after the base's highest. Then
        only inodes stay that the base does not show so already, and a whiteout is added for each
        number of the base that is no longer used; with `whole` all inodes stay, and whiteouts are
        added as the original does. Chunks name rows of a digest table that begins with the base's.
        Raises `UnsupportedError` where the base leaves no numbers, `ValueError` for tables that
        contradict themselves.
        """

    def vector(self) -> RawVector:
        """Return the fields of a `rows.Vector`."""

    def encode(self, digests: bytes, verity: bytes, below: Sequence[Vector]) -> bytes:
        """Return what `encode_rootfs` gives for the tree, if it has inodes, upon the layers below.

        It ends the tree, for their memory.
        """


class StreamWriter(Protocol):
    """Cuts the bytes of many files, as one stream, into chunks and stores them, packs of them as blobs.

    root         the root filesystem; no symbolic link below it is followed
    blobs        the directory of the blobs
    temporary    an existing directory on the same filesystem for unfinished blobs
    compression  0 none; 1 as the original writes it (and with its digests, format.md §2); 2 frames
    frame_size   uncompressed bytes in a frame, for compression 2; in packs it holds whole chunks as far as they fit
    jobs         worker threads (the pure backend uses one)
    sync         whether each blob is synced before it gets its name
    pack_size    uncompressed bytes in a pack, on average; 0 makes each chunk a blob
    """

    def __init__(
        self,
        root: bytes,
        blobs: bytes,
        temporary: bytes,
        compression: int,
        frame_size: int,
        jobs: int,
        sync: bool,
        pack_size: int = 0,
    ) -> None: ...

    def run(
        self,
        paths: bytes,
        sources: bytes,
        trace: bytes | None = None,
        horizon: int = 0,
        groups: bytes | None = None,
        offered: tuple[bytes, bytes] | None = None,
    ) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        """Store files, in stream order.

        paths    their paths relative to root, each with a zero byte after it
        sources  their `records.SOURCE` rows
        trace    what an earlier run returned; anything else counts as none
        groups   u32 numbers of files, ascending, at which the stream is cut and a pack begins
        offered  (`records.BLOB` rows of other images' blobs, `records.CONTENT` rows of chunks in them): such
                 chunks are referred to where they are
        horizon  ns since the epoch; the new trace tells no file that changed then or later

        Returns (blobs, chunks, counts, stream, trace):
        blobs   `records.BLOB` rows, one for each distinct (digest, flags), in order of first use
        chunks  `records.CHUNK` rows of all files, file after file
        counts  u32 for each file: how many of those rows are its own
        stream  u32 for each chunk cut, in stream order, repeats included: its row in blobs
        trace   for a later run, of whatever tree and store
        With a trace the answer is the same, but files that it tells are not opened where their chunks
        are known and stored, and known chunks are not compressed again.
        Raises `SourceError`, `SourceChangedError` (size, times or identity differ from the row before
        or after reading), `StoreError`, `CancelledError`. Blobs written by then stay. One run only.
        """

    def run_pipe(self, fd: int) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        """Store files whose contents come through the pipe `fd`, instead of `run`; root is not used.

        Each file is its size (u64, little-endian), then its bytes; a size of all ones ends the stream.
        Returns what `run` does, with an empty trace. Raises `StoreError`, `CancelledError`, also where
        the pipe ends early, `ValueError` where the sizes add up to more than a file may have.
        """

    def cancel(self) -> None:
        """Make the run, in another thread, raise `CancelledError` soon: at its next chunk or file."""

    def progress(self) -> tuple[int, int, int, int, int, int]:
        """Return (files, bytes, chunks, bytes in repeated chunks, bytes written, distinct chunks) so far.
        Files and bytes count as read where they need not be."""


class Backend(Protocol):
    """What both backends offer; `puzzlefs._rust` and `puzzlefs._fallback` are such modules."""

    __version__: str
    Index: type[Index]
    Reader: type[Reader]
    StreamWriter: type[StreamWriter]
    Look: type[Look]
    Tree: type[Tree]
    FuseServer: type[FuseServer] | None
    """None in the pure backend, whose mounts pyfuse3 serves."""

    def cut_lengths(self, data: bytes) -> list[int]:
        """Return the lengths of the chunks into which FastCDC cuts `data`, a whole stream."""

    def verity_digest(self, data: bytes) -> bytes:
        """Return the fs-verity digest (SHA-256, 4,096-byte blocks, no salt) of `data`, 32 bytes."""

    def hash_file(self, fd: int) -> tuple[int, bytes, bytes]:
        """Return (size, sha256, fs-verity digest) of a file, read from its start by position."""

    def hash_bytes(self, data: bytes) -> tuple[bytes, bytes]:
        """Return (sha256, fs-verity digest) of `data`, in one pass."""

    def sync_filesystem(self, fd: int) -> None:
        """Bring all that was written to a file's filesystem to stable storage: syncfs(2). Raises `OSError`."""

    def compress(self, data: bytes, frame_size: int) -> bytes:
        """Return `data` as Zstandard frames of `frame_size` bytes at level 3 and a seek table.

        Each frame is compressed in one call that knows its size.
        """

    def compress_upstream(self, data: bytes) -> bytes:
        """Return `data` as the original compresses it: streamed frames of 4,096 bytes."""

    def decompress(self, data: bytes) -> bytes:
        """Return the content of a seekable Zstandard blob of any frame size.

        Raises `CorruptImageError` with one of the texts of docs/format.md §10.
        """

    def parse_json(self, data: bytes) -> Any:
        """Return the value of a JSON document, the very one that `json.loads` gives.

        Raises `ValueError` for what is no JSON, `RecursionError` for what is nested too deep.
        """

    def check_frames(self, fd: int, end: int) -> int:
        """Decode the frames of the compressed blob open as `fd` that hold its first `end` bytes, one at a
        time; return how many bytes it holds by its seek table.

        Raises `CorruptImageError` with one of the texts of docs/format.md §10, or `OSError`.
        """

    def digest_runs(self, directory: bytes, blobs: bytes, runs: bytes, jobs: int) -> bytes:
        """Return the SHA-256 of runs of bytes of blobs, 32 bytes for each.

        directory  holds the blobs, named by hex digest; each is checked before it is used
        blobs      `records.VERITY` rows
        runs       `records.CHUNK` rows, those of one blob neighbours, best by offset
        jobs       worker threads
        Raises `BlobError` or `MissingBlobError`.
        """

    def decode_rootfs(self, rootfs: bytes) -> RawRootfs:
        """Return the tables of a rootfs blob (`records.Vector` fields for each layer).

        The digest table is 32 bytes for each distinct chunk digest in order of first mention, the
        verity table `records.VERITY` rows in stored order.
        """

    def scan_tree(
        self, root: bytes, mounts: Sequence[bytes], rules: ScanRules, horizon: int = 0, look: AnyLook | None = None
    ) -> ScannedTree:
        """Read the tree below directory `root` into tables, in the numbering of an image without a base.

        Directories are visited depth first, siblings by name (bytes); a visit lists all entries of its
        directory, and each takes the next number, also one more name of an inode (hard links are
        recognised by device and inode). Nothing below the root is reached through a link.
        mounts   paths from the root on which something is mounted: there, a directory stays empty, and
                 anything else is left out
        horizon  ns since the epoch; the snapshot believes no inode that changed then or later
        look     at a snapshot of the tree: what it found as it was is not read again, the answer is the same.
                 A snapshot made by other rules or mounts is no help
        Raises `SourceError`, and what a signal's handler raises.
        """

    def encode_rootfs(self, digests: bytes, verity: bytes, vectors: Sequence[Vector]) -> bytes:
        """Return the rootfs blob for tables as `decode_rootfs` gives them, byte for byte as the
        original would write it. A vector whose times are all zero gets the original's Inode size.

        Raises `ValueError` for tables that contradict themselves.
        """


def _choose() -> tuple[str, Backend]:
    wanted = os.environ.get("PUZZLEFS_BACKEND", "")
    if wanted not in ("", "rust", "python"):
        raise UsageError(f"PUZZLEFS_BACKEND is {wanted!r}: not 'rust' or 'python'")
    if wanted == "python":
        return wanted, load(wanted)
    try:
        return "rust", load("rust")
    except ModuleNotFoundError as error:
        if error.name != "puzzlefs._rust":
            raise
    if wanted == "rust":
        raise UnsupportedError("PUZZLEFS_BACKEND is 'rust', but the compiled extension is not installed")
    return "python", load("python")


def load(name: str) -> Backend:
    """Return the backend called `name` ("rust" or "python"), whatever the environment says."""
    from puzzlefs import __version__

    module: Any
    if name == "rust":
        import puzzlefs._rust as module
    else:
        import puzzlefs._fallback as module
    backend: Backend = module
    if backend.__version__ != __version__:
        raise UnsupportedError(f"the {name} backend is version {backend.__version__}, the package {__version__}")
    return backend


backend: str
native: Backend
backend, native = _choose()
