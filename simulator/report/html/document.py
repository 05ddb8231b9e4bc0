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
from simulator.report.formats import ReportItem
from simulator.report.html import accuracy, assumptions, inputs, memory, run, step, summary, trust
from simulator.report.html.blocks import Chapter, Page, Section
from simulator.report.theme import FONT, PAGES, VERDICT

MAX_TITLE: Final = 120
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
    first = items[0].result
    names = " beside ".join(facts.name(item.result) for item in items)
    chapters = [_chapter(item, place, is_alone=len(items) == 1) for place, item in enumerate(items)]
    found = accuracy.accuracy([item.result for item in items], "accuracy")
    chapters.append(Chapter("method", "" if len(items) == 1 else "The method", (), (found,) if found else ()))
    return Page(
        title=facts.cut(names, MAX_TITLE),
        lead=(facts.model_line(first), facts.machines_line(first)) if len(items) == 1 else (),
        chapters=tuple(chapters),
        foot=f"moesim {first.version}",
    )


def _chapter(item: ReportItem, place: int, *, is_alone: bool) -> Chapter:
    result, prefix = item.result, "" if is_alone else f"s{place + 1}-"
    found = (
        summary.summary(result, f"{prefix}summary"),
        trust.notes(result, f"{prefix}warnings"),
        inputs.inputs(result, f"{prefix}inputs"),
        step.timeline(item, f"{prefix}timeline"),
        step.where_time_goes(result, f"{prefix}time"),
        memory.memory(result, f"{prefix}memory"),
        run.phases(result, f"{prefix}phases"),
        assumptions.assumptions(result, f"{prefix}assumptions"),
        trust.basis(result, f"{prefix}basis"),
        run.what_it_contains(result, f"{prefix}contents"),
        trust.not_modelled(result, f"{prefix}not-modelled"),
        trust.provenance(result, f"{prefix}provenance"),
    )
    there: tuple[Section, ...] = tuple(each for each in found if each is not None)
    lead = () if is_alone else (facts.model_line(result), facts.machines_line(result))
    return Chapter(f"{prefix}chapter", "" if is_alone else facts.name(result), lead, there)


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
