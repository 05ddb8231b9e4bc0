"""What each stated assumption is worth: the step again with one assumption at an end of its range, the others as they are.

Assumptions of the memory model move no time. Those of chip speed and sequence correlation act through random draws: the
first few are run again with the same random numbers. Those of the router's dynamics act through what persists between experts
(`routing_model.persistent_ratio`): the loads are drawn again with it. Beside them, under keys `power.*`: what the ranges of the
power constants are worth, and what no input says and no mechanism has (scenario/run_ranges.yaml).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwprofiles.stack_records import Assumption
from simulator.assembly.chunks import DP, NUM_STREAMS
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.unit_costs import INSIDE
from simulator.engine import sweep_batch
from simulator.results.interval import Interval
from simulator.scenario import derived
from simulator.scenario.plan import LoadImbalance
from simulator.scenario.run_ranges import run_ranges
from simulator.schedule.action import Schedule
from simulator.step.draws import Report, draw_rows, randomness
from simulator.step.graph import build_graph, waits_for_its_transfers
from simulator.step.power import StepPower, at_speeds_of, power_of, power_range
from simulator.step.prepared import PreparedStep, expert_group, price
from simulator.step.ranges import loop_range
from simulator.step.routing import ROUTER, persistent_at
from simulator.workload.expert_load import LoadModel, noise_cv

DRAWS = 2
"""Random draws that are run again for an assumption that acts through them; common random numbers make few enough."""
MEMORY = "memory_"
RANDOM = ("gpu_speed_cv", "routing_concentration", *ROUTER)
HOST = ("host_link_frac", "host_memory_frac")
"""Assumptions that act only where something is offloaded."""
STRETCH = "collective_stretch"
BESIDE = ("collective_sms", STRETCH, "tp_overlap_chunks", "tp_overlap_sms")
"""Assumptions that act only where some collective runs beside kernels, or in a block of them; the stretch of dispatch and
combine too, where kernels beside these are launched on the whole GPU."""


def assumption_effects(
    step: PreparedStep, order: Schedule, report: Report | None = None, power: StepPower | None = None
) -> dict[str, Interval]:
    """Assumption → change of the step, relative, at the ends of its range (the lower end first where it shortens).

    order: the actions of the step; power: the step with them, where it is solved already. report: is told, before each
    assumption, which share of them is done.
    """
    power = power or power_of(step, build_graph(step, order))
    graph = power.graph
    base = {key: _makespan(step, graph, drawn=key in RANDOM) for key in (RANDOM[0], "")}
    stated = {key: Interval(low=each.low, high=each.high) for key, each in run_ranges(step.scenario).items()}
    effects = {**stated, **power_range(power), **loop_range(power, step.kernels)}
    idle = (
        () if _has_collectives_among_kernels(graph) else set(BESIDE) - ({STRETCH} if step.messages.full_grid else set())
    )
    idle = idle if step.scenario.offload.is_used else (*idle, *HOST)
    for done, (key, entry) in enumerate(step.assumptions.items()):
        if report is not None:
            report(done / len(step.assumptions))
        if key.startswith(MEMORY) or key in idle:
            effects[key] = Interval(low=0.0, high=0.0)
            continue
        reference = base[RANDOM[0]] if key in RANDOM else base[""]
        ends = [end for end in (entry.low, entry.high) if end != entry.value]
        changed = (_changed(step, power, entry, end, order) for end in ends)
        changes = [0.0 if seconds is None else seconds / reference - 1.0 for seconds in changed]
        effects[key] = Interval(low=min([0.0, *changes]), high=max([0.0, *changes]))
    return effects


def _has_collectives_among_kernels(graph: StepGraph) -> bool:
    """Whether some collective stands in a block of kernels or runs inside an action, beside them."""
    streams = graph.dag.resource[: graph.tail_first] % NUM_STREAMS
    return bool((streams == DP).any()) or any(
        category in each.by_category for each in graph.classes for category in INSIDE.values()
    )


def _changed(step: PreparedStep, power: StepPower, entry: Assumption, value: float, order: Schedule) -> float | None:
    """Step seconds with one assumption at `value`, at the speeds of the step as it is; None where that changes nothing that the
    graph is made of.
    """
    graph = power.graph
    if entry.key == "routing_concentration":
        return _makespan(step, graph, drawn=True, noise_factor=_noise_ratio(step, entry.value, value))
    if entry.key in ROUTER:
        return _routed(step, graph, entry.model_copy(update={"value": value}))
    if entry.key == "gpu_speed_cv":
        drawn = randomness(step.scenario, step.random.load, value, step.random.documents)
        return _makespan(replace(step, random=drawn), graph, drawn=True)
    changed = _with(step, entry, value)
    is_same_order = waits_for_its_transfers(changed, order) == waits_for_its_transfers(step, order)
    if is_same_order and changed.has_prices_of(step):
        return None
    return _makespan(changed, at_speeds_of(power, build_graph(changed, order, power.plain)), drawn=False)


def _routed(step: PreparedStep, graph: StepGraph, entry: Assumption) -> float | None:
    """Step seconds with another router; None where no loads are drawn or the assumption moves none."""
    load, group = step.random.load, expert_group(step.scenario, step.hardware)
    factor = None if load is None else persistent_at(step.scenario, group, step.assumptions, entry)
    if load is None or factor is None:
        return None
    node = None if load.node_persistent_cv is None else load.node_persistent_cv * factor
    changed = replace(load, persistent_cv=load.persistent_cv * factor, node_persistent_cv=node)
    return _makespan(replace(step, random=replace(step.random, load=changed)), graph, drawn=True)


def _with(step: PreparedStep, entry: Assumption, value: float) -> PreparedStep:
    """The step with one assumption exact at `value`, priced anew.

    Counted work depends on no assumption but the router's, which do not come here: it is not counted again.
    """
    fixed = entry.model_copy(update={"value": value, "low": value, "high": value})
    assumptions = {**step.assumptions, entry.key: fixed}
    return price(step.scenario, step.hardware, assumptions, step.workload, step.random.load, step)


def _noise_ratio(step: PreparedStep, stated: float, changed: float) -> float:
    """By how much the spread of a rank's rows changes with the concentration (closed form of expert_load).

    1 where no router spreads them: without experts elsewhere, and where the scenario gives the imbalance itself.
    """
    s, moe = step.scenario, step.scenario.model.moe
    ep = s.parallel.ep
    if moe is None or ep == 1 or isinstance(s.moe.balance, LoadImbalance):
        return 1.0
    sequences, seq_len = derived.expert_group_sequences(s)
    size = (ep, sequences, seq_len * moe.top_k)
    return noise_cv(*size, changed) / noise_cv(*size, stated)


def _makespan(step: PreparedStep, graph: StepGraph, *, drawn: bool, noise_factor: float = 1.0) -> float:
    """Step seconds: of even loads, or the mean of the first draws with the spread of loads scaled."""
    seconds = graph.class_seconds()
    if not drawn:
        rows = [np.ones((graph.dag.num_draw_rows, 1))]
    else:
        load = step.random.load
        scaled = _scaled(load, noise_factor) if load else None
        found = [draw_rows(step.random, graph, draw, load=scaled) for draw in range(min(DRAWS, step.scenario.draws))]
        rows = [np.ones((graph.dag.num_draw_rows, 1)) if each is None else each for each in found]
    return float(np.mean([sweep_batch(graph.dag, seconds, each[None]).makespan_s[0] for each in rows]))


def _scaled(load: LoadModel, factor: float) -> LoadModel:
    node = None if load.node_noise_cv is None else load.node_noise_cv * factor
    return replace(load, noise_cv=load.noise_cv * factor, node_noise_cv=node)
