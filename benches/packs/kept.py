"""What was measured, kept as JSON: topic, candidate, what, values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Topic = dict[str, dict[str, list[float]]]
TOPICS = ("series", "branches", "reads", "unique")


class Kept:
    """Figures that stay, so that a run may measure a part of them.

    topics  "series", "branches", "reads", "unique": candidate → what → values
    facts   what was measured on
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.topics: dict[str, Topic] = {name: document.get(name, {}) for name in TOPICS}
        self.facts: dict[str, str] = document.get("facts", {})

    def put(self, topic: str, candidate: str, values: dict[str, list[float]]) -> None:
        """Replace a candidate's figures, and write everything down."""
        self.topics[topic][candidate] = values
        self.save()

    def add(self, topic: str, candidate: str, values: dict[str, float]) -> None:
        """Add one round of a candidate's figures, and write everything down."""
        kept = self.topics[topic].setdefault(candidate, {})
        for what, value in values.items():
            kept.setdefault(what, []).append(value)
        self.save()

    def save(self) -> None:
        """Write everything down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({**self.topics, "facts": self.facts}, indent=1, sort_keys=True) + "\n")
