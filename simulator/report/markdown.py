"""The report as Markdown for a pull request: the figures side by side, the rest folded; at most 60 lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from simulator.report import facts, headline, narrowing, numbers, phase_section
from simulator.report.comparison_markdown import changed
from simulator.report.comparison_text import names
from simulator.report.formats import ReportItem
from simulator.report.markdown_text import code, folded, prose, table
from simulator.report.timeline_words import category_words
from simulator.results.comparison import Comparison, compare
from simulator.results.run_result import RunResult
from simulator.results.step_result import BASIS_NAMES, AssumptionRow

MAX_LINES: Final = 60
MAX_COLUMNS: Final = 4
"""Scenarios that stand side by side; more of them are a line each."""
MAX_ROWS: Final = 24
MAX_PHASES: Final = 6
"""Phases that are told; the last line is that of all."""
NUM_BINDINGS: Final = 3
NUM_ASSUMPTIONS: Final = 5
NUM_NOTES: Final = 8
MAX_NOTE: Final = 300
MAX_LEFT_OUT: Final = 900


def document(items: Sequence[ReportItem]) -> str:
    """The text of at least one item, with a final newline."""
    results = [item.result for item in items]
    comparison = compare(results[0], results[1:MAX_ROWS]) if len(results) > 1 else None
    shown = (facts.name(results[0]),) if comparison is None else names(comparison)
    if len(results) > MAX_COLUMNS:
        lines = [f"### {len(results)} training runs", "", *_by_row(results, shown), ""]
    else:
        lines = [f"### Training run: {', '.join(map(code, shown))}", "", *_by_column(results, shown), ""]
    lines += _one(items[0]) if comparison is None else _beside(comparison, shown)
    lines += _provenance(items)
    return "\n".join(lines) + "\n"


def _by_column(results: Sequence[RunResult], shown: Sequence[str]) -> list[str]:
    """Figures by line, scenarios by column; of one scenario also the ranges and notes in columns of their own."""
    if len(results) == 1:
        rows = [(each.label, f"**{each.value}**", each.range, each.note) for each in headline.figures(results[0])]
        return table(["", "predicted", "90 % interval", ""], rows)
    columns = [{each.key: each for each in headline.figures(result)} for result in results]
    labels = {each.key: each.label for column in columns for each in column.values()}
    keys = sorted(labels, key=lambda key: min(list(column).index(key) for column in columns if key in column))
    rows_of_many = [
        [labels[key], *(_cell(column[key]) if key in column else "–" for column in columns)] for key in keys
    ]
    return table(["", *map(code, shown)], rows_of_many)


def _cell(figure: headline.Figure) -> str:
    return f"**{figure.value}**" + (f" ({figure.range})" if figure.range else "")


def _by_row(results: Sequence[RunResult], shown: Sequence[str]) -> Iterator[str]:
    labels = [each.label for each in headline.figures(results[0])]
    rows = []
    for result, name in zip(results[:MAX_ROWS], shown, strict=True):
        found = {each.label: each.value for each in headline.figures(result)}
        rows.append([code(name), *(found.get(label, "–") for label in labels)])
    yield from table(["", *labels], rows)
    if len(results) > MAX_ROWS:
        yield f"\nand {len(results) - MAX_ROWS} more"


def _beside(comparison: Comparison, shown: Sequence[str]) -> Iterator[str]:
    """What makes scenarios unlike in kind, and of few of them what changed against the first."""
    warnings = dict.fromkeys(warning for each in comparison.others for warning in each.warnings)
    if warnings:
        yield f"> {prose(facts.cut('; '.join(warnings), MAX_LEFT_OUT))}"
        yield ""
    if len(shown) <= MAX_COLUMNS:
        for name, each in zip(shown[1:], comparison.others, strict=True):
            yield f"{code(name)} against {code(shown[0])}: {changed(each)}"
            yield ""


def _one(item: ReportItem) -> Iterator[str]:
    """What stands below the figures of a single scenario."""
    result = item.result
    for line in (facts.model_line(result), facts.machines_line(result), facts.batch_line(result)):
        yield f"{prose(line)}  "
    yield prose(facts.stack_line(result))
    yield ""
    bindings = sorted(result.step.binding, key=lambda each: -each.seconds)[:NUM_BINDINGS]
    if bindings:
        found = [f"{category_words(each.what)} ({numbers.seconds(each.seconds)} a step)" for each in bindings]
        yield f"**What binds:** {prose(', '.join(found))}"
        yield ""
    if notes := facts.step_notes(result.step):
        yield prose(" ".join(notes))
        yield ""
    if len(result.phases) > 1:
        labels, rows = phase_section.table(result)
        yield from folded(f"{len(result.phases)} phases", table(labels, [*rows[:-1][:MAX_PHASES], rows[-1]]))
        yield ""
    if things := narrowing.things(result):
        yield "**What would change the answer most:**"
        yield from (f"{place}. {prose(words)}" for place, words in enumerate(things, start=1))
        yield ""
    moving = sorted(
        (row for row in result.assumptions if facts.moves(row, result)), key=facts.effect_size, reverse=True
    )
    if moving and len(result.phases) == 1:  # phases take the lines that there are
        yield from folded("Assumptions that move the GPU-hours most", _assumptions(moving[:NUM_ASSUMPTIONS], result))
        yield ""
    notes = _notes(result)
    if notes:
        yield from folded("Warnings, and what a changed key dropped", notes)
        yield ""
    shares = ", ".join(
        f"{name} {numbers.percent(share)}" for name in BASIS_NAMES if (share := getattr(result.basis, name)) > 0
    )
    left_out = facts.cut("; ".join(result.not_modelled), MAX_LEFT_OUT)
    yield from folded(
        "What it rests on", [f"Step time by where it comes from: {shares}.", "", f"Not modelled: {prose(left_out)}."]
    )
    yield ""


def _assumptions(rows: Iterable[AssumptionRow], result: RunResult) -> list[str]:
    cells = [
        (
            code(row.key),
            code(numbers.by_key(row.key, row.value)),
            prose(facts.range_of(row)),
            facts.effect_of(row, result),
        )
        for row in rows
    ]
    return table(["assumption", "value", "range", "effect"], cells)


def _notes(result: RunResult) -> list[str]:
    found = [*result.warnings, *(f"dropped: {each}" for each in result.dropped)]
    lines = [f"- {prose(facts.cut(each, MAX_NOTE))}" for each in found[:NUM_NOTES]]
    return [*lines, *([f"- and {len(found) - NUM_NOTES} more"] if len(found) > NUM_NOTES else [])]


def _provenance(items: Sequence[ReportItem]) -> Iterator[str]:
    """Version, hashes and seed, so that anybody can compute it again."""
    if any(headline.is_one_step(item.result) for item in items):
        yield f"{headline.ONE_STEP}  "
    whys = dict.fromkeys(item.why_no_timeline for item in items if item.why_no_timeline)
    if whys:
        yield f"{prose(facts.cut('; '.join(whys), MAX_NOTE))}  "
    if len(items) > MAX_COLUMNS:
        versions = dict.fromkeys(item.result.version for item in items)
        yield f"<sub>moesim {', '.join(code(each) for each in versions)}</sub>"
        return
    for item in items:
        result = item.result
        yield (
            f"<sub>moesim {code(result.version)} · scenario {code(result.scenario_sha256[:12])} · stack "
            f"{code(result.stack)} {code(result.stack_sha256[:12])} · seed {result.seed}</sub>"
        )
