"""How right the method is: predicted beside published, of every run that was compared, whatever the scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from simulator.report import facts, numbers
from simulator.report.accuracy import Accuracy, AccuracyRow, accuracy_of, chosen, nearest, read_accuracy, speeds, worst
from simulator.report.accuracy_text import gpu_of, headline, shown
from simulator.report.figures.accuracy import scatter_alt, scatter_figure
from simulator.report.html.blocks import Block, Folded, Section, Table, Words, section
from simulator.report.html.charts import chart
from simulator.results.run_result import RunResult

NUM_ROWS: Final = 10
HEADERS: Final = ("run", "GPU", "model", "figure", "predicted", "90 % interval", "published", "speed's error", "source")
TEXT: Final = frozenset({1, 2, 3, 8})
MAX_SOURCE: Final = 70


def accuracy(results: Sequence[RunResult], key: str) -> Section | None:
    """Errors of all published runs and of those that are most like the scenarios, and the largest ones."""
    rows = speeds(read_accuracy())
    found = accuracy_of(rows)
    if found is None:
        return None
    like = _like(rows, results)
    like_words = f"Published runs that are most like {'this one' if len(results) == 1 else 'these'}"
    return section(
        key,
        "How right the method is",
        [
            Words(f"{' '.join(headline(found))} What is not modelled is lost time."),
            chart(
                f"{key}-scatter",
                "Predicted against measured speed, with 90 % intervals",
                scatter_alt(rows),
                lambda mode: scatter_figure(rows, mode),
            ),
            _groups(rows, like),
            *([_table(like_words, like)] if like else []),
            Folded(f"The {NUM_ROWS} largest errors", (_table("The largest errors of all", worst(rows, NUM_ROWS)),)),
        ],
    )


def _like(rows: Sequence[AccuracyRow], results: Sequence[RunResult]) -> tuple[AccuracyRow, ...]:
    found = [
        row
        for result in results
        for row in nearest(rows, gpu_of(result), facts.label(result.scenario.get("model")), NUM_ROWS)
    ]
    return tuple(dict.fromkeys(found))[: NUM_ROWS * 2]


def _groups(rows: Sequence[AccuracyRow], like: Sequence[AccuracyRow]) -> Block:
    named = (
        ("all", rows),
        ("runs with a case file of their own", chosen(rows, group="case")),
        ("rows of published tables", chosen(rows, group="published")),
        ("most like this report's", like),
    )
    found = [(name, each) for name, group in named if (each := accuracy_of(group)) is not None]
    headers = ("", "runs", "mean error", "median", "bias", "in the 90 % interval")
    return Table("Error of the predicted speed", headers, tuple((name, *_errors(each)) for name, each in found))


def _errors(found: Accuracy) -> tuple[str, ...]:
    return (
        numbers.whole(found.n), numbers.percent(found.mape), numbers.percent(found.median),
        numbers.signed_percent(found.bias), numbers.percent(found.coverage),
    )  # fmt: skip


def _table(caption: str, rows: Sequence[AccuracyRow]) -> Table:
    return Table(caption, HEADERS, tuple(map(_cells, rows)), TEXT)


def _cells(row: AccuracyRow) -> tuple[str, ...]:
    each = shown(row)
    return (
        each.case, each.gpu, each.model, each.figure, each.predicted, each.interval, each.measured, each.error,
        facts.cut(each.source, MAX_SOURCE),
    )  # fmt: skip
