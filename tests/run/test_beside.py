"""Law: which process simulates a step changes nothing; what the second one does not do, the first does."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from simulator import load_scenario, simulate_run
from simulator.results.run_result import RunResult
from simulator.results.step_result import StepResult
from simulator.run import beside
from simulator.run.beside import StepsBeside, Wanted, second_share
from simulator.scenario.scenario import Scenario
from simulator.step.batches import StepSimulator

RAMP = "phases.pretrain.batch_ramp={from: 448, over_tokens: 1e11}"


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Small: two batch sizes beside the full one."""
    return load_scenario("mixtral-8x22b", ["draws=1", "moe.balance=forced", RAMP])


@pytest.fixture(scope="module")
def one(scenario: Scenario) -> RunResult:
    """The run of one process."""
    return simulate_run(scenario)


class Marked(StepSimulator):
    """Says in its results which process simulated them. fails: raises in the second one."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.home, self.fails, self.calls = os.getpid(), fails, 0

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        if self.fails and os.getpid() != self.home:
            raise KeyboardInterrupt
        self.calls += 1
        step = super().__call__(scenario, global_batch_size=global_batch_size, schedule=schedule)
        return step.model_copy(update={"stack_sha256": f"{os.getpid()} {global_batch_size}"})


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    return lambda can: monkeypatch.setattr(beside, "can_fork", lambda: can)


def test_a_run_of_two_processes_is_that_of_one(
    scenario: Scenario, one: RunResult, alone: Callable[[bool], None]
) -> None:
    alone(True)
    own = Marked()
    with StepsBeside(own) as simulate:
        both = simulate_run(scenario, simulate=simulate)
        done = own.calls
        process = simulate._second._process
    assert not process.is_alive()
    assert done == 1, "the second process took all but the full batch"
    assert both.model_copy(update={"stack_sha256": one.stack_sha256}) == one
    assert both.phases[0].ramp is not None


@pytest.mark.parametrize("fails", [True, False])
def test_what_the_second_process_does_not_do_the_first_does(
    scenario: Scenario, one: RunResult, fails: bool, alone: Callable[[bool], None]
) -> None:
    """It failed; or it could not be made, here beside another thread."""
    own = Marked(fails)
    waits = threading.Event()
    thread = threading.Thread(target=waits.wait)
    if fails:
        alone(True)
    else:
        thread.start()
        assert not beside.can_fork()
    with StepsBeside(own) as simulate:
        found = simulate_run(scenario, simulate=simulate)
    waits.set()
    assert own.calls == 3
    assert found.totals == one.totals


def test_work_is_shared_out(scenario: Scenario) -> None:
    full, small = scenario.training.global_batch_size, scenario.training.global_batch_size // 2
    schedule = scenario.parallel.schedule
    first = [Wanted(scenario, full, schedule), Wanted(scenario, small, schedule), Wanted(scenario, full, None)]
    second, third, fourth = ([Wanted(scenario, full, schedule), Wanted(scenario, full, None)] for _ in range(3))
    assert list(second_share([first])) == [first[1]]
    assert list(second_share([first, second, third, fourth])) == [first[1], *second, *fourth]
    assert list(second_share([[first[0], first[2]]])) == []
