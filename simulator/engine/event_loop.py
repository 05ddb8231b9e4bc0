"""The engine for rates that change: operators that use links share them max-min, and every start and end shares anew.

For graphs whose operators share nothing it is the sweep, bit for bit. One lane: what sharing adds to each operator is the same
for every lane and draw (simulator/step/link_sharing.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.engine.dag import FloatArray, IntArray, StepDag, Timeline
from simulator.engine.inputs import check_dag, check_durations
from simulator.errors import InconsistentSimulation


@dataclass(frozen=True, eq=False)
class Flows:
    """What operators put on links while they run alone.

    of_op (n,): row of the flow that an operator is, -1 for none. links (flows, width): the links of a flow, -1 for none.
    loads (flows, width): the share of each that it takes alone, 0 to 1. num_links: how many there are.
    times (flows, 2): the share of its time in which an operator uses its links, the others' chance to meet it there, and the
    share in which it does nothing else, which gets longer; 1 and 1 for a message of its own.
    """

    of_op: IntArray
    links: IntArray
    loads: FloatArray
    num_links: int
    times: FloatArray


@dataclass(frozen=True, eq=False)
class Shared:
    """timeline: of one lane. added_s (n,): what sharing links adds to each operator's own seconds, 0 or more."""

    timeline: Timeline
    added_s: NDArray[np.float64]


def event_loop(dag: StepDag, class_seconds: FloatArray, flows: Flows) -> Shared:
    """Start and finish of every operator where flows share links at max-min fair rates.

    A flow runs at the share of its own pace that its fullest link leaves it; operators that are no flow run at theirs. Beside
    one that uses links for a part of its time others have the mean of their rates with and without it.
    Raises InconsistentSimulation for an unsound graph or flows outside their tables, or where operators never end.
    """
    check_dag(dag)
    class_seconds, _ = check_durations(dag, class_seconds, None)
    loads = np.where(flows.links >= 0, flows.loads, 0.0)
    _check(dag, flows, loads)
    demand = loads.max(axis=1, initial=0.0)
    uses_any = demand > 0.0
    of_op = (
        np.where((flows.of_op >= 0) & uses_any[np.maximum(flows.of_op, 0)], flows.of_op, -1)
        if len(demand)
        else flows.of_op
    )
    links = np.where(loads > 0.0, flows.links, -1)
    per_demand = np.divide(loads, demand[:, None], out=np.zeros(loads.shape), where=uses_any[:, None])
    from simulator.engine import compiled_links

    start, finish, added = np.zeros(dag.num_ops), np.zeros(dag.num_ops), np.zeros(dag.num_ops)
    graph = (dag.op_class, dag.resource, dag.pred_ptr, dag.pred)
    done = compiled_links.event_loop(
        *(np.ascontiguousarray(each, dtype=np.int32) for each in graph), class_seconds,
        *(np.ascontiguousarray(each, dtype=np.int32) for each in (of_op, links)), np.ascontiguousarray(per_demand), demand,
        np.ascontiguousarray(flows.times), dag.num_resources, flows.num_links, start, finish, added,
    )  # fmt: skip
    if done < dag.num_ops:
        raise InconsistentSimulation(f"step graph: {dag.num_ops - done} operators never ended")
    return Shared(Timeline(start[:, None], finish[:, None]), added)


def _check(dag: StepDag, flows: Flows, loads: FloatArray) -> None:
    if (
        flows.of_op.shape != (dag.num_ops,)
        or flows.links.shape != flows.loads.shape
        or flows.times.shape != (len(flows.links), 2)
    ):
        raise InconsistentSimulation("flows: an array has the wrong shape")
    if flows.of_op.max(initial=-1) >= len(flows.links) or flows.links.max(initial=-1) >= flows.num_links:
        raise InconsistentSimulation("flows: a row or a link outside its table")
    if not all(((each >= 0.0) & (each <= 1.0)).all() for each in (loads, flows.times)):
        raise InconsistentSimulation("flows: a flow alone takes less than nothing or more than all of a link")
