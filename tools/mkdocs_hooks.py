"""What mkdocs.yml needs beyond its own means: pages from outside docs/, of the commands and of the API."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from puzzlefs.cli import VERBS, parser_for

# A page of the site, and the file at the top of the repository that it shows.
PAGES = {
    "index.md": "README.md",
    "architecture.md": "ARCHITECTURE.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
API = """# Python API

::: puzzlefs.builder
::: puzzlefs.image
::: puzzlefs.convert.image
::: puzzlefs.convert.reverse
::: puzzlefs.errors
"""


def from_the_top(text: str) -> str:
    """Return a page of the repository's top with its links made right for the site."""
    text = re.sub(r"\]\((?:\./)?docs/", "](", text)
    for page, source in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    # What is no page stays a name.
    return re.sub(r"\[([^\]]+)\]\((?![a-z]+:|#)(?![^)#]*\.(?:md|png|svg)\b)[^)]*\)", r"\1", text)


def commands() -> str:
    """Return the page of the command line: what each verb's `--help` says."""
    os.environ["COLUMNS"] = "100"  # the width that argparse wraps at
    parts = ["# Commands"]
    for verb, (_, summary) in VERBS.items():
        parts.append(f"## {verb}\n\nTo {summary}.\n\n```text\n{parser_for(verb).format_help()}```")
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    root = Path(config.config_file_path).parent
    for page, source in PAGES.items():
        if (root / source).exists():
            files.append(File.generated(config, page, content=from_the_top((root / source).read_text())))
    files.append(File.generated(config, "api.md", content=API))
    files.append(File.generated(config, "commands.md", content=commands()))
    return files
