"""The bar on standard error: what is measured, how much of the time is gone, what is left."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import Any, Protocol, Self, TextIO

EVERY_S = 10.0
"""Between two lines where the bar cannot be drawn."""


class Progress(Protocol):
    """Tells whoever waits."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def told(self, what: str, spent_s: float, points: int) -> None: ...


class Lines(AbstractContextManager["Lines"]):
    """A line now and then: where there is no terminal, or no rich."""

    def __init__(self, total_s: float, stream: TextIO | None = None) -> None:
        self._total_s, self._stream, self._last = total_s, stream or sys.stderr, -EVERY_S

    def __exit__(self, *error: object) -> None:
        """Nothing is left open."""

    def told(self, what: str, spent_s: float, points: int) -> None:
        """A line, unless the last one is young."""
        now = time.monotonic()
        if now - self._last >= EVERY_S:
            self._last = now
            left = max(self._total_s - spent_s, 0.0)
            print(f"{points} points, about {left:.0f} s left: {what}", file=self._stream, flush=True)


class Bar(AbstractContextManager["Bar"]):
    """A bar of rich."""

    def __init__(self, total_s: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.fields[points]} points"), BarColumn(), TextColumn("{task.fields[left]}"),
                   TextColumn("{task.description}"))  # fmt: skip
        self._bar: Any = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=total_s, points=0, left="")
        self._total_s = total_s

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def told(self, what: str, spent_s: float, points: int) -> None:
        """What is measured now."""
        left = f"{max(self._total_s - spent_s, 0.0):.0f} s left"
        self._bar.update(
            self._task, completed=min(spent_s, self._total_s), description=what[:60], points=points, left=left
        )


def progress(total_s: float) -> Bar | Lines:
    """A bar on a terminal, else lines."""
    if sys.stderr.isatty():
        try:
            return Bar(total_s)
        except ImportError:
            pass
    return Lines(total_s)
