"""What each stated assumption does: the step with one assumption at an end of its range, the others as they are.

Assumptions of the memory model move no time. Those that prices rest on give another class table of the same graph, a lane of
the engine; where they give another graph, that is swept by itself. Those of chip speed and sequence correlation act through
random draws: the first few are run again with the same random numbers. Those of the router's dynamics act through what persists
between experts (`routing_model.persistent_ratio`): the loads are drawn again with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from math import fsum

from hwprofiles.assumption_units import ASSUMPTION_UNITS
from hwprofiles.stack_records import Assumption
from simulator.assembly.chunks import DP, NUM_STREAMS
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.unit_costs import INSIDE
from simulator.engine import sweep
from simulator.scenario import derived
from simulator.scenario.plan import LoadImbalance
from simulator.schedule.action import Schedule
from simulator.step.draws import MAX_THREADS, Randomness, Report, drawn_step_s, randomness
from simulator.step.graph import build_graph, waits_for_its_transfers
from simulator.step.lanes import Floats, Moved
from simulator.step.power import StepPower, at_speeds_of, seconds_apart
from simulator.step.prepared import PreparedStep, expert_group, price
from simulator.step.ranges import within
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


def assumption_sources(
    step: PreparedStep, order: Schedule, power: StepPower, report: Report | None = None
) -> list[Moved]:
    """Every assumption of a step of these actions, in the order in which they are stated.

    report: is told, before each assumption, which share of them is done.
    """
    idle = _idle(step, power.graph)
    ends = {
        (key, end): getattr(entry, end)
        for key, entry in step.assumptions.items()
        for end in ("low", "high")
        if getattr(entry, end) != entry.value and not key.startswith(MEMORY) and key not in idle
    }
    at_ends: dict[tuple[str, str], Floats | float | None] = {}
    # Draws are made and swept without Python's lock, prices found under it: they go on side by side.
    with ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        drawn = _drawn_steps(step, power.graph, {at: value for at, value in ends.items() if at[0] in RANDOM}, pool)
        for done, (key, entry) in enumerate(step.assumptions.items()):
            if report is not None:
                report(done / len(step.assumptions))
            for end in ("low", "high"):
                if (key, end) in ends and key not in RANDOM:
                    at_ends[key, end] = _priced(step, power, entry, ends[key, end], order)
        before = _mean_s(drawn[None]) if drawn else 0.0
        at_ends |= {at: _mean_s(tasks) / before - 1.0 for at, tasks in drawn.items() if at is not None}
    return [
        _moved(entry, at_ends.get((key, "low")), at_ends.get((key, "high"))) for key, entry in step.assumptions.items()
    ]


def _moved(entry: Assumption, at_low: Floats | float | None, at_high: Floats | float | None) -> Moved:
    bounds = ASSUMPTION_UNITS[entry.unit]
    held = within(entry, bounds.low, bounds.high)
    return Moved(entry.key, at_low, at_high, entry.low, entry.value, entry.high, held)


def _idle(step: PreparedStep, graph: StepGraph) -> frozenset[str]:
    """Assumptions that have nothing to act on."""
    idle = frozenset(() if step.scenario.offload.is_used else HOST)
    if _has_collectives_among_kernels(graph):
        return idle
    return idle | (set(BESIDE) - ({STRETCH} if step.messages.full_grid else set()))


def _has_collectives_among_kernels(graph: StepGraph) -> bool:
    """Whether some collective stands in a block of kernels or runs inside an action, beside them."""
    streams = graph.dag.resource[: graph.tail_first] % NUM_STREAMS
    return bool((streams == DP).any()) or any(
        category in each.by_category for each in graph.classes for category in INSIDE.values()
    )


def _priced(
    step: PreparedStep, power: StepPower, entry: Assumption, value: float, order: Schedule
) -> Floats | float | None:
    """What a step with one assumption at `value` takes, at the speeds of the step as it is: its class table, or where its graph
    is another the change of its seconds; None where nothing changes that the graph is made of.
    """
    changed = _with(step, entry, value)
    is_same_order = waits_for_its_transfers(changed, order) == waits_for_its_transfers(step, order)
    if is_same_order and changed.has_prices_of(step):
        return None
    graph = build_graph(changed, order, power.plain)
    if graph.dag is power.plain.dag:
        return seconds_apart(power, graph)
    other = at_speeds_of(power, graph)
    before, after = (sweep(each.dag, each.class_seconds()).makespan_s for each in (power.graph, other))
    return after / before - 1.0


def _chance(step: PreparedStep, entry: Assumption, value: float) -> Randomness | None:
    """What is drawn with one assumption of RANDOM at `value`; None where that is what the step draws."""
    random, load = step.random, step.random.load
    if entry.key == "gpu_speed_cv":
        found = randomness(step.scenario, load, value, random.documents)
        return None if found.speed_cv == random.speed_cv else found
    if load is None:
        return None
    if entry.key == "routing_concentration":
        factor = _noise_ratio(step, entry.value, value)
        return None if factor == 1.0 else replace(random, load=_scaled(load, factor))
    group, changed = expert_group(step.scenario, step.hardware), entry.model_copy(update={"value": value})
    ratio = persistent_at(step.scenario, group, step.assumptions, changed)
    if ratio is None:
        return None
    node = None if load.node_persistent_cv is None else load.node_persistent_cv * ratio
    load = replace(load, persistent_cv=load.persistent_cv * ratio, node_persistent_cv=node)
    return replace(random, load=load)


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


def _scaled(load: LoadModel, factor: float) -> LoadModel:
    node = None if load.node_noise_cv is None else load.node_noise_cv * factor
    return replace(load, noise_cv=load.noise_cv * factor, node_noise_cv=node)


def _drawn_steps(
    step: PreparedStep, graph: StepGraph, ends: Mapping[tuple[str, str], float], pool: ThreadPoolExecutor
) -> dict[tuple[str, str] | None, list[Future[float]]]:
    """(key, end) → seconds of the first draws with an assumption of RANDOM there, where that draws anything else; None: of the
    step as it is. Empty where none does.
    """
    chances: dict[tuple[str, str] | None, Randomness] = {None: step.random}
    for (key, end), value in ends.items():
        found = _chance(step, step.assumptions[key], value)
        if found is not None:
            chances[key, end] = found
    if len(chances) == 1:
        return {}
    seconds, draws = graph.class_seconds(), range(min(DRAWS, step.random.draws))
    return {
        at: [pool.submit(drawn_step_s, random, graph, seconds, draw) for draw in draws]
        for at, random in chances.items()
    }


def _mean_s(tasks: Sequence[Future[float]]) -> float:
    return fsum(task.result() for task in tasks) / len(tasks)
