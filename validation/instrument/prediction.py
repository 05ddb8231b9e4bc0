"""One row of a table, stated as it was run and predicted; whatever goes wrong with it stays with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from hwprofiles.kernels.parameters import MissingKernelError
from hwprofiles.leave_out import NOTHING
from hwprofiles.stack_records import Stack
from simulator.errors import MoesimError
from simulator.results.document import to_document
from simulator.results.rates import FlopPerToken
from simulator.scenario.hardware import node_of
from simulator.scenario.scenario import Scenario
from simulator.step.step import simulate_times
from validation.compare import interval_of, lookup
from validation.instrument.ablation import steps_without
from validation.instrument.convention import counted_over_model
from validation.instrument.leave_out import LeaveOut, left_out, stack_without
from validation.instrument.outcome import PATHS, Figure, Outcome
from validation.instrument.plausible import impossible
from validation.instrument.recorded import of_row
from validation.published.eligible import excluded
from validation.published.row import Row
from validation.published.state import Statement, state

NO_SPEED: Final = "no speed given"
BAD_VALUE: Final = "bad value"
REFUSED: Final = "refused by moesim"
FAILED: Final = "failed"
NO_RATE: Final = "no rate of a kernel"
STATED: Final = ("graph_scope", "dispatcher", "overlap")
"""Labels that summaries tell apart where a row's notes have them."""
KEPT: Final = 32
"""Answers that are kept for the rows that follow."""
MAX_DETAIL: Final = 300
"""Letters of an error that a row shows."""


class ImpossibleFigure(Exception):
    """A measured speed that no run has."""


def outcome(row: Row, leave_out: LeaveOut | None = None, ablate: Sequence[str] = ()) -> Outcome:
    """The row predicted, or skipped with the reason: an input or mechanism that is missing, no speed, an error of its own.

    leave_out: what the row's stack is built without; ablate: mechanisms without which it is predicted too.
    """
    stated = state(row)
    try:
        return _outcome(row, stated, leave_out, ablate)
    except ImpossibleFigure as error:
        return skipped(row, f"{BAD_VALUE}: {_one_line(error)}", stated=stated)
    except MissingKernelError as error:
        return skipped(row, f"{NO_RATE}: {_one_line(error)}", stated=stated)
    except MoesimError as error:
        return skipped(row, f"{REFUSED}: {_one_line(error)}", stated=stated)
    except Exception as error:  # a row must not stop the others, whatever it meets
        return skipped(row, f"{FAILED}: {type(error).__name__}: {_one_line(error)}", stated=stated)


def _one_line(error: Exception) -> str:
    return "; ".join(str(error).splitlines())[:MAX_DETAIL]


def _outcome(row: Row, stated: Statement, leave_out: LeaveOut | None, ablate: Sequence[str]) -> Outcome:
    column, scenario = column_of(row), stated.scenario
    if scenario is None:
        reasons = (f"{key}: {why}" if why else key for key, why in stated.missing.items())
        return skipped(row, *reasons, stated=stated)
    if not column:
        return skipped(row, NO_SPEED, stated=stated)
    stack, without = None, NOTHING
    if leave_out is not None:
        without = left_out(leave_out, node_of(scenario).gpu, row.text("source_url"))
        stack = stack_without(node_of(scenario).gpu, without)
        scenario = scenario.model_copy(update={"stack": stack.name})
    asked = Asked(key_of(scenario, str(without), ablate), scenario, stack, tuple(ablate))
    figure = _figure(row, column, asked, stated.framework)
    return Outcome(
        row.text("case_id"), _group(row, stated), column, source_of(row), labels=_labels(row, stated),
        stack=scenario.stack, without=str(without), assumed=_keys(stated, is_sourced=False),
        by_release=_keys(stated, is_sourced=True), figure=figure,
        is_eligible=row.text("case_id") not in excluded(),
        note=note_of(row, stated), steps_without=simulated(asked).steps_without,
        recorded=of_row(row, stated), release=stated.framework or row.text("framework"),
    )  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A run to predict. key: the same of runs that have the same answer; stack: in place of the scenario's; ablate: mechanisms
    without which it is predicted too.
    """

    key: str
    scenario: Scenario = field(compare=False)
    stack: Stack | None = field(compare=False)
    ablate: tuple[str, ...] = field(compare=False)


@dataclass(frozen=True)
class Answer:
    """The step as in the result document, its FLOP a token, and mechanism → seconds of the step without it."""

    step: Mapping[str, Any]
    flop: FlopPerToken
    steps_without: Mapping[str, float]


def key_of(scenario: Scenario, without: str, ablate: Sequence[str]) -> str:
    """Of a framework only whether there is one: what it sets stands in the scenario's other keys."""
    named = {"name": "", "framework": None if scenario.framework is None else "known"}
    return "\n".join((scenario.model_copy(update=named).model_dump_json(), without, *ablate))


