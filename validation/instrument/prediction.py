"""One row of a table, stated as it was run and predicted; whatever goes wrong with it stays with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simulator.errors import MoesimError
from simulator.results.document import to_document
from simulator.scenario.hardware import node_of
from simulator.scenario.scenario import Scenario
from simulator.step.step import simulate_times
from validation.compare import interval_of, lookup
from validation.instrument.outcome import PATHS, Figure, Outcome
from validation.published.row import Row
from validation.published.state import Statement, state

NO_SPEED: Final = "no speed given"
REFUSED: Final = "refused by moesim"
FAILED: Final = "failed"
MAX_DETAIL: Final = 300
"""Letters of an error that a row shows."""


def outcome(row: Row) -> Outcome:
    """The row predicted, or skipped with the reason: an input or mechanism that is missing, no speed, an error of its own."""
    try:
        return _outcome(row)
    except MoesimError as error:
        return skipped(row, f"{REFUSED}: {_one_line(error)}")
    except Exception as error:  # a row must not stop the others, whatever it meets
        return skipped(row, f"{FAILED}: {type(error).__name__}: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return "; ".join(str(error).splitlines())[:MAX_DETAIL]


def _outcome(row: Row) -> Outcome:
    column, stated = column_of(row), state(row)
    if stated.scenario is None:
        return skipped(row, *(f"{key}: {why}" if why else key for key, why in stated.missing.items()))
    if not column:
        return skipped(row, NO_SPEED)
    measured = row.number(column)
    assert measured is not None
    scenario, path = stated.scenario, PATHS[column]
    result = {"step": to_document(simulate_times(scenario))}
    value = lookup(result, path)
    low, high = interval_of(result, path, value)
    figure = Figure(value, low, high, measured, result["step"]["step_s"], _parts(result))
    return Outcome(
        row.text("case_id"), _group(row, scenario), column, source_of(row), labels=_labels(row, scenario),
        stack=scenario.stack, assumed=tuple(f"{each.key}={each.value}" for each in stated.assumed), figure=figure,
        is_eligible=True, note=note_of(row, stated),
    )  # fmt: skip


def column_of(row: Row) -> str:
    """The column that the row is read as, the most direct speed that it gives; "" where it gives none above 0."""
    return next((name for name in PATHS if (row.number(name) or 0.0) > 0), "")


def skipped(row: Row, *reasons: str) -> Outcome:
    """A row without a prediction, and why."""
    return Outcome(row.text("case_id"), _group(row, None), column_of(row), source_of(row), reasons=reasons)


def _group(row: Row, scenario: Scenario | None) -> Mapping[str, str | int | None]:
    framework, release = release_of(row.text("framework"))
    return {
        "model": row.text("model"),
        "gpu": node_of(scenario).gpu if scenario else row.text("gpu"),
        "framework": framework,
        "release": release,
        "precision": row.text("precision"),
        "num_gpus": scenario.cluster.num_gpus if scenario else row.count("n_gpus"),
    }


def release_of(framework: str) -> tuple[str, str]:
    """(name, release) of a framework's column: "Megatron-Bridge (26.08)" is Megatron-Bridge of 26.08."""
    name, _, rest = framework.partition(" (")
    return name, rest.rstrip(")") if rest[:1].isdigit() else ""


def _labels(row: Row, scenario: Scenario) -> Mapping[str, str]:
    return {
        "kind": "dense" if scenario.model.moe is None else "MoE",
        "recipe": scenario.precision.recipe,
        "source": row.text("case_id").partition("-")[0],
    }


def _parts(result: Mapping[str, Any]) -> Mapping[str, float]:
    return {each["category"]: each["seconds"] for each in result["step"]["by_category"]}


def source_of(row: Row) -> str:
    """Where the row was read."""
    return ", ".join(part for part in (row.text("source_url"), row.text("source_detail")) if part)


def note_of(row: Row, stated: Statement) -> str:
    """How it was run in short, and which keys that move the time the row does not give."""
    plan = stated.scenario
    assert plan is not None
    degrees = {"tp": plan.parallel.tp, "pp": plan.parallel.pp, "vpp": plan.parallel.vpp, "ep": plan.parallel.ep}
    layout = " ".join(f"{name}{size}" for name, size in degrees.items() if size > 1)
    parts = [f"{plan.cluster.num_gpus:,} GPUs", layout, row.text("precision"), row.text("framework")]
    assumed = [f"{each.key}={each.value}" for each in stated.assumed]
    text = ", ".join(part for part in parts if part)
    return f"{text}; not stated and assumed: {', '.join(assumed)}" if assumed else text
