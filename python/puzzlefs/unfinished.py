"""A writer's directory for unfinished blobs, beside the blob directory."""

from __future__ import annotations

import fcntl
import os

from puzzlefs.store import UNFINISHED, Locked, store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Unfinished:
    """The context of a new directory below `parent`, locked while it lasts and gone at its end.

    Raises `StoreError`.
    """

    def __init__(self, parent: str) -> None:
        self._parent = parent

    def __enter__(self) -> str:
        try:
            # Under the lock nobody sees a directory that is made and not yet held.
            with Locked(self._parent):
                _delete_abandoned(self._parent)
                self._directory = os.path.join(self._parent, UNFINISHED + os.urandom(8).hex())
                os.mkdir(self._directory, 0o700)
                self._held = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._held, fcntl.LOCK_EX)
        except OSError as error:
            raise store_error(error) from error
        return self._directory

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _delete(self._directory)
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
            _delete(entry.path)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def _delete(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError:
        # Something is in it, which is rare, and this module loads slowly.
        import shutil

        shutil.rmtree(directory, ignore_errors=True)
