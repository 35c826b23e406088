"""What belongs to figures: on which machine, with which versions, when."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benches.peer import Peer
from benches.process import ROOT, busy


def machine() -> str:
    """Return what figures are measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def revision() -> str:
    """Return the commit that is measured, "+" where files differ from it."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def commits_since(revision: str) -> int | None:
    """Return how many commits have changed the program since a revision; None where nobody knows that revision."""
    words = ["git", "-C", str(ROOT), "rev-list", "--count", f"{revision.rstrip('+')}..HEAD", "--", "python", "rust"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return None if done.returncode else int(done.stdout)


class Load:
    """How much of the processors' time goes to others than this process and its children, from now on."""

    def __init__(self) -> None:
        self.start, self.before = time.monotonic(), self._foreign()

    @staticmethod
    def _foreign() -> float:
        return busy() - sum(os.times()[:4])

    def share(self) -> str:
        """Return it in words, once all children have been waited for. What the kernel does for them counts too."""
        seconds = (time.monotonic() - self.start) * (os.cpu_count() or 1)
        return f"{max(0.0, self._foreign() - self.before) / seconds:.0%}"


def facts(peers: Sequence[Peer], **more: str) -> dict[str, str]:
    """Return what belongs to the figures of these programs."""
    versions = {f"version of {peer.title}": peer.version() for peer in peers}
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return {"machine": machine(), "revision": revision(), "when": when, **versions, **more}
