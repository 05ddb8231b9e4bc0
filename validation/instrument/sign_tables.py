"""Tables of the pairs of runs that differ in one thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.report import numbers
from validation.instrument.table import NUM_MOVED, Cells, Table, share


def sign_tables(told: Mapping[str, Any]) -> list[Table]:
    """Pairs of rows that differ in one thing: how many signs are right, and those that are wrong."""
    within, across = (each["least_change_frac"] for each in told["by_scope"])
    note = "Runs that differ in one recorded thing: is the faster one predicted to be faster? within: one source and release, "
    note += f"measured speeds {numbers.rough_percent(within)} apart or more; across: {numbers.rough_percent(across)}. "
    note += "A batch that only follows micro-batch, GPUs or sequence is no second thing."
    scopes = [(each["scope"], each) for each in told["by_scope"]]
    rows = [("all", str(told["n"]), share(told["right"]), *(cell for _, each in scopes for cell in _signs(each)))]
    rows += [
        (each["change"], *_signs(each), *(cell for scope, _ in scopes for cell in _signs(each[scope])))
        for each in told["by_change"]
    ]
    headers = ("change", "pairs", "right", *(word for scope, _ in scopes for word in (scope, "right")))
    wrong = [
        (
            f"{each['first']}, {each['second']}", each["scope"], numbers.signed_percent(each["measured_change_frac"]),
            numbers.signed_percent(each["predicted_change_frac"]), f"{each['change']}: {each['from']} to {each['to']}",
        )
        for each in told["wrong"][:NUM_MOVED]
    ]  # fmt: skip
    title = f"Signs that are wrong: {len(told['wrong'])}"
    title += f", the {NUM_MOVED} furthest" if len(told["wrong"]) > NUM_MOVED else ""
    return [
        Table("Pairs that differ in one thing", headers, rows if told["n"] else [], note, spare=(3, 4, 5, 6)),
        Table(
            title,
            ("runs", "scope", "measured", "predicted", "change"),
            wrong,
            "Change of the tokens/s a GPU.",
            spare=(1,),
            left=(4,),
        ),
    ]


def _signs(each: Mapping[str, Any]) -> Cells:
    return str(each["n"]), share(each["right"])
