"""The terminal report of a run, in the order of the questions that people ask: does it fit, how long is a step, how
good is that, what holds it back, what does the run cost, what was assumed, how well founded is it, what is left out.

Numbers come from `report.numbers`; nothing is computed here but shares and sums of what is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Final, TextIO

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from simulator.report import collective_section, parts_section, phase_section, run_sections, step_sections
from simulator.report.terminal import print_plainly
from simulator.results.run_result import RunResult

INDENT: Final = 2
Section = Callable[[RunResult, int], Iterable[RenderableType]]
SECTIONS: Final[tuple[tuple[str, Section], ...]] = (
    ("Memory", step_sections.memory),
    ("Step", step_sections.step),
    ("Throughput", step_sections.throughput),
    ("What binds", step_sections.binding),
    ("Collectives", collective_section.collectives),
    ("Run", run_sections.run),
    ("Phases", phase_section.phases),
    ("Hours of other kinds than steps", parts_section.parts),
    ("Assumptions that matter most", run_sections.assumptions),
    ("Where the step time comes from", run_sections.basis),
    ("Not modelled", run_sections.not_modelled),
    ("What would change the answer most", run_sections.things),
)


def print_run(result: RunResult, file: TextIO | None = None, width: int | None = None) -> None:
    """Writes the report to `file` (default: standard output), `width` columns wide (default: `columns_of` the file)."""
    out = sys.stdout if file is None else file
    print_plainly(lambda columns: run_report(result, columns), out, width)


def run_report(result: RunResult, width: int) -> RenderableType:
    """The whole report as one rich renderable, `width` columns wide."""
    parts: list[RenderableType] = [run_sections.heading(result)]
    for title, section in SECTIONS:
        body = list(section(result, width - INDENT))
        if body:
            parts += [Text(), Text(title, style="bold cyan"), *(Padding(each, (0, 0, 0, INDENT)) for each in body)]
    return Group(*parts)
