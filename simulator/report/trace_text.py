"""A trace beside a scenario as texts: for the terminal and as Markdown for a pull request."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TextIO

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from simulator.report import numbers
from simulator.report.layout import needed_width, plain_table, shortened, text
from simulator.report.markdown_text import code, folded, prose, table
from simulator.report.terminal import print_plainly
from simulator.report.timeline_words import CATEGORY_WORDS
from simulator.results.trace_comparison import ClassTime, TraceComparison

WORDS: Final[Mapping[str, str]] = {
    "gemm": "GEMM",
    "grouped_gemm": "grouped GEMM",
    "attention_fwd": "attention forward",
    "attention_bwd": "attention backward",
    "memory_bound": "memory-bound kernels",
    "quantise": "quantise, transpose",
    "optimizer": "optimizer",
    "other": "other kernels",
    "exposed_communication": "exposed communication",
    "host_transfers": "copies to and from the host",
    "idle": "idle",
}
"""Classes as people read them."""
PART_WORDS: Final[Mapping[str, str]] = {
    **CATEGORY_WORDS, "launch_gap": "launch gap", "launch": "launch latency", "softmax_loss": "softmax, losses",
}  # fmt: skip
OF_IT: Final = "of it "
NUM_PARTS: Final = 4
MAX_NAME: Final = 60
NOTE: Final = (
    "Kernels fall into classes by name, a scenario's operators by what they are; classes, exposed communication, copies and "
    "idle sum to the step. In a trace waits for slower ranks and for a pipeline's input are inside spinning collectives."
)
LAUNCH_NOTE: Final = "launch gap: the GPU was idle and the host had not begun to launch what came next"


def document(comparison: TraceComparison) -> str:
    """Markdown, with a final newline."""
    unit, rows = _rows(comparison)
    (predicted, *_) = comparison.others
    lines = [f"### {code(predicted.scenario)} beside the trace {code(comparison.base)}", ""]
    for warning in predicted.warnings:
        lines += [f"> {prose(warning)}", ""]
    lines += table(["", f"trace, {unit}", f"predicted, {unit}", f"difference, {unit}"], rows)
    lines += ["", *(f"- {prose(line)}" for line in _facts(comparison)), ""]
    lines += [*folded("what is in each class", (f"- {prose(line)}" for line in _insides(comparison))), ""]
    ranks = _rank_rows(comparison)
    if ranks:
        lines += [*table(RANK_HEADERS, ranks), ""]
    lines.append(f"<sub>{prose(NOTE)} moesim {prose(predicted.version)}</sub>")
    return "\n".join(lines) + "\n"


def print_comparison(comparison: TraceComparison, file: TextIO | None = None, width: int | None = None) -> None:
    """Writes it to `file` (default: standard output), `width` columns wide (default: as many as there are)."""
    print_plainly(lambda columns: comparison_report(comparison, columns), file or sys.stdout, width)


def comparison_report(comparison: TraceComparison, width: int) -> RenderableType:
    """Both sides by class, what is behind each, the ranks."""
    unit, rows = _rows(comparison)
    title = Text.assemble(
        text(shortened(comparison.others[0].scenario, MAX_NAME), "bold"),
        "  beside the trace  ",
        text(shortened(comparison.base, MAX_NAME), "bold"),
    )
    classes = plain_table("", f"trace, {unit}", f"predicted, {unit}", f"difference, {unit}")
    for row in rows:
        classes.add_row(*map(text, row))
    parts: list[RenderableType] = [title, Text(), Padding(classes, (0, 0, 0, 2))]
    parts += [Text(), Text("What is in it, the largest difference first", style="bold cyan")]
    parts += [Padding(text(line), (0, 0, 0, 2)) for line in _insides(comparison)]
    parts += [Text(), *(text(line) for line in _facts(comparison))]
    ranks = _rank_rows(comparison)
    if ranks:
        of_ranks = plain_table(*RANK_HEADERS)
        if needed_width(list(zip(RANK_HEADERS, *ranks, strict=True))) <= width:
            for row in ranks:
                of_ranks.add_row(*map(text, row))
            parts += [Text(), of_ranks]
    parts += [Text(), Text(NOTE, style="dim")]
    return Group(*parts)


RANK_HEADERS: Final = ("rank", "step", "predicted", "exposed comm.", "predicted", "idle", "predicted")


def _rank_rows(comparison: TraceComparison) -> list[list[str]]:
    """A line each of several ranks."""
    ranks = comparison.trace.by_rank
    if len(ranks) < 2:
        return []
    rows = []
    for each in ranks:
        found = {row.class_: row for row in each.classes}
        cells = [str(each.rank), numbers.seconds(each.step_s), numbers.seconds(each.predicted_step_s)]
        for name in ("exposed_communication", "idle"):
            row = found.get(name)
            cells += [numbers.seconds(row.trace_s), numbers.seconds(row.predicted_s)] if row else ["0 s", "0 s"]
        rows.append(cells)
    return rows


def _rows(comparison: TraceComparison) -> tuple[str, list[list[str]]]:
    """Unit, and a line a class, the largest difference first, under that of kernels bound by memory what it is made of; the
    step last.
    """
    times, predicted = comparison.trace, comparison.others[0]
    lines: list[tuple[str, float, float, float]] = []
    for row in sorted(times.classes, key=lambda each: -abs(each.difference_s)):
        lines.append((WORDS[row.class_], row.trace_s, row.predicted_s, row.difference_s))
        lines += [
            (f"{OF_IT}{_words(each.class_)}", each.trace_s, each.predicted_s, each.difference_s)
            for each in row.of_it or ()
        ]
    lines.append(("step", times.step_s, predicted.step_s, predicted.step_s - times.step_s))
    labels, *columns = zip(*lines, strict=True)
    (unit, traced), (_, expected), (_, changes) = (
        numbers.column_of_seconds(column, times.step_s) for column in columns
    )
    rows = zip(labels, traced, expected, map(_signed, changes), strict=True)
    return unit, [list(row) for row in rows]


def _signed(shown: str) -> str:
    """A difference with its sign; one that is shown as nothing has none."""
    if not shown.strip("-0."):
        return shown.lstrip("-")
    return shown if shown.startswith("-") else f"+{shown}"


def _insides(comparison: TraceComparison) -> Iterator[str]:
    """Of each class its largest parts on both sides."""
    for row in sorted(comparison.trace.classes, key=lambda each: -abs(each.difference_s)):
        sides = [_parts(row, row.trace_parts), _parts(row, row.predicted_parts)]
        if any(sides):
            yield f"{WORDS[row.class_]}: trace {sides[0] or '–'}; predicted {sides[1] or '–'}"


def _parts(row: ClassTime, parts: Mapping[str, float]) -> str:
    """The largest, unless the only one bears the class's name."""
    if list(parts) == [row.class_]:
        return numbers.seconds(parts[row.class_])
    shown = [f"{_words(name)} {numbers.seconds(seconds)}" for name, seconds in list(parts.items())[:NUM_PARTS]]
    return ", ".join(shown) + (f" and {len(parts) - NUM_PARTS} more" if len(parts) > NUM_PARTS else "")


