"""What steps made, by content: a step is not done again where its base, script and imports are the same.

Like that of builds (`build_cache`), the cache only saves time, and whoever could write to it would decide
what an image holds, so it is taken only from a directory that is the user's alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from puzzlefs import __version__
from puzzlefs.errors import PuzzleFSError
from puzzlefs.image import Image
from puzzlefs.names import ImageName, is_digest
from puzzlefs.oci import canonical

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class StepCache:
    """Digests of manifests in a store, by the facts that they follow from; None as directory keeps nothing."""

    def __init__(self, directory: Path | None, layout: Path) -> None:
        self._directory = directory
        self._layout = layout

    def load(self, facts: Mapping[str, Any]) -> Image | None:
        """Return the image that follows from some facts, where the store still has all of it."""
        if self._directory is None:
            return None
        try:
            status = os.stat(self._directory)
            if status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
                return None
            digest = (self._directory / self._name(facts)).read_text()
            if not is_digest(digest):
                return None
            image = Image.open(ImageName(self._layout, digest))
            image.store.get(image.manifest.config, image.manifest.config.size)
            complete = all(image.store.size(layer.raw_digest) == layer.size for layer in image.manifest.layers)
        except (OSError, PuzzleFSError):
            return None
        return image if complete else None

    def save(self, facts: Mapping[str, Any], digest: str) -> None:
        """Keep a manifest's digest; a build is no worse where that cannot be."""
        if self._directory is None:
            return
        place = self._directory / self._name(facts)
        begun = place.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            begun.write_text(digest)
            begun.replace(place)

    def _name(self, facts: Mapping[str, Any]) -> str:
        named = {"facts": facts, "store": os.path.realpath(self._layout), "version": __version__}
        return sha256(canonical(named)).hexdigest()
