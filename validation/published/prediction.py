"""A published row as it was run: predicted beside the figure that the row gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simulator.results.document import to_document
from simulator.scenario.hardware import node_of
from simulator.step.step import simulate_step
from validation.case import Group
from validation.compare import Row as Compared
from validation.compare import interval_of, lookup
from validation.published.row import Row
from validation.published.state import Statement, state

FIGURES: Final[Mapping[str, str]] = {
    "tokens_per_s_per_gpu": "step.tokens_per_s_per_gpu",
    "step_time_s": "step.step_s",
    "tflops_per_gpu": "step.tflops.noncausal",
    "mfu": "step.mfu.bf16_dense_noncausal",
}
"""Column of a speed → quantity of the result document, the most direct first: a row is read as its first one.

TFLOP/s and MFU count attention in full, as Megatron-LM's own figure and llm-foundry's do.
"""
READING: Final = "step"
"""A speed names no rank."""


def predicted(row: Row) -> Compared | None:
    """The row's first speed, predicted with the interval of `simulate_step`; None: cannot be stated, or gives no speed."""
    column = next((name for name in FIGURES if row.number(name) is not None), None)
    stated = state(row)
    if stated.scenario is None or column is None:
        return None
    measured = row.number(column)
    assert measured is not None
    scenario, quantity = stated.scenario, FIGURES[column]
    document = to_document(simulate_step(scenario))
    value = lookup(document, quantity)
    low, high = interval_of(document, quantity, value)
    group = Group(
        model=row.text("model"),
        gpu=node_of(scenario).gpu,
        framework=row.text("framework"),
        release="",
        precision=row.text("precision"),
        num_gpus=scenario.cluster.num_gpus,
    )
    source = ", ".join(part for part in (row.text("source_url"), row.text("source_detail")) if part)
    return Compared(
        row.text("case_id"), scenario.stack, group, quantity, READING, value, low, high, measured, source,
        note=_note(row, stated), kind="published",
    )  # fmt: skip


def _note(row: Row, stated: Statement) -> str:
    """How it was run in short, and which keys that move the time the row does not give."""
    plan = stated.scenario
    assert plan is not None
    degrees = {"tp": plan.parallel.tp, "pp": plan.parallel.pp, "vpp": plan.parallel.vpp, "ep": plan.parallel.ep}
    layout = " ".join(f"{name}{size}" for name, size in degrees.items() if size > 1)
    parts = [f"{plan.cluster.num_gpus:,} GPUs", layout, row.text("precision"), row.text("framework")]
    assumed = [f"{each.key}={each.value}" for each in stated.assumed]
    text = ", ".join(part for part in parts if part)
    return f"{text}; not stated and assumed: {', '.join(assumed)}" if assumed else text