def _words(name: str) -> str:
    return PART_WORDS.get(name, name.replace("_", " "))


def _facts(comparison: TraceComparison) -> Sequence[str]:
    times, predicted = comparison.trace, comparison.others[0]
    change = numbers.signed_percent(predicted.step_s / times.step_s - 1.0)
    steps = "1 step" if times.steps == 1 else f"the mean of {times.steps} steps"
    gpus = ", ".join(times.gpus) or "a GPU that is not named"
    found = [
        f"step: {numbers.seconds(times.step_s)} in the trace ({steps}, {len(times.by_rank)} x {gpus}), "
        f"{numbers.seconds(predicted.step_s)} predicted ({change}; stack {predicted.stack}, {predicted.stack_kind})"
    ]
    for side, each in (("trace", times.communication.trace), ("predicted", times.communication.predicted)):
        if each.total_s or each.exposed_s:
            found.append(
                f"communication, {side}: {numbers.seconds(each.total_s)}, of it {numbers.seconds(each.overlapped_s)} beside "
                f"compute; exposed {numbers.seconds(each.exposed_s)}"
            )
    gap = "not recorded" if times.launch_gap_s is None else numbers.seconds(times.launch_gap_s)
    found.append(
        f"idle: {numbers.seconds(times.idle_s)} in the trace, of it launch gaps {gap}; "
        f"{numbers.seconds(times.predicted_idle_s)} predicted, of it waits for the host "
        f"{numbers.seconds(times.predicted_launch_gap_s)} ({LAUNCH_NOTE})"
    )
    if times.unclassified:
        named = ", ".join(
            f"{shortened(each.name, MAX_NAME)} {numbers.seconds(each.seconds)} "
            f"({numbers.percent(each.seconds / times.step_s)})"
            for each in times.unclassified[:NUM_PARTS]
        )
        more = len(times.unclassified) - NUM_PARTS
        found.append(f"kernels of no known class: {named}" + (f" and {more} more" if more > 0 else ""))
    return found
