"""The page of one scenario or several, and the file that it is laid out in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from simulator.report import facts
from simulator.report.comparison_text import names
from simulator.report.figures.timeline import OVERVIEW_BARS as MAX_BARS
from simulator.report.formats import ReportItem
from simulator.report.html import accuracy, assumptions, beside, inputs, memory, ranges, run, step, summary, trust
from simulator.report.html.blocks import Chapter, Page
from simulator.report.theme import FONT, PAGES, VERDICT
from simulator.results.comparison import compare

MAX_TITLE: Final = 120
MAX_IN_FULL: Final = 5
"""Scenarios that are told in full; of more each is told in short, as the file would grow too large to be sent."""
IN_SHORT: Final = "Each of so many scenarios is told in short: a report of its own tells one in full."
TEMPLATES: Final = Path(__file__).parent.parent / "templates"
_SCRIPT: Final = TEMPLATES / "report.js"


def render(items: Sequence[ReportItem]) -> bytes:
    """The file: one page that asks nobody for anything."""
    environment = _environment()
    scripts = (get_plotlyjs(), _SCRIPT.read_text(encoding="utf-8"))
    text = environment.get_template("report.html").render(
        page=page(items),
        pages=PAGES,
        verdict=VERDICT,
        font=Markup(FONT),  # noqa: S704
        scripts=tuple(map(_as_script, scripts)),
        policy=_policy(scripts),
    )
    return text.encode()


def page(items: Sequence[ReportItem]) -> Page:
    """What stands in the report of at least one scenario."""
    results = [item.result for item in items]
    found = accuracy.accuracy(results, "accuracy")
    method = Chapter("method", "" if len(items) == 1 else "The method", (), (found,) if found else ())
    foot = f"moesim {', '.join(dict.fromkeys(result.version for result in results))}"
    if len(items) == 1:
        who = (facts.model_line(results[0]), facts.machines_line(results[0]))
        return Page(facts.name(results[0]), who, (_chapter(items[0], "", "", MAX_BARS), method), foot)
    comparison = compare(results[0], results[1:])
    shown = names(comparison)
    chapters = [
        _chapter(item, f"s{place + 1}-", name, MAX_BARS // len(items) if len(items) <= MAX_IN_FULL else 0)
        for place, (item, name) in enumerate(zip(items, shown, strict=True))
    ]
    lead = (IN_SHORT,) if len(items) > MAX_IN_FULL else ()
    title = facts.cut(" beside ".join(shown), MAX_TITLE)
    return Page(title, lead, (beside.side_by_side(results, comparison), *chapters, method), foot)


def _chapter(item: ReportItem, prefix: str, title: str, max_bars: int) -> Chapter:
    """One scenario. title: "" where it is the only one; max_bars: of its timeline, 0 for a scenario that is told in short."""
    result = item.result
    found = [
        summary.summary(result, f"{prefix}summary"),
        trust.notes(result, f"{prefix}warnings"),
        inputs.inputs(result, f"{prefix}inputs", with_all=max_bars > 0),
    ]
    if max_bars:
        found += [
            step.timeline(item, f"{prefix}timeline", max_bars),
            step.where_time_goes(result, f"{prefix}time"),
            memory.memory(result, f"{prefix}memory"),
        ]
    found.append(run.phases(result, f"{prefix}phases"))
    if max_bars:
        found += [
            ranges.ranges(result, f"{prefix}ranges"),
            assumptions.assumptions(result, f"{prefix}assumptions"),
            trust.basis(result, f"{prefix}basis"),
            run.what_it_contains(result, f"{prefix}contents"),
            trust.not_modelled(result, f"{prefix}not-modelled"),
        ]
    found.append(trust.provenance(result, f"{prefix}provenance"))
    lead = (facts.model_line(result), facts.machines_line(result)) if title else ()
    return Chapter(f"{prefix}chapter", title, lead, tuple(each for each in found if each is not None))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _as_script(source: str) -> Markup:
    """A script of ours or plotly's own, that no scenario is part of. Raises ValueError where it would end its element."""
    if "</script" in source.lower() or "<!--" in source:
        raise ValueError("a script that cannot stand inside a page")
    return Markup(source)  # noqa: S704


def _policy(scripts: Sequence[str]) -> str:
    """Content Security Policy: these scripts and no others, and no request to anybody."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
