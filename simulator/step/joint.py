"""The joint interval of a step: all that may be otherwise, at its ends and drawn together (results/joint.py).

Sources are the categories of kernels and messages and the power constants (step/ranges.py), the stated assumptions
(step/effects.py), and what no input says and no mechanism has (scenario/run_ranges.yaml).
"""

from __future__ import annotations

from simulator.results.joint import Joint
from simulator.scenario.run_ranges import run_ranges
from simulator.schedule.action import Schedule
from simulator.step.draws import Report
from simulator.step.effects import assumption_sources
from simulator.step.graph import build_graph
from simulator.step.lanes import Moved, joint_of
from simulator.step.power import StepPower, power_of
from simulator.step.prepared import PreparedStep
from simulator.step.ranges import measured_sources, power_sources


def step_joint(
    step: PreparedStep, order: Schedule, power: StepPower | None = None, report: Report | None = None
) -> Joint:
    """A step of these actions with every source drawn. power: of that step, where it is solved already.

    report: is told, before each assumption, which share of them is done.
    """
    power = power or power_of(step, build_graph(step, order))
    lanes, measured = measured_sources(step, power)
    moved = [
        *measured, *_of_runs(step), *power_sources(power), *assumption_sources(step, order, power, report)
    ]  # fmt: skip
    return joint_of(lanes, moved, step.scenario.seed)


def _of_runs(step: PreparedStep) -> list[Moved]:
    """What no input says: factors of the step."""
    return [
        Moved(key, each.low, each.high, 1.0 + each.low, 1.0, 1.0 + each.high)
        for key, each in run_ranges(step.scenario).items()
    ]