@lru_cache(maxsize=KEPT)
def simulated(asked: Asked) -> Answer:
    """What is predicted of a run. Several rows may be of one: tables of one recipe in several releases."""
    times = simulate_times(asked.scenario, stack=asked.stack)
    step = to_document(times)
    without = steps_without(asked.scenario, asked.ablate, step["step_s"], asked.stack)
    return Answer(step, times.model_flop_per_token, without)


def _figure(row: Row, column: str, asked: Asked, release: str | None) -> Figure:
    measured = row.number(column)
    assert measured is not None
    answer = simulated(asked)
    result, path = {"step": answer.step}, PATHS[column]
    value = lookup(result, path)
    low, high = interval_of(result, path, value)
    step = answer.step
    counted = counted_over_model(row, column, asked.scenario, answer.flop, release)
    value, low, high = value * counted, low * counted, high * counted
    wrong = impossible(column, measured, value, step, node_of(asked.scenario).gpu)
    if wrong:
        raise ImpossibleFigure(wrong)
    parts = {each["category"]: each["seconds"] for each in step["by_category"]}
    tokens = step["tokens_per_s_per_gpu"] * step["step_s"]
    return Figure(value, low, high, measured, step["step_s"], parts, tokens)


def column_of(row: Row) -> str:
    """The column that the row is read as, the most direct speed that it gives; "" where it gives none above 0."""
    return next((name for name in PATHS if (row.number(name) or 0.0) > 0), "")


def skipped(row: Row, *reasons: str, stated: Statement | None = None) -> Outcome:
    """A row without a prediction, and why. stated: where it came so far."""
    return Outcome(row.text("case_id"), _group(row, stated), column_of(row), source_of(row), reasons=reasons)


def _group(row: Row, stated: Statement | None) -> Mapping[str, str | int | None]:
    scenario = stated.scenario if stated else None
    framework, _, release = (stated.framework or "").partition("@") if stated else ("", "", "")
    return {
        "model": row.text("model"),
        "gpu": node_of(scenario).gpu if scenario else row.text("gpu"),
        "framework": framework or row.text("framework"),
        "release": release,
        "precision": row.text("precision"),
        "num_gpus": scenario.cluster.num_gpus if scenario else row.count("n_gpus"),
    }


def _labels(row: Row, stated: Statement) -> Mapping[str, str]:
    assert stated.scenario is not None
    collection, _, number = row.text("case_id").partition("-")
    return {
        "kind": "dense" if stated.scenario.model.moe is None else "MoE",
        "recipe": stated.scenario.precision.recipe,
        "source": collection if number else "",
        "framework": row.text("framework"),
        **{name: stated.labels[name] for name in STATED if stated.labels.get(name)},
    }


def _keys(stated: Statement, *, is_sourced: bool) -> tuple[str, ...]:
    return tuple(f"{each.key}={each.value}" for each in stated.assumed if each.is_sourced == is_sourced)


def source_of(row: Row) -> str:
    """Where the row was read."""
    return ", ".join(part for part in (row.text("source_url"), row.text("source_detail")) if part)


def note_of(row: Row, stated: Statement) -> str:
    """How it was run in short, and which keys that move the time the row does not give."""
    plan = stated.scenario
    assert plan is not None
    degrees = {"tp": plan.parallel.tp, "pp": plan.parallel.pp, "vpp": plan.parallel.vpp, "cp": plan.parallel.cp,
        "ep": plan.parallel.ep,
    }  # fmt: skip
    layout = " ".join(f"{name}{size}" for name, size in degrees.items() if size > 1)
    parts = [f"{plan.cluster.num_gpus:,} GPUs", layout, row.text("precision"), row.text("framework")]
    assumed = _keys(stated, is_sourced=False)
    text = ", ".join(part for part in parts if part)
    return f"{text}; not stated and assumed: {', '.join(assumed)}" if assumed else text
