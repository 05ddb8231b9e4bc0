"""The terminal report of a run, in the order of the questions that people ask: does it fit, how long is a step, how
good is that, what holds it back, what does the run cost, what was assumed, how well founded is it, what is left out.

Plain text where the output is no terminal or NO_COLOR is set; as wide as the terminal or COLUMNS say, between MIN_WIDTH
and MAX_WIDTH; ASCII where the encoding has nothing else. Numbers come from `report.numbers`; nothing is computed here
but shares and sums of what is printed.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from simulator.report import run_sections, step_sections
from simulator.results.run_result import RunResult

DEFAULT_WIDTH: Final = 100
"""Columns where neither a terminal nor COLUMNS says how many there are."""
MIN_WIDTH: Final = 60
MAX_WIDTH: Final = 140
INDENT: Final = 2
ASCII: Final = str.maketrans({"µ": "u", "·": "-", "×": "x", "…": "~", "�": "?", **dict.fromkeys("█▉▊▋▌▍▎▏", "#")})
"""What stands for the report's own characters where the output cannot show them."""

Section = Callable[[RunResult, int], Iterable[RenderableType]]
SECTIONS: Final[tuple[tuple[str, Section], ...]] = (
    ("Memory", step_sections.memory),
    ("Step", step_sections.step),
    ("Throughput", step_sections.throughput),
    ("What binds", step_sections.binding),
    ("Run", run_sections.run),
    ("Assumptions that matter most", run_sections.assumptions),
    ("Where the step time comes from", run_sections.basis),
    ("Not modelled", run_sections.not_modelled),
)


def print_run(result: RunResult, file: TextIO | None = None, width: int | None = None) -> None:
    """Writes the report to `file` (default: standard output), `width` columns wide (default: `columns_of` the file)."""
    out = sys.stdout if file is None else file
    print_plainly(lambda columns: run_report(result, columns), out, width)


def print_plainly(render: Callable[[int], RenderableType], out: TextIO, width: int | None = None) -> None:
    """Writes what `render` makes of the number of columns, in the colours and letters that `out` can show."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    columns = min(max(width or columns_of(out), MIN_WIDTH), MAX_WIDTH)
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=columns, force_terminal=_is_terminal(out), highlight=False, markup=False, emoji=False
    )
    console.print(render(columns))
    lines = (line.rstrip() for line in buffer.getvalue().splitlines())
    words = "\n".join(lines) + "\n"
    if not _can_encode(words, encoding):
        words = words.translate(ASCII).encode(encoding, errors="replace").decode(encoding)
    out.write(words)


def columns_of(out: TextIO) -> int:
    """Columns of an output: what COLUMNS says, else the terminal's, else DEFAULT_WIDTH."""
    if _is_terminal(out):
        return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isascii() and given.isdigit() and int(given) > 0 else DEFAULT_WIDTH


def run_report(result: RunResult, width: int) -> RenderableType:
    """The whole report as one rich renderable, `width` columns wide."""
    parts: list[RenderableType] = [run_sections.heading(result)]
    for title, section in SECTIONS:
        body = list(section(result, width - INDENT))
        if body:
            parts += [Text(), Text(title, style="bold cyan"), *(Padding(each, (0, 0, 0, INDENT)) for each in body)]
    return Group(*parts)


def _is_terminal(out: TextIO) -> bool:
    return bool(getattr(out, "isatty", lambda: False)())


def _can_encode(words: str, encoding: str) -> bool:
    try:
        words.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
