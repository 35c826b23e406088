"""A writer's directory for unfinished blobs, beside the blob directory."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from puzzlefs.store import UNFINISHED, Locked, store_error


class Unfinished:
    """The context of a new directory below `parent`, locked while it lasts and gone at its end.

    Raises `StoreError`.
    """

    def __init__(self, parent: str) -> None:
        self._parent = parent

    def __enter__(self) -> Path:
        try:
            # Under the lock nobody sees a directory that is made and not yet held.
            with Locked(self._parent):
                _delete_abandoned(self._parent)
                self._directory = tempfile.mkdtemp(prefix=UNFINISHED, dir=self._parent)
                self._held = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._held, fcntl.LOCK_EX)
        except OSError as error:
            raise store_error(error) from error
        return Path(self._directory)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._held)


def _delete_abandoned(parent: str) -> None:
    """Delete the directories of writers that no longer hold their lock."""
    for entry in os.scandir(parent):
        if not entry.name.startswith(UNFINISHED) or not entry.is_dir(follow_symlinks=False):
            continue
        try:
            lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
