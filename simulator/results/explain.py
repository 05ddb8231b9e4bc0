"""Why a step takes what it takes: seconds by category, what holds it back, where the durations come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import COMPUTE, HOST, NUM_STREAMS
from simulator.assembly.step_graph import StepGraph, of_operators
from simulator.results.step_result import Basis, Binding, CategoryTime

Floats = NDArray[np.float64]

WHY: Mapping[str, str] = {
    "gemm": "attention, shared-expert, dense and head GEMMs",
    "expert_gemm": "grouped GEMMs of the routed experts",
    "attention": "attention core, forward and backward",
    "memory_bound": "casts, transposes, norms, permutes and other kernels bound by memory bandwidth",
    "kernel_gaps": "idle time between consecutive kernels of a stream",
    "all_to_all": "dispatch and combine between the ranks of an expert group",
    "cp_collectives": "exchanges around the attention core between the ranks that share a sequence",
    "tp_collectives": "gathers and reductions between the ranks that share the GEMMs of a layer or an expert",
    "pp_transfer": "activations and gradients sent between pipeline stages",
    "data_parallel": "reduction of gradients and gather of parameters over the data-parallel ranks",
    "interference": "SMs and memory bandwidth that data-parallel collectives take from the kernels beside them",
    "link_sharing": "messages of two kinds on one link at the same time, which share its rate",
    "host": "kernels that their host has not issued yet: Python, framework and driver, reads of what the router decided",
    "other": "what the host does between steps: reading and logging the loss, data, garbage collection",
    "optimizer": "gradient norm, AdamW, weight quantisation",
    "offload": "copies of activations, gradients and weights between a GPU and its host, and the host's update",
    "document_spread": "sequences packed from unequal documents: the longest holds its group and its pipeline",
    "speed_spread": "GPUs of one kind differ in speed: the slowest of a group holds all the others",
    "power_limit": "arithmetic below the speed of its first launches, so that mean power meets the limit",
    "expert_imbalance": "uneven expert load: the fullest rank of a group holds all the others",
}
"""What each category is."""


@dataclass(frozen=True)
class Busy:
    """Compute-stream seconds of the actions by category, and all seconds of the device by basis; means over the
    pipeline ranks.
    """

    by_category: Mapping[str, float]
    by_basis: Mapping[str, float]

    @property
    def compute_s(self) -> float:
        """Seconds in which the compute stream has work, gaps between kernels included."""
        return fsum(self.by_category.values())


def busy(graph: StepGraph, multipliers: Floats) -> Busy:
    """Sums over the graph, per pipeline rank. multipliers: (draw rows,) of the durations, means over lanes and draws."""
    dag = graph.dag
    times = np.where(dag.resource % NUM_STREAMS == HOST, 0.0, of_operators(graph, multipliers))
    counts = np.bincount(dag.op_class, times, dag.num_classes) / graph.num_ranks
    is_compute = dag.resource % NUM_STREAMS == COMPUTE
    is_compute[graph.tail_first :] = False
    computing = np.bincount(dag.op_class[is_compute], times[is_compute], dag.num_classes) / graph.num_ranks
    by_category: dict[str, float] = {}
    by_basis: dict[str, float] = {}
    for segment, on_compute, all_of_it in zip(graph.classes, computing, counts, strict=True):
        if on_compute:
            for name, seconds in segment.by_category.items():
                by_category[name] = by_category.get(name, 0.0) + float(on_compute) * seconds
        for name, seconds in segment.by_basis.items():
            by_basis[name] = by_basis.get(name, 0.0) + float(all_of_it) * seconds
    return Busy(by_category, by_basis)


def categories(
    work: Busy,
    step_s: float,
    action_s: float,
    bubble_s: float,
    optimizer_s: float,
    host_s: float = 0.0,
    other_s: float = 0.0,
) -> tuple[CategoryTime, ...]:
    """Compute by category, then communication and waits that nothing hides, bubble, optimizer; they sum to the step.

    action_s: summed intervals of a rank's actions, mean over the ranks; host_s: waits for the host in them.
    other_s: of the host alone at the end.
    """
    waits = max(0.0, action_s - work.compute_s)
    host = {"host": min(host_s, waits)} if host_s else {}
    parts = {**work.by_category, "exposed_communication": waits - host.get("host", 0.0), **host, "bubble": bubble_s}
    other = {"other": min(other_s, optimizer_s)} if other_s else {}
    parts |= {"optimizer": optimizer_s - other.get("other", 0.0), **other}
    return tuple(
        CategoryTime(category=name, seconds=max(0.0, s), share=max(0.0, s) / step_s) for name, s in parts.items()
    )


def class_seconds_without(graph: StepGraph, category: str) -> Floats:
    """(num_classes,) seconds with one category free; a class of nothing else takes none, whatever its sums round to."""
    own = graph.seconds_by_category.get(category)
    return graph.class_seconds() if own is None else np.maximum(0.0, graph.class_seconds() - own)


def category_names(graph: StepGraph) -> tuple[str, ...]:
    """All categories of the graph, sorted."""
    return tuple(graph.seconds_by_category)


def binding(
    graph: StepGraph, makespan: Callable[[Floats], float], base: float, added_s: Mapping[str, float]
) -> tuple[Binding, ...]:
    """What the step would lose if one category were free, strongest first; what no kernel is as what it adds (seconds).

    base: `makespan` of the graph as it is, seconds.
    """
    rows = [(name, base - makespan(class_seconds_without(graph, name))) for name in category_names(graph)]
    rows += [(name, seconds) for name, seconds in added_s.items() if seconds > 0]
    rows.sort(key=lambda row: (-row[1], row[0]))
    return tuple(Binding(what=name, seconds=max(0.0, seconds), why=WHY[name]) for name, seconds in rows)


def basis(work: Busy) -> Basis:
    """Shares of the simulated kernel and link time by where it comes from."""
    return Basis.of_seconds(dict(work.by_basis))


def mean_parts(parts: Sequence[Floats]) -> Floats:
    """Mean over draws."""
    mean: Floats = np.mean(np.stack(list(parts)), axis=0)
    return mean
