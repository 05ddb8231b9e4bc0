"""The tables of `moesim validate --cases`, as headers and cells: the terminal and Markdown show the same ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from simulator.report import numbers
from validation.instrument.change import FIGURES
from validation.instrument.sign_tables import sign_tables
from validation.instrument.table import NO_FIGURE, NUM_MOVED, Cells, Table, share

SHOWN: Final[Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "mape": ("mean", numbers.percent),
    "median": ("median", numbers.percent),
    "p90": ("p90", numbers.percent),
    "bias": ("bias", numbers.signed_percent),
    "coverage_90": ("inside", numbers.percent),
    "half_width": ("half-width", numbers.percent),
    "interval_score": ("score", "{:.2f}".format),
}
"""Figure of `statistics` → its column, and how it is written."""
STATISTICS: Final = ("rows", *(header for header, _ in SHOWN.values()))
SPARE: Final = (3, 4, 8)
"""Columns of the statistics that narrow terminals do without."""
NUM_PARTS: Final = 4
"""Largest parts of a step that are shown."""
NUM_MISSED: Final = 5
COMPARED: Final = "Beside the older document"
"""How the note of a comparison begins, which is shown where nothing moved too."""


def tables(document: Mapping[str, Any]) -> list[Table]:
    """Those of a document of `moesim validate --cases`, and of what a change moved where it was compared."""
    told = document["summary"]
    found = [
        whole(told, document.get("left_out")),
        *groups(told),
        *sign_tables(told["pairs"]),
        worst_rows(told),
        skipped(told),
    ]
    found += [mechanisms(document)] if "mechanisms" in document else []
    if "compared" in document:
        found += comparison(document["compared"])
    return [found[0], *(table for table in found[1:] if table.rows or table.note.startswith(COMPARED))]


LEFT_OUT: Final[Mapping[str, str]] = {
    "gpu": "without anything that was measured on the row's GPU or on chips of equal datasheet",
    "source": "without what the row's own source measured",
    "family": "without anything that was measured on the row's family of GPUs",
}


def whole(told: Mapping[str, Any], left_out: str | None = None) -> Table:
    """The summary of the eligible rows. left_out: as in the document."""
    note = f"{_rows(told['n'])}, {told['predicted']} predicted, {told['eligible']} of them count. "
    if told["missed"]:
        note += f"Of those that could, {len(told['missed'])} were not: {', '.join(told['missed'][:NUM_MISSED])}. "
    note += "Errors are of the step's time, "
    note += "predicted over measured: below 0 a prediction is too fast. mean: of the errors' sizes; p90: nine in ten are at "
    note += "most so large; inside: measured within the 90 % interval; half-width: median of half of it, over the prediction; "
    note += f"score: of the interval, lower is better.{_floor(told['noise'])}"
    rows = [("all", *_statistics(told, told["eligible"]))] if told["eligible"] else []
    title = f"Measured runs, predicted {LEFT_OUT[left_out]}" if left_out else "Measured runs"
    return Table(title, ("", *STATISTICS), rows, note, spare=SPARE)


def _floor(noise: Sequence[Mapping[str, Any]]) -> str:
    """How far rows are from one another that are equal in what they record."""
    told = [f"{numbers.percent(each['mape'])} ({each['kind']})" for each in noise if each["mape"] is not None]
    if not told:
        return ""
    text = f" Rows equal in everything that they record differ from their own median by {' and '.join(told)}: the floor, which "
    return f"{text}no prediction from what is recorded goes below."


def groups(told: Mapping[str, Any]) -> list[Table]:
    """A table for each way of grouping; that of the kinds has their noise floors beside."""
    names = dict.fromkeys(each["by"] for each in told["by_group"])
    floors = {("kind", each["kind"]): each["mape"] for each in told["noise"]}
    found = []
    for name in names:
        members = [each for each in told["by_group"] if each["by"] == name]
        beside = [share(floors.get((name, each["value"]))) for each in members] if name == "kind" else []
        rows = [(each["value"], *_statistics(each, each["n"])) for each in members]
        rows = [(*row, floor) for row, floor in zip(rows, beside, strict=True)] if beside else rows
        found.append(Table(f"By {name}", (name, *STATISTICS, *(["floor"] if beside else [])), rows, spare=SPARE))
    return found


def _statistics(each: Mapping[str, Any], count: int) -> Cells:
    return (str(count), *(show(each[key]) for key, (_, show) in SHOWN.items()))


def worst_rows(told: Mapping[str, Any]) -> Table:
    """The rows that are furthest off, with the largest parts of the predicted step."""
    rows = [
        (
            each["case_id"], numbers.seconds_to_compare(each["measured_step_s"]),
            numbers.seconds_to_compare(each["predicted_step_s"]), numbers.signed_percent(each["step_error_frac"]),
            _parts(each["parts_s"], each["predicted_step_s"]),
        )
        for each in told["worst"]
    ]  # fmt: skip
    note = "The largest parts of the predicted step, as shares of it."
    return Table("Furthest off", ("run", "measured", "predicted", "error", "parts"), rows, note, left=(4,))


def _parts(parts_s: Mapping[str, float], step_s: float) -> str:
    largest = sorted(parts_s.items(), key=lambda each: (-each[1], each[0]))[:NUM_PARTS]
    return ", ".join(f"{name} {numbers.rough_percent(seconds / step_s)}" for name, seconds in largest)


def skipped(told: Mapping[str, Any]) -> Table:
    """Why rows were not predicted."""
    rows = [(each["reason"], str(each["rows"]), str(each["alone"])) for each in told["skipped"]]
    note = "alone: rows that nothing else holds back."
    return Table(f"Not predicted: {_rows(told['n'] - told['predicted'])}", ("because of", "rows", "alone"), rows, note)


def mechanisms(document: Mapping[str, Any]) -> Table:
    """What is lost without each mechanism: errors of the rows, and the step of DeepSeek-V3."""
    told, step_s = document["summary"], document["deepseek_v3_step_s"]
    kinds = {each["value"]: each for each in told["by_group"] if each["by"] == "kind"}
    whole = {
        f"{prefix}{key}": figures[key]
        for prefix, figures in (("", told), ("dense_", kinds.get("dense")), ("moe_", kinds.get("MoE")))
        if figures and "mape" in figures
        for key in ("mape", "bias")
    }
    rows = [("all mechanisms", NO_FIGURE, *_errors(whole), numbers.seconds_to_compare(step_s), NO_FIGURE)]
    rows += [
        (
            each["name"], str(each["moved"]), *_errors(each), numbers.seconds_to_compare(each["deepseek_v3_step_s"]),
            numbers.signed_percent(each["deepseek_v3_step_s"] / step_s - 1.0),
        )
        for each in document["mechanisms"]
    ]  # fmt: skip
    headers = ("without", "rows moved", "mean", "bias", "dense", "bias", "MoE", "bias", "DeepSeek-V3", "change")
    note = "Each row of this table has one mechanism switched off. rows moved: counted runs whose step it changes; mean: of "
    note += "their errors' sizes, all rows, dense and MoE models; DeepSeek-V3: the preset's step, and its change."
    return Table("What each mechanism is worth", headers, rows, note, spare=(1, 5, 7))


def _errors(figures: Mapping[str, Any]) -> Cells:
    """Mean and bias of all rows, of dense and of MoE rows."""
    return tuple(
        SHOWN[key][1](figures[prefix + key]) if prefix + key in figures else NO_FIGURE
        for prefix in ("", "dense_", "moe_")
        for key in ("mape", "bias")
    )


def comparison(found: Mapping[str, Any]) -> list[Table]:
    """What a change moved: groups before and after, rows moved, gained and lost."""
    moved, gained, lost = found["moved"], found["gained"], found["lost"]
    group_rows = [
        (f"{each['by']}: {each['value']}", _pair(each["n"], str), *(_pair(each[key], SHOWN[key][1]) for key in FIGURES))
        for each in found["groups"]
        if _is_moved(each)
    ]
    moved_rows = [
        (each["case_id"], numbers.signed_percent(each["change_frac"]), _change(each["step_error_before"]),
         _change(each["step_error_after"]))
        for each in moved[:NUM_MOVED]
    ]  # fmt: skip
    note = f"{COMPARED}: {_rows(len(moved))} moved, {len(gained)} are predicted now, {len(lost)} no longer; "
    note += f"{len(found['only_new'])} are new, {len(found['only_old'])} are only there."
    if found["other_quantity"]:
        note += f" Read from another column, and not compared: {', '.join(found['other_quantity'][:NUM_MISSED])}."
    title = f"Moved: {_rows(len(moved))}"
    if len(moved) > NUM_MOVED:
        title += f", the {NUM_MOVED} furthest"
    return [
        Table(
            "Before -> now, where it moved",
            ("", "rows", *(SHOWN[key][0] for key in FIGURES)),
            group_rows,
            f"{note}{_moved_signs(found['pairs'])}",
            spare=(3, 6, 7),
        ),
        Table(title, ("run", "step's time", "error before", "error now"), moved_rows),
        Table(f"Predicted now: {_rows(len(gained))}", ("run", "was"), _named(gained, "was")),
        Table(f"No longer predicted: {_rows(len(lost))}", ("run", "because of"), _named(lost, "because")),
    ]


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _is_moved(group: Mapping[str, Any]) -> bool:
    """Whether a figure of the group changed, of those that both documents have."""
    figures = [group[key] for key in ("n", *FIGURES)]
    return any(before != now for before, now in figures if None not in (before, now) or 0 in group["n"])


def _moved_signs(found: Mapping[str, Any]) -> str:
    """What became of the pairs' signs; "" where the older document has none."""
    if found["right"][0] is None:
        return ""
    told = f" Signs of pairs: {_pair(found['right'], numbers.percent)} of {_pair(found['n'], str)} right"
    return f"{told}; {len(found['newly_wrong'])} newly wrong, {len(found['newly_right'])} newly right."


def _pair(values: Sequence[Any], show: Any) -> str:
    before, now = (NO_FIGURE if value is None else show(value) for value in values)
    return before if before == now else f"{before} -> {now}"


def _change(value: float | None) -> str:
    return NO_FIGURE if value is None else numbers.signed_percent(value)


def _named(rows: Sequence[Mapping[str, Any]], key: str) -> list[Cells]:
    return [(each["case_id"], str(each[key] or NO_FIGURE)) for each in rows[:NUM_MOVED]]
