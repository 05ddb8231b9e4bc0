"""The files that a report can be: one module a format, each registered here.

A member imports what it needs only when it renders: `-f json` must not wait for the libraries of the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from simulator import not_modelled
from simulator.registry import Family, register_members
from simulator.results.run_result import RunResult
from simulator.results.timeline import StepTimeline


@dataclass(frozen=True)
class ReportItem:
    """One scenario of a report.

    timeline: slices of one random draw of the step; None where the step was not simulated here, and then
    why_no_timeline is the sentence that takes the picture's place ("" beside a timeline).
    """

    result: RunResult
    timeline: StepTimeline | None = None
    why_no_timeline: str = ""


Render = Callable[[Sequence[ReportItem]], bytes]
"""The whole file, of at least one item; the same items give the same bytes."""


@dataclass(frozen=True)
class ReportFormat:
    """A kind of file. name: as -f takes it; suffix: with its dot; media_type: as a browser is told.

    has_timeline: whether it shows one, so that other formats need not wait for it.
    """

    name: str
    suffix: str
    media_type: str
    render: Render
    has_timeline: bool = False


MAX_FILE_NAME: Final = 60
FORMATS: Final[Family[ReportFormat]] = Family(
    "report format", planned=[entry.name for entry in not_modelled.entries("format")]
)


def register(name: str, suffix: str, media_type: str, render: Render, *, has_timeline: bool = False) -> ReportFormat:
    """Adds a format to the family. Raises NameTaken."""
    return FORMATS.add(name, ReportFormat(name, suffix, media_type, render, has_timeline))


def file_name(name: str, suffix: str) -> str:
    """A name for a file of a scenario of that name: letters, digits and hyphens of ASCII, no path, nothing hidden."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower())[:MAX_FILE_NAME].strip("-")
    return f"moesim-{words or 'report'}{suffix}"


def format_of_suffix(suffix: str) -> ReportFormat | None:
    """The format of a file's suffix, in whatever case; None where none has it."""
    return next((FORMATS[name] for name in FORMATS if FORMATS[name].suffix == suffix.lower()), None)


register_members(__name__, __path__)
