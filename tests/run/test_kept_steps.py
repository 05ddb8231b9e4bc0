"""A run with kept steps says the same to the last byte, and simulates nothing that it has."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Mapping
from functools import cache

import pytest

from simulator import load_scenario, simulate_run
from simulator.results.document import to_json
from simulator.results.interval import Interval
from simulator.results.step_result import StepResult
from simulator.run.batch_ramp import BatchSize
from simulator.run.kept_steps import (
    KeptSteps,
    StepNotKept,
    batch_sizes,
    keep_steps,
    trained_steps,
)
from simulator.run.step_key import NO_STEP_DEPENDS_ON, step_document, step_key
from simulator.scenario.scenario import Scenario
from simulator.step.batches import StepSimulator
from simulator.step.graph import order_of_actions
from simulator.step.joint import step_joint
from simulator.step.prepared import prepare
from tests.laws.test_every_key import CHANGES, CONTEXTS, PHASE, changed

FREE = sorted(key for key in CHANGES if key.partition(".")[0] in NO_STEP_DEPENDS_ON)


@cache
def scenario_of(context: str, *more: str) -> Scenario:
    preset, *overrides = CONTEXTS[context]
    return load_scenario(preset, ["draws=2", f"phases={json.dumps([PHASE])}", *overrides, *more])


class Counting:
    """The simulator, and the batch sizes that it was asked for."""

    def __init__(self) -> None:
        self.simulator = StepSimulator()
        self.asked: list[BatchSize] = []

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        self.asked.append(BatchSize(global_batch_size, schedule))
        return self.simulator(scenario, global_batch_size=global_batch_size, schedule=schedule)

    def effects(self, scenario: Scenario, global_batch_size: int) -> Mapping[str, Interval]:
        return self.simulator.effects(scenario, global_batch_size)


@cache
def trained_keys(context: str) -> frozenset[str]:
    """What the phases train: keys of other kinds than pre-training may change it."""
    return frozenset(step_key(trained) for trained, _ in trained_steps(scenario_of(context)))


@cache
def kept(context: str) -> KeptSteps:
    return keep_steps(scenario_of(context), StepSimulator())


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_a_key_changes_the_steps_key_unless_no_step_depends_on_it(key: str) -> None:
    context, value = CHANGES[key]
    is_same = step_key(scenario_of(context, changed(key, value))) == step_key(scenario_of(context))
    assert is_same == (key in FREE)


@pytest.mark.parametrize("option", ["assumptions.gpu_speed_cv=0.05", "mechanisms.imbalance=false", "draws=3", "seed=7"])
def test_whatever_else_changes_a_step_changes_its_key(option: str) -> None:
    """A key that was left out would have an old answer shown as that of the changed scenario."""
    assert step_key(scenario_of("deepseek", option)) != step_key(scenario_of("deepseek"))


def test_a_section_of_the_scenario_stands_in_the_document_unless_it_is_named() -> None:
    """A new one too: who adds it has to say that no step depends on it."""
    left_out = Scenario.model_fields.keys() - json.loads(step_document(scenario_of("dense"))).keys()
    assert left_out == {"name", "phases", "prices", "start_date", "currency"}


@pytest.mark.parametrize("key", FREE)
def test_what_no_step_depends_on_costs_arithmetic_and_gives_the_bytes_of_a_new_run(key: str) -> None:
    context, value = CHANGES[key]
    scenario = scenario_of(context, changed(key, value))
    counting = Counting()
    steps = keep_steps(scenario, counting, kept(context))
    assert counting.asked == [
        size
        for trained, sizes in trained_steps(scenario)
        for size in sizes
        if step_key(trained) not in trained_keys(context) or size in kept(context).missing(scenario)
    ]
    assert to_json(simulate_run(scenario, simulate=steps)) == to_json(simulate_run(scenario))


def test_only_the_batch_that_is_missing_is_simulated() -> None:
    """A ramp that starts elsewhere shares its other sizes with the kept one."""
    scenario, counting = scenario_of("deepseek", changed("phases.batch_ramp.from", "40")), Counting()
    steps = keep_steps(scenario, counting, kept("deepseek"))
    assert 0 < len(counting.asked) < len(batch_sizes(scenario))
    assert not set(counting.asked) & set(kept("deepseek").steps)
    assert steps.missing(scenario) == ()


def test_kept_steps_survive_a_pickle_and_answer_at_once() -> None:
    steps = pickle.loads(pickle.dumps(kept("deepseek")))
    scenario = scenario_of("deepseek", "prices={usd_per_gpu_hour: 3}", "name=dearer")
    start = time.perf_counter()
    result = simulate_run(scenario, simulate=steps)
    assert time.perf_counter() - start < 0.5, "arithmetic only; 5 ms where nothing else runs"
    assert result.totals.cost_usd is not None
    assert result.totals.cost_usd.value == pytest.approx(3 * result.totals.gpu_hours.value, abs=1e-6)


def test_steps_of_another_scenario_are_refused() -> None:
    other = scenario_of("deepseek", "seed=1")
    with pytest.raises(StepNotKept, match="differs in more than"):
        simulate_run(other, simulate=kept("deepseek"))
    with pytest.raises(StepNotKept, match="no step of 8 sequences"):
        kept("deepseek")(scenario_of("deepseek"), global_batch_size=8, schedule="1f1b")


def test_the_document_of_the_steps_loads_again_to_the_same_steps() -> None:
    scenario = scenario_of("rack")
    again = load_scenario(json.loads(step_document(scenario)))
    assert step_key(again) == step_key(scenario)


def test_progress_is_told_and_changes_nothing() -> None:
    told: list[float] = []
    scenario = scenario_of("deepseek")
    size = {"global_batch_size": 64, "schedule": "dualpipe"}
    assert StepSimulator(report=told.append)(scenario, **size) == StepSimulator()(scenario, **size)
    assert told == [0.5, 1.0], "one of two draws, then both"
    shares: list[float] = []
    step = prepare(scenario)
    step_joint(step, order_of_actions(scenario), report=shares.append)
    assert shares[0] == 0.0
    assert shares == sorted(shares)
    assert len(shares) == len(step.assumptions)
