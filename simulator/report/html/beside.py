"""Several scenarios side by side: the figures of all, and of each what differs from the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simulator.report import headline
from simulator.report.comparison_text import inputs, names, shown_results, step_change
from simulator.report.figures import compare as figures
from simulator.report.html.blocks import Block, Chapter, Section, Table, Words, section
from simulator.report.html.charts import chart
from simulator.results.comparison import Comparison
from simulator.results.run_result import RunResult


def side_by_side(results: Sequence[RunResult], comparison: Comparison) -> Chapter:
    """The chapter that stands before those of the scenarios (at least two)."""
    shown = names(comparison)
    found = [_figures(results, comparison, shown)]
    found += [
        section(f"beside{place + 1}", f"{name} beside {shown[0]}", list(_differences(comparison, place)))
        for place, name in enumerate(shown[1:])
    ]
    return Chapter("beside", "", (), tuple(each for each in found if each is not None))


def _figures(results: Sequence[RunResult], comparison: Comparison, shown: Sequence[str]) -> Section | None:
    columns = [{each.key: each for each in headline.figures(result)} for result in results]
    labels = {each.key: each.label for column in columns for each in column.values()}
    rows = tuple(
        (label, *(_with_range(column[key].value, column[key].range) if key in column else "–" for column in columns))
        for key, label in labels.items()
    )
    table = Table("The figures of each, with 90 % intervals", ("", *shown), rows)
    picture = chart(
        "beside-results", f"Results in per cent of those of {shown[0]}", figures.results_alt(comparison),
        lambda mode: figures.results_figure(comparison, mode),
    )  # fmt: skip
    warnings = dict.fromkeys(warning for beside in comparison.others for warning in beside.warnings)
    has_bars = any(beside.results for beside in comparison.others)
    notes = [Words(f"{warning[0].upper()}{warning[1:]}.", "warning") for warning in warnings]
    return section("summary", "Side by side", [table, *notes, picture if has_bars else None])


def _differences(comparison: Comparison, place: int) -> Iterator[Block]:
    """What differs in inputs and results, and where the difference of the step comes from."""
    beside, shown = comparison.others[place], names(comparison)
    pair = (shown[0], shown[place + 1])
    yield Words(step_change(comparison, place))
    changed = inputs(beside)
    if changed:
        yield Table("Changed inputs", ("key", *pair), changed, frozenset({1, 2}))
    rows = tuple(
        (row.label, _with_range(row.before, row.before_range), _with_range(row.after, row.after_range), row.change)
        for row in shown_results(beside)
    )
    if rows:
        yield Table("Changed results, the biggest effect first", ("", *pair, "change"), rows)
    if beside.step_difference:
        yield chart(
            f"beside{place + 1}-step", "The step's difference by category; the parts add up",
            figures.waterfall_alt(comparison, place), lambda mode: figures.waterfall_figure(comparison, mode, place=place),
        )  # fmt: skip
    if not changed and not rows:
        yield Words("Nothing differs.")


def _with_range(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value
