"""What was predicted, as blocks of the page: name of a block → Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any, Final

from simulator.report import markdown_text, numbers
from validation.instrument.show import markdown
from validation.instrument.table import Table
from validation.instrument.tables import LEFT_OUT, mechanisms, tables, worst_rows
from validation.page.explained import why
from validation.page.peers import peers_text

LEFT_OUT_GROUPS: Final = ("gpu", "kind", "precision", "framework", "software")
"""Groups that are shown of predictions without something; those of the whole are in the table of all."""
BY_PART: Final[Mapping[str, tuple[str, ...]]] = {
    "all": ("speed", "scatter", "furthest", "tables"),
    **{mode: (f"tables without {mode}",) for mode in LEFT_OUT},
    "mechanisms": ("mechanisms",),
    "": ("peers",),
}
"""Part → the blocks that are made of it; "": of no prediction."""


def blocks(documents: Mapping[str, Mapping[str, Any]], picture: str) -> dict[str, str]:
    """The blocks of the parts that are there. picture: address of the scatter as the page sees it."""
    found = {"peers": peers_text()}
    for name, told in documents.items():
        if name == "all":
            found |= _of_all(told, picture)
        elif name == "mechanisms":
            found["mechanisms"] = _of_mechanisms(told)
        else:
            found[f"tables without {name}"] = markdown(tables(_shorter(told))).strip()
    return found


def _of_all(told: Mapping[str, Any], picture: str) -> dict[str, str]:
    shown = {**told, "summary": {**told["summary"], "worst": []}}
    return {
        "speed": _speed(told["cases"]),
        "scatter": _scatter(told["summary"], picture),
        "furthest": markdown([_furthest(told)]).strip(),
        "tables": markdown(tables(shown)).strip(),
    }


def counted(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a document that its figures are of."""
    return [case for case in cases if case["predicted"] is not None and case["is_eligible"]]


def _speed(cases: Sequence[Mapping[str, Any]]) -> str:
    """One line of the errors of the speed, where positive is too fast."""
    rows = counted(cases)
    errors = [1.0 / (1.0 + row["step_error_frac"]) - 1.0 for row in rows]
    sizes = [abs(error) for error in errors]
    inside = fmean(row["low"] <= row["measured"] <= row["high"] for row in rows)
    mean = f"{numbers.rough_percent(fmean(sizes))} (median {numbers.rough_percent(median(sizes))})"
    cells = ("all", str(len(rows)), mean, numbers.rough_change(fmean(errors)), numbers.rough_percent(inside))
    headers = ("rows", "number", "mean error", "bias", "inside")
    return "\n".join((f"| {' | '.join(headers)} |", "| --- | --- | --- | --- | --- |", f"| {' | '.join(cells)} |"))


def _scatter(told: Mapping[str, Any], picture: str) -> str:
    text = f"Predicted against measured step time of {told['eligible']} published runs with 90 % intervals, log scales"
    inside, width = numbers.percent(told["coverage_90"]), numbers.percent(told["half_width"])
    caption = (
        f"{text}: dense models blue, mixtures of experts orange, hollow where the measurement lies outside its interval; "
        f"the grey band is 25 % either way. {inside} lie inside; half of the interval is {width} of the prediction (median). "
        "Below, the same as predicted over measured. Source of the measurements: `validation/data/published_cases.csv`, each "
        "row with its address."
    )
    return f"![{text}]({picture})\n\n{caption}"


def _furthest(told: Mapping[str, Any]) -> Table:
    """The ten that are furthest off, with what they are and the best explanation."""
    rows = {case["case_id"]: case for case in told["cases"]}
    plain = worst_rows(told["summary"])
    cells = []
    for line in plain.rows:
        group = rows[line[0]]["group"]
        run = f"{line[0]}: {group['model']}, {group['gpu']}, {group['precision']}"
        cells.append((run, *line[1:], why(line[0])))
    note = "Half as fast is as wrong as twice as fast. Parts are the largest of the predicted step, as shares of it."
    return Table("Furthest off", (*plain.headers, "best explanation"), cells, note, left=(4, 5))


def _shorter(told: Mapping[str, Any]) -> dict[str, Any]:
    """The document with fewer groups, and without pairs and reasons, which are those of the whole."""
    summary = told["summary"]
    groups = [group for group in summary["by_group"] if group["by"] in LEFT_OUT_GROUPS]
    pairs = {**summary["pairs"], "n": 0, "wrong": []}
    kept = {
        "missed": summary["missed"],
        "worst": summary["worst"][:5],
        "skipped": [],
        "by_group": groups,
        "pairs": pairs,
    }
    return {**told, "summary": {**summary, **kept}}


def _of_mechanisms(told: Mapping[str, Any]) -> str:
    summary = told["summary"]
    text = f"Predicted on {summary['n']} rows of the table of published runs, {summary['eligible']} that count."
    return f"{markdown_text.prose(text)}\n\n{markdown([mechanisms(told)]).strip()}"
