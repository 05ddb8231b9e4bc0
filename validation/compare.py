"""Predicted beside published, of the case files: rows with signed errors, and their summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from simulator import load_scenario
from simulator.results.document import to_document
from simulator.run.training_run import simulate_run
from simulator.step.prepared import prepare
from validation.case import Case, Group, Quantity
from validation.errors import error_figures
from validation.trace_pair import trace_times

INVERSE = ("tokens_per_s_per_gpu", "tflops", "mfu")
"""Quantities that fall where the step's time rises: their interval is the step's, inverted."""
ALLOCATED = "memory.allocated_bytes"
LEAST = 1e-3
"""Of a step's time, the least that an interval's low end stands for: what is inverse to 0 is no figure."""


@dataclass(frozen=True)
class Row:
    """One figure: predicted with its interval beside measured; error_frac is signed.

    note: what the figure contains and what not.
    """

    case_id: str
    stack: str
    group: Group
    quantity: str
    reading: str
    predicted: float
    low: float
    high: float
    measured: float
    source: str
    note: str = ""

    @property
    def error_frac(self) -> float:
        """Predicted over measured, minus one."""
        return self.predicted / self.measured - 1.0


def compare_case(case: Case) -> list[Row]:
    """Every quantity of the case under each of its stacks."""
    rows = []
    for stack in case.stacks:
        scenario = load_scenario(case.scenario, [*case.overrides, f"stack={stack}"])
        document = to_document(simulate_run(scenario))
        trace = {}
        if any(q.quantity.startswith("trace.") for q in case.quantities):
            short_run = load_scenario(case.scenario, [*case.overrides, f"stack={stack}", "device.clock=burst"])
            trace = trace_times(prepare(short_run))
        rows += [_row(case, stack, quantity, document, trace) for quantity in case.quantities]
    return rows


def _row(
    case: Case, stack: str, q: Quantity, document: Mapping[str, Any], trace: Mapping[str, tuple[float, float, float]]
) -> Row:
    if q.quantity in trace:
        value, low, high = trace[q.quantity]
    elif q.quantity == ALLOCATED:
        value = low = high = allocated_bytes(document)
    else:
        value = lookup(document, q.quantity)
        low, high = interval_of(document, q.quantity, value)
    return Row(
        case.case_id, stack, case.group, q.quantity, q.reading, value, low, high, q.measured, q.source, q.note
    )  # fmt: skip


def allocated_bytes(document: Mapping[str, Any]) -> float:
    """The fullest rank's peak less what a framework's allocator does not hand out (context, communicators, their buffers)."""
    return float(max(stage["peak_bytes"] - stage["buffers_bytes"] for stage in document["memory"]["by_stage"]))


def lookup(document: Mapping[str, Any], path: str) -> float:
    """A number of the result document by its dotted path. Raises KeyError."""
    node: Any = document
    for key in path.split("."):
        node = node[key]
    return float(node)


def interval_of(document: Mapping[str, Any], path: str, value: float) -> tuple[float, float]:
    """The step's interval carried to what is proportional (or inverse) to it; a count is exact."""
    step = document["step"]
    low, high = step["interval"]["low"] / step["step_s"], step["interval"]["high"] / step["step_s"]
    if path.startswith("model.") or "flop_per_token" in path:
        return value, value
    if any(name in path for name in INVERSE):
        return value / high, value / max(low, LEAST)
    return value * low, value * high


def as_json(rows: Iterable[Row]) -> dict[str, Any]:
    """The document of `moesim validate --json`."""
    listed = list(rows)
    return {
        "cases": [
            {
                "case_id": row.case_id, "stack": row.stack, "group": row.group.model_dump(), "quantity": row.quantity,
                "reading": row.reading, "predicted": row.predicted, "low": row.low, "high": row.high,
                "measured": row.measured, "error_frac": row.error_frac, "inputs_assumed": [], "skipped_because": None,
                "source": row.source,
            }
            for row in listed
        ],
        "summary": summary(listed),
    }  # fmt: skip


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Mean and median absolute error, bias and how often the interval covers, over times read on the edge rank."""
    times = [row for row in rows if row.reading == "edge" and row.quantity.endswith("_s")]
    stats: dict[str, Any] = {"n": len(rows), "eligible": len(times)}
    if times:
        stats |= error_figures([row.error_frac for row in times])
        stats["coverage_90"] = fmean(row.low <= row.measured <= row.high for row in times)
    stats["by_group"] = [
        {"stack": stack, "step_error_frac": row.error_frac}
        for stack in dict.fromkeys(row.stack for row in rows)
        for row in rows
        if row.stack == stack and row.quantity == "step.step_s"
    ]
    return stats
