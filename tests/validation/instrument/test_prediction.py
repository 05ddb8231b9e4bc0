"""A row predicted, or skipped with its reason; whatever a row meets stays with it."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import InconsistentSimulation
from simulator.results.step_result import StepTimes
from simulator.scenario.scenario import Scenario
from tests.validation.test_statable import LLAMA, MIXTRAL
from validation.instrument import pool, prediction
from validation.instrument.document import document
from validation.instrument.outcome import Outcome
from validation.instrument.pool import outcomes, tasks
from validation.instrument.prediction import column_of, outcome
from validation.published.eligible import eligible, excluded
from validation.published.row import Row, read_rows
from validation.published.state import state

SMALL = LLAMA | {"layers": "2", "hidden": "1024", "ffn": "2048", "heads": "8", "kv_heads": "8", "vocab": "1024"}
"""A row that is predicted soon."""


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ({"tokens_per_s_per_gpu": "9000", "step_time_s": "2.0", "mfu": "0.4"}, "tokens_per_s_per_gpu"),
        ({"step_time_s": "2.0", "tflops_per_gpu": "400"}, "step_time_s"),
        ({"tflops_per_gpu": "400", "mfu": "0.4"}, "tflops_per_gpu"),
        ({"mfu": "0.4"}, "mfu"),
        ({"tokens_per_s_per_gpu": "0", "step_time_s": "-2", "mfu": "nan"}, ""),
    ],
)
def test_a_row_is_read_as_its_most_direct_speed(cells: dict[str, str], column: str) -> None:
    assert column_of(Row(LLAMA | cells)) == column


def test_a_row_is_predicted_with_its_interval_parts_and_what_was_assumed() -> None:
    given = {"tokens_per_s_per_gpu": "9000", "mbs": "", "source_url": "there", "source_detail": "Table 1"}
    found = outcome(Row(MIXTRAL | given))
    figure = found.figure
    assert figure is not None
    assert figure.low < figure.predicted < figure.high
    assert sum(figure.parts_s.values()) == pytest.approx(figure.step_s, rel=1e-9)
    assert figure.predicted == pytest.approx(64 * 8192 / 8 / figure.step_s)
    assert "training.micro_batch_size=1" in found.assumed
    assert found.note.startswith("8 GPUs, ep8, BF16, Megatron-LM; not stated and assumed: ")
    assert (found.group["gpu"], found.group["num_gpus"], found.labels["kind"]) == ("h100", 8, "MoE")
    told = found.as_json()
    assert (told["quantity"], told["measured"], told["source"]) == ("tokens_per_s_per_gpu", 9000.0, "there, Table 1")
    assert told["skipped_because"] is None


def test_a_skipped_row_says_why_and_has_no_figure() -> None:
    found = outcome(Row(LLAMA | {"precision": "INT8", "layers": "", "step_time_s": "2.0"}))
    told = found.as_json()
    assert told["skipped_because"] == "INT8: INT8; no model dimensions given: layers"
    assert [told[key] for key in ("predicted", "low", "high", "error_frac", "stack")] == [None] * 5
    assert outcome(Row(LLAMA)).skipped_because == "no speed given"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("by nothing"), "failed: ZeroDivisionError: by nothing"),
        (InconsistentSimulation("deadlock"), "refused by moesim: deadlock"),
        (MemoryError(), "failed: MemoryError: "),
    ],
)
def test_an_error_inside_a_prediction_stays_with_its_row(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = prediction.simulate_times

    def faulty(scenario: Scenario, **given: Any) -> StepTimes:
        if scenario.name == "bad":
            raise error
        return real(scenario, **given)

    monkeypatch.setattr(prediction, "simulate_times", faulty)
    rows = [Row(SMALL | {"case_id": name, "step_time_s": "2.0"}) for name in ("first", "bad", "last")]
    rows[1] = rows[1].with_cells({"gbs": "640"})
    found = outcomes(rows, processes=1)
    assert [row.case_id for row in found] == ["first", "bad", "last"]
    assert [row.figure is None for row in found] == [False, True, False]
    assert found[1].skipped_because == said
    assert document(found)["summary"]["eligible"] == 2


def test_every_cell_may_be_nonsense() -> None:
    """Each column in turn holds what is no figure, or an impossible one: predicted or skipped, never an error."""
    for column in SMALL:
        for text in ("", "-1", "1e30", "x"):
            found = outcome(Row(SMALL | {"step_time_s": "2.0"} | {column: text}))
            assert (found.figure is None) == bool(found.skipped_because), (column, text)
            assert not (found.skipped_because or "").startswith("failed"), (column, text, found.skipped_because)


@pytest.mark.slow
def test_the_same_rows_from_one_process_and_from_two() -> None:
    rows = [Row(SMALL | {"case_id": f"R-{n}", "step_time_s": "2.0", "gbs": str(64 * (1 + n % 3))}) for n in range(9)]
    rows.append(Row({"case_id": "R-9"}))
    alone, together = outcomes(rows, processes=1), outcomes(rows, processes=2)
    assert together == alone
    assert document(together) == document(alone)
    assert sum(row.figure is not None for row in alone) == 9


def _dies(row: Row) -> Outcome:
    if row.text("case_id") == "bad":
        os._exit(1)
    return Outcome(row.text("case_id"), {}, "", "")


@pytest.mark.slow
def test_a_process_that_dies_costs_the_row_that_killed_it() -> None:
    found = outcomes([Row({"case_id": name}) for name in ("a", "b", "bad", "c")], _dies, processes=2)
    assert [row.case_id for row in found] == ["a", "b", "bad", "c"]
    assert [row.skipped_because == pool.DIED for row in found] == [False, False, True, False]


def _sleeps(row: Row) -> Outcome:
    time.sleep(60)
    return Outcome(row.text("case_id"), {}, "", "")


def test_an_interrupt_ends_the_processes_soon() -> None:
    """Waiting rows are left out and rows at work are not waited for."""
    timer, start = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)), time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        outcomes([Row({"case_id": str(n)}) for n in range(20)], _sleeps, processes=2)
    assert time.monotonic() - start < 30
    # The pool's own thread may have reaped a process that this list still holds for a moment: the system says which run.
    assert not [process for process in multiprocessing.active_children() if _runs(process.pid)]


def _runs(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_rows_with_many_actions_start_first() -> None:
    sizes = [{"gbs": "64", "mbs": "1", "pp": "2"}, {"gbs": "4096", "mbs": "1", "pp": "16", "vpp": "8"}, {}]
    assert tasks([Row(each) for each in sizes]) == [[1], [0], [2]]


def test_rows_that_are_alike_go_together_and_every_row_once() -> None:
    """One order of actions a task, equal rows behind one another, no task of too many."""
    small, large = {"gbs": "8", "pp": "1"}, {"gbs": "64", "pp": "4"}
    rows = [Row((small, large)[n % 2] | {"gpu": ("A", "B", "C")[n % 3], "case_id": str(n)}) for n in range(30)]
    found = tasks(rows)
    assert sorted(place for task in found for place in task) == list(range(30))
    assert max(map(len, found)) == pool.MANY
    for task in found:
        assert len({rows[place].text("pp") for place in task}) == 1
        chips = [rows[place].text("gpu") for place in task]
        assert chips == sorted(chips)


def test_a_run_of_several_rows_is_predicted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real, names = prediction.simulate_times, []

    def counted(scenario: Scenario, **given: Any) -> StepTimes:
        names.append(scenario.name)
        return real(scenario, **given)

    monkeypatch.setattr(prediction, "simulate_times", counted)
    prediction.simulated.cache_clear()
    cells = SMALL | {"step_time_s": "2.0"}
    rows = [Row(cells | {"case_id": "a"}), Row(cells | {"case_id": "b", "step_time_s": "4.0", "notes": "again"})]
    rows += [Row(cells | {"case_id": "c", "gbs": "128"}), Row(cells | {"case_id": "d", "framework": "of our own"})]
    first, second, third, unknown = outcomes(rows, processes=1)
    assert sorted(names) == ["a", "c", "d"], "other batches and unknown software are other runs"
    assert first.figure is not None and second.figure is not None and third.figure is not None
    assert (second.figure.predicted, second.figure.measured) == (first.figure.predicted, 4.0)
    assert third.figure.predicted > first.figure.predicted
    assert unknown.figure is not None


def test_runs_of_one_answer_have_one_key() -> None:
    """Neither the name nor which release it is moves a step, but whether the software is known moves the interval."""
    plan = state(Row(SMALL)).scenario
    assert plan is not None and plan.framework is not None

    def key(**changes: Any) -> str:
        return prediction.key_of(plan.model_copy(update=changes), "", ())

    assert key() == key(name="other", framework="another@2025")
    assert len({key(), key(framework=None), key(draws=2), prediction.key_of(plan, "gpus h100", ())}) == 4


def test_of_rows_of_one_name_the_first_is_predicted(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*SMALL, "step_time_s"])
        writer.writeheader()
        writer.writerows({**SMALL, "case_id": name, "step_time_s": "2.0"} for name in ("a", "a", "b"))
    found = outcomes(read_rows(path))
    assert [row.figure is None for row in found] == [False, True, False]
    assert "twice" in (found[1].skipped_because or "")


def test_a_row_with_a_named_error_of_its_source_is_predicted_and_does_not_count() -> None:
    named = next(iter(excluded()))
    rows = [Row(SMALL | {"case_id": name, "step_time_s": "2.0"}) for name in (named, "x")]
    rows.append(Row(SMALL | {"case_id": sorted(eligible())[0], "layers": "", "step_time_s": "2"}))
    rows.append(Row(SMALL | {"case_id": sorted(eligible())[1]}))
    total = document(outcomes(rows))["summary"]
    assert (total["n"], total["predicted"], total["eligible"]) == (4, 2, 1)
    assert total["missed"] == sorted(eligible())[:1]


def test_inputs_that_the_release_says_are_not_assumed() -> None:
    found = outcome(Row(SMALL | {"framework": "Megatron-Core 0.8", "step_time_s": "2.0"}))
    assert (found.group["framework"], found.group["release"]) == ("megatron-core", "0.8")
    assert found.by_release
    keys = [each.partition("=")[0] for each in (*found.assumed, *found.by_release)]
    assert len(set(keys)) == len(keys)
    assert "framework=None" in outcome(Row(SMALL | {"framework": "nobody's", "step_time_s": "2.0"})).assumed
