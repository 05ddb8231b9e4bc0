"""A layout's step, simulated: what the choice is made by.

The graph of the step at the speeds that its watts leave, of even loads, times how much longer the first random draws make it
(`StepPower.uneven`: the same draws for every layout); the layouts that are nearest to one another are told apart by more draws
with common random numbers. Memory is the simulator's own walk of the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulator.engine import sweep
from simulator.run.planner.in_flight import fewest
from simulator.scenario.scenario import Scenario
from simulator.schedule import build_schedule
from simulator.step.draws import run_draws
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.memory import rank_memories
from simulator.step.power import StepPower, power_of
from simulator.step.prepared import CountedStep, PreparedStep, count, memory_question, price
from simulator.workload.memory import usable_bytes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SimulatedLayout:
    """step_s: even loads x the first draws' lengthening; margin_bytes: of the fullest rank; prepared, power: to draw more, None
    where nobody will: a graph takes a hundred megabytes.
    """

    step_s: float
    margin_bytes: float
    prepared: PreparedStep | None = field(repr=False)
    power: StepPower | None = field(repr=False)

    def alone(self) -> SimulatedLayout:
        """What it says, without what it came from."""
        return replace(self, prepared=None, power=None)

    def draws(self, number: int) -> Floats:
        """(number,) steps in seconds of the first random draws; one where nothing is random."""
        assert self.prepared is not None and self.power is not None
        random = replace(self.prepared.random, draws=number)
        return run_draws(random, self.power.graph, "sweep", told_apart=False).step_s


def margin_of(step: CountedStep) -> float:
    """Bytes that the fullest rank has left; negative where it does not fit.

    The pipeline is walked with as many micro-batches as fill it three times: more are never in flight together.
    """
    question, plan = memory_question(step), step.scenario.parallel
    order = order_of_actions(step.scenario)
    few = fewest(plan.schedule, plan.pp, plan.vpp, order.num_micro_batches)
    if few < order.num_micro_batches and plan.pipeline_buffers == "in_flight":
        order = build_schedule(plan.schedule, plan.pp, few, plan.vpp)
    peak = max(rank.peak_bytes for rank in rank_memories(question, order))
    return usable_bytes(step.hardware.gpu.memory_bytes, question.assumed.needed_frac) - float(peak)


def simulate_layout(scenario: Scenario) -> SimulatedLayout | float:
    """The layout's step; its margin alone, negative, where it does not fit. Raises as `step.prepared.count`."""
    counted = count(scenario)
    margin = margin_of(counted)
    if margin < 0:
        return margin
    prepared = price(scenario, counted.hardware, counted.assumptions, counted.workload, counted.load)
    power = power_of(prepared, build_graph(prepared))
    even_s = float(sweep(power.graph.dag, power.graph.class_seconds()).makespan_s)
    return SimulatedLayout(even_s * power.uneven, margin, prepared, power)
