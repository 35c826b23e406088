"""What was measured, kept as JSON: topic, candidate, what, values."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

Topic = dict[str, dict[str, list[float]]]
TOPICS = ("series", "branches", "reads", "unique")


class Kept:
    """Figures that stay, so that a run may measure a part of them, and another at the same time another part.

    topics  "series", "branches", "reads", "unique": candidate → what → values
    facts   what was measured on
    runs    topic/candidate → the commit that was measured, and when
    now     the commit and the time of what is put from now on
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, str] = {}
        self.runs: dict[str, list[str]] = {}
        self.now = ["unknown", ""]
        self.load()

    def load(self) -> None:
        """Read what is kept."""
        document: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.topics: dict[str, Topic] = {name: document.get(name, {}) for name in TOPICS}
        self.facts = self.facts or document.get("facts", {})
        self.runs = document.get("runs", {})

    def put(self, topic: str, candidate: str, values: dict[str, list[float]]) -> None:
        """Replace a candidate's figures, and write everything down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.load()
            self.topics[topic][candidate] = values
            self.runs[f"{topic}/{candidate}"] = self.now
            unfinished = self.path.with_suffix(".unfinished")
            everything = {**self.topics, "facts": self.facts, "runs": self.runs}
            unfinished.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")
            os.replace(unfinished, self.path)

    def add(self, topic: str, candidate: str, values: dict[str, float]) -> None:
        """Add one round of a candidate's figures, and write everything down."""
        known = self.topics[topic].get(candidate, {})
        self.put(topic, candidate, {what: [*known.get(what, []), value] for what, value in values.items()})
