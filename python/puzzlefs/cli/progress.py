"""The progress bar of a build: bytes, rate, share of bytes in repeated chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from puzzlefs.stream import Progress


@contextmanager
def bar() -> Iterator[Callable[[Progress], None]]:
    """Show a bar on standard error while the block runs; give the function that moves it."""
    columns = (
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("{task.fields[duplicates]:.0f} % duplicate"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("build", total=None, duplicates=0.0)

        def report(progress: Progress) -> None:
            share = 100 * progress.duplicate_bytes / progress.bytes if progress.bytes else 0.0
            display.update(task, total=progress.total_bytes, completed=progress.bytes, duplicates=share)

        yield report
