"""The graph of a step: the schedule's order of actions, filled with the counted and priced work of every stage."""

from __future__ import annotations

from simulator.assembly.conservation import check_graph
from simulator.assembly.expand import expand
from simulator.assembly.step_graph import StepGraph
from simulator.scenario import derived
from simulator.schedule import build_schedule
from simulator.step.inputs import StepInputs


def build_graph(inputs: StepInputs, global_batch_size: int | None = None, schedule: str | None = None) -> StepGraph:
    """The step as a graph with a class table. Raises InconsistentSimulation where an action or FLOP is lost."""
    scenario = inputs.scenario
    micro_batches = derived.num_micro_batches(scenario, global_batch_size)
    order = build_schedule(schedule or scenario.parallel.schedule, scenario.parallel.pp, micro_batches)
    graph = expand(
        order,
        inputs.stages,
        inputs.tail(order),
        pair_overlap=derived.overlaps_pairs(scenario),
        wait_at_boundary=inputs.assumptions["pp_boundary_wait"].value >= 0.5,
    )
    check_graph(graph, inputs.workload)
    return graph
