"""Unpacking an image into a directory; `puzzlefs._native.Reader.extract_tree` says what is promised.

Every path is reached through descriptors of directories made here and never through a symbolic
link, so that neither the image nor somebody who can write to the target leads the work elsewhere.
First everything is made, directories open to their owner alone; then directories get their owner,
mode and times, the deepest first, for those would change or be in the way while they fill.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from puzzlefs.errors import StoreError, UnsupportedError
from puzzlefs.vfs import ROOT, Attributes, Filesystem, Step
from puzzlefs.workers import Workers

from .directory import open_beneath
from .place import Place
from .restore import Restorer, Skipped

if TYPE_CHECKING:
    from puzzlefs._native import Unpacked

# As deep as the longest path that the kernel takes.
_DEPTH_LIMIT: Final = 2048
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Extraction:
    """One run of `extract_tree`."""

    def __init__(self, filesystem: Filesystem, target: bytes, root: int, same_owner: bool) -> None:
        self._filesystem = filesystem
        self._target = target
        self._root = root
        self._restorer = Restorer(filesystem, same_owner)
        self._files = self._inodes = self._bytes = 0
        self._refused: list[tuple[bytes, bytes, int]] = []
        # Where each directory, and the first name of each inode with several, is: (directory, name).
        self._directories: dict[int, tuple[int, bytes]] = {}
        self._linked: dict[int, tuple[int, bytes]] = {}

    def run(self, jobs: int) -> Unpacked:
        """Unpack with `jobs` threads that write contents."""
        with Workers(jobs) as workers, Place(self._root) as place:
            for step, parent, name, ino in self._filesystem.visit():
                if step is Step.ENTER and place.depth == _DEPTH_LIMIT:
                    raise UnsupportedError(f"directories are nested more than {_DEPTH_LIMIT} deep")
                try:
                    self._make(workers, place, step, parent, name, ino)
                except OSError as error:
                    raise self._error(parent, name, error) from error
        self._finish()
        return self._files, self._inodes, self._bytes, self._refused

    def _make(self, workers: Workers, place: Place, step: Step, parent: int, name: bytes, ino: int) -> None:
        if step is Step.ENTER:
            self._directories[ino] = (parent, name)
            os.mkdir(name, 0o700, dir_fd=place.descriptor)
            place.down(name)
            self._inodes += 1
        elif step is Step.LEAVE:
            os.close(place.up())
        elif ino in self._linked:
            self._link(place, name, self._linked[ino])
        else:
            self._make_inode(workers, place, parent, name, ino)

    def _link(self, place: Place, name: bytes, first: tuple[int, bytes]) -> None:
        directory, first_name = first
        source = open_beneath(self._root, self._components(directory))
        try:
            os.link(first_name, name, src_dir_fd=source, dst_dir_fd=place.descriptor, follow_symlinks=False)
        finally:
            os.close(source)

    def _make_inode(self, workers: Workers, place: Place, parent: int, name: bytes, ino: int) -> None:
        skipped = self._skipped(parent, name)
        try:
            attributes = self._filesystem.getattr(ino)
        except OSError as error:
            skipped(b"", error.errno or errno.EIO)
            return
        if stat.S_ISREG(attributes.mode):
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=place.descriptor)
            self._files += 1
            self._bytes += attributes.size
            workers.start(lambda: self._fill(descriptor, attributes, parent, name), lambda: os.close(descriptor))
        elif self._make_special(place.descriptor, name, attributes, skipped):
            self._restorer.named(place.descriptor, name, attributes, skipped)
        else:
            return
        self._inodes += 1
        if attributes.nlink > 1:
            self._linked[ino] = (parent, name)

    def _make_special(self, directory: int, name: bytes, attributes: Attributes, skipped: Skipped) -> bool:
        """Make a link, device, pipe or socket; return False where that takes privilege."""
        if stat.S_ISLNK(attributes.mode):
            os.symlink(self._filesystem.readlink(attributes.ino), name, dir_fd=directory)
            return True
        try:
            os.mknod(name, stat.S_IFMT(attributes.mode) | 0o600, attributes.rdev, dir_fd=directory)
        except PermissionError as error:
            skipped(b"", error.errno or errno.EIO)
            return False
        return True

    def _fill(self, descriptor: int, attributes: Attributes, parent: int, name: bytes) -> None:
        """Write a file's content and properties and close it, in a worker."""
        try:
            try:
                if attributes.size:
                    self._filesystem.reader.extract(attributes.ino, descriptor)
                self._restorer.opened(descriptor, attributes, self._skipped(parent, name))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._error(parent, name, error) from error

    def _finish(self) -> None:
        """Restore the directories, each after all that it holds, the target itself at the end."""
        with Place(self._root) as place:
            for step, parent, name, ino in self._filesystem.visit():
                if step is Step.ENTER:
                    place.down(name)
                elif step is Step.LEAVE:
                    # Up before its mode is restored, which may not let its own owner through.
                    self._finish_directory(place.up(), ino, parent, name)
        self._finish_directory(os.dup(self._root), ROOT, ROOT, b"")

    def _finish_directory(self, descriptor: int, ino: int, parent: int, name: bytes) -> None:
        try:
            self._restorer.opened(descriptor, self._filesystem.getattr(ino), self._skipped(parent, name))
        except OSError as error:
            raise self._error(parent, name, error) from error
        finally:
            os.close(descriptor)

    def _skipped(self, parent: int, name: bytes) -> Skipped:
        return lambda what, number: self._refused.append((self._path(parent, name), what, number))

    def _error(self, parent: int, name: bytes, error: OSError) -> StoreError:
        return StoreError(os.path.join(self._target, self._path(parent, name)), error.errno or errno.EIO)

    def _path(self, parent: int, name: bytes) -> bytes:
        return b"/".join([*self._components(parent), name])

    def _components(self, directory: int) -> list[bytes]:
        """Return the names that lead from the root to a directory made before."""
        names = []
        while directory != ROOT:
            directory, name = self._directories[directory]
            names.append(name)
        return names[::-1]
