"""What each stated assumption is worth: the step again with one assumption at an end of its range, the others as they are.

Assumptions of the memory model move no time. Those of chip speed and sequence correlation act through random draws: the
first few are run again with the same random numbers. Those of the router's dynamics are left out here (each needs the router
simulated again); `--set assumptions.<key>=…` shows their effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hwprofiles.schema import Assumption
from simulator.assembly.step_graph import StepGraph
from simulator.engine import sweep_batch
from simulator.results.interval import Interval
from simulator.step.draws import draw_rows
from simulator.step.graph import build_graph
from simulator.step.inputs import StepInputs
from simulator.workload.expert_load import LoadModel, noise_cv

DRAWS = 2
"""Random draws that are run again for an assumption that acts through them; common random numbers make few enough."""
MEMORY = "memory_"
ROUTER = ("expert_popularity_cv", "expert_popularity_drift_cv", "bias_update_rate", "aux_loss_pressure")
RANDOM = ("gpu_speed_cv", "routing_concentration")


def assumption_effects(inputs: StepInputs, batch: int, schedule: str | None = None) -> dict[str, Interval]:
    """Assumption → change of the step, relative, at the ends of its range (the lower end first where it shortens).

    batch: sequences of the step; schedule: another than the scenario's.
    """
    graph = build_graph(inputs, batch, schedule)
    base = {key: _makespan(inputs, graph, drawn=key in RANDOM) for key in (RANDOM[0], "")}
    effects: dict[str, Interval] = {}
    for key, entry in inputs.assumptions.items():
        if key in ROUTER:
            continue
        if key.startswith(MEMORY):
            effects[key] = Interval(low=0.0, high=0.0)
            continue
        reference = base[RANDOM[0]] if key in RANDOM else base[""]
        ends = (entry.low, entry.high)
        changes = [_changed(inputs, graph, entry, end, (batch, schedule)) / reference - 1.0 for end in ends]
        effects[key] = Interval(low=min(0.0, *changes), high=max(0.0, *changes))
    return effects


def _changed(
    inputs: StepInputs, graph: StepGraph, entry: Assumption, value: float, step: tuple[int, str | None]
) -> float:
    """Step seconds with one assumption at `value`. step: what `build_graph` takes, batch and schedule."""
    if entry.key == "routing_concentration":
        return _makespan(inputs, graph, drawn=True, noise_factor=_noise_ratio(inputs, entry.value, value))
    changed = _with(inputs, entry, value)
    if entry.key in RANDOM:
        return _makespan(changed, graph, drawn=True)
    return _makespan(changed, build_graph(changed, *step), drawn=False)


def _with(inputs: StepInputs, entry: Assumption, value: float) -> StepInputs:
    """The inputs with one assumption exact at `value`; what is derived from them is derived again."""
    fixed: Mapping[str, Assumption] = {
        entry.key: entry.model_copy(update={"value": value, "low": value, "high": value})
    }
    stack = inputs.stack
    if entry.key in stack.assumptions:
        stack = replace(stack, assumptions={**stack.assumptions, **fixed})
    changed = replace(inputs, stack=stack, assumptions={**inputs.assumptions, **fixed})
    # Counted work depends on no assumption but the router's, which do not come here: not counted again.
    vars(changed)["workload"] = inputs.workload
    return changed


def _noise_ratio(inputs: StepInputs, stated: float, changed: float) -> float:
    """By how much the spread of a rank's rows changes with the concentration (closed form of expert_load)."""
    s, moe = inputs.scenario, inputs.scenario.model.moe
    ep = s.parallel.ep
    if moe is None or ep == 1:
        return 1.0
    size = (ep, ep * s.training.micro_batch_size, s.training.seq_len * moe.top_k)
    return noise_cv(*size, changed) / noise_cv(*size, stated)


def _makespan(inputs: StepInputs, graph: StepGraph, *, drawn: bool, noise_factor: float = 1.0) -> float:
    """Step seconds: of even loads, or the mean of the first draws with the spread of loads scaled."""
    seconds = graph.class_seconds()
    if not drawn:
        rows = [np.ones((graph.dag.num_draw_rows, 1))]
    else:
        load = inputs.load_model
        scaled = _scaled(load, noise_factor) if load else None
        found = [draw_rows(inputs, graph, draw, load=scaled) for draw in range(min(DRAWS, inputs.scenario.draws))]
        rows = [np.ones((graph.dag.num_draw_rows, 1)) if each is None else each for each in found]
    return float(np.mean([sweep_batch(graph.dag, seconds, each[None]).makespan_s[0] for each in rows]))


def _scaled(load: LoadModel, factor: float) -> LoadModel:
    node = None if load.node_noise_cv is None else load.node_noise_cv * factor
    return replace(load, noise_cv=load.noise_cv * factor, node_noise_cv=node)
