"""The compiled loops of shared links: max-min rates, and the event loop of operators whose rates change.

Imported only when something is shared, as `compiled`; IEEE order is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from simulator.engine.compiled import BOOLS_OUT, INTS, INTS_OUT, ROW, ROW_OUT, TABLE, compile_loop
from simulator.engine.dag import FloatArray, IntArray

BoolArray = NDArray[np.bool_]
INT_TABLE = types.Array(types.int32, 2, "C", readonly=True)
INT_PAIR: Any = types.Tuple((INTS_OUT, INTS_OUT))  # type: ignore[no-untyped-call]


def _fill(
    left: FloatArray, crossing: FloatArray, links: IntArray, uses: FloatArray, demand: FloatArray, num_flows: int,
    rates: FloatArray,
) -> None:  # fmt: skip
    """Progressive filling of the first `num_flows` flows. Writes rates.

    left (links,): capacity, of which what stopped flows hold is taken off. crossing (links,): scratch, zeros; is left as zeros.
    links, uses (flows, width): links of a flow (-1 for none) and the share of its bytes there. demand (flows,): most of each.
    """
    width = links.shape[1]
    for flow in range(num_flows):
        rates[flow] = -1.0
        for at in range(width):
            if links[flow, at] >= 0:
                crossing[links[flow, at]] += uses[flow, at]
    num_left = num_flows
    while num_left > 0:
        level = np.inf
        for flow in range(num_flows):
            if rates[flow] < 0.0:
                level = min(level, demand[flow])
                for at in range(width):
                    link = links[flow, at]
                    if link >= 0 and uses[flow, at] > 0.0:
                        level = min(level, left[link] / crossing[link])
        for flow in range(num_flows):
            if rates[flow] < 0.0:
                stops = demand[flow] <= level
                for at in range(width):
                    link = links[flow, at]
                    if link >= 0 and uses[flow, at] > 0.0 and left[link] / crossing[link] <= level:
                        stops = True
                if stops:
                    rates[flow] = -2.0
        for flow in range(num_flows):
            if rates[flow] == -2.0:
                rates[flow] = max(level, 0.0)
                num_left -= 1
                for at in range(width):
                    if links[flow, at] >= 0:
                        left[links[flow, at]] -= level * uses[flow, at]
                        crossing[links[flow, at]] -= uses[flow, at]
    for flow in range(num_flows):
        for at in range(width):
            if links[flow, at] >= 0:
                crossing[links[flow, at]] = 0.0


fill = compile_loop(
    types.void(ROW_OUT, ROW_OUT, INT_TABLE, TABLE, ROW, types.int64, ROW_OUT),
    _fill,
)


def _successors(pred_ptr: IntArray, pred: IntArray) -> tuple[IntArray, IntArray]:
    """(n + 1,) and (edges,): the successors of every operator, as predecessors are stored."""
    num_ops = len(pred_ptr) - 1
    ptr = np.zeros(num_ops + 1, dtype=np.int32)
    for edge in range(len(pred)):
        ptr[pred[edge] + 1] += 1
    for op in range(num_ops):
        ptr[op + 1] += ptr[op]
    place, succ = ptr[:-1].copy(), np.empty(len(pred), dtype=np.int32)
    for op in range(num_ops):
        for edge in range(pred_ptr[op], pred_ptr[op + 1]):
            succ[place[pred[edge]]] = op
            place[pred[edge]] += 1
    return ptr, succ


successors = compile_loop(INT_PAIR(INTS, INTS), _successors)


def _component(
    on: IntArray, links: IntArray, is_marked: BoolArray, members: IntArray
) -> int:  # fmt: skip
    """Writes the resources whose flows touch a marked link, and marks their links, until there is none; returns how many.

    on (resources,): the flow that runs there, -1 for none. is_marked (links,).
    """
    count, grows = 0, True
    while grows:
        grows = False
        for resource in range(len(on)):
            flow = on[resource]
            if flow < 0:
                continue
            is_member = False
            for at in range(count):
                is_member = is_member or members[at] == resource
            if is_member:
                continue
            for at in range(links.shape[1]):
                link = links[flow, at]
                if link >= 0 and is_marked[link]:
                    is_member = True
            if is_member:
                members[count] = resource
                count += 1
                grows = True
                for at in range(links.shape[1]):
                    if links[flow, at] >= 0:
                        is_marked[links[flow, at]] = True
    return count


component = compile_loop(types.int64(INTS, INT_TABLE, BOOLS_OUT, INTS_OUT), _component)


def _refill(
    now: float, on: IntArray, links: IntArray, uses: FloatArray, demand: FloatArray, times: FloatArray,
    is_marked: BoolArray, members: IntArray, work_left: FloatArray, since: FloatArray, speed: FloatArray, due: FloatArray,
    slowed: BoolArray, left: FloatArray, crossing: FloatArray,
) -> None:  # fmt: skip
    """Speeds of the flows that touch a marked link, from now on; clears the marks. speed (resources,): 1 for one alone."""
    count, width = component(on, links, is_marked, members), links.shape[1]
    own_links, own_uses = np.empty((count, width), dtype=np.int32), np.empty((count, width))
    own_demand, steady, rates, without = np.empty(count), np.empty(count), np.empty(count), np.zeros(count)
    part = 0.0
    for i in range(count):
        flow = on[members[i]]
        own_demand[i] = demand[flow]
        is_steady = times[flow, 0] >= 1.0
        steady[i] = demand[flow] if is_steady else 0.0
        part = part if is_steady else max(part, times[flow, 0])
        for at in range(width):
            own_links[i, at], own_uses[i, at] = links[flow, at], uses[flow, at]
    fill(left, crossing, own_links, own_uses, own_demand, count, rates)
    if part > 0.0:
        for link in range(len(left)):
            left[link] = 1.0
        fill(left, crossing, own_links, own_uses, steady, count, without)
    for i in range(count):
        resource, flow = members[i], on[members[i]]
        now_at = min(1.0, rates[i] / own_demand[i])
        if part > 0.0 and steady[i] > 0.0:
            now_at = min(1.0, (part * rates[i] + (1.0 - part) * without[i]) / own_demand[i])
        now_at = 1.0 / (1.0 - times[flow, 1] + times[flow, 1] / now_at) if times[flow, 1] < 1.0 else now_at
        if now_at != speed[resource]:
            done = (now - since[resource]) * speed[resource]
            work_left[resource] = max(0.0, work_left[resource] - done)
            since[resource] = now
            speed[resource] = now_at
            due[resource] = now + work_left[resource] / now_at
            slowed[resource] = slowed[resource] or now_at < 1.0
    for link in range(len(is_marked)):
        is_marked[link] = False
        left[link] = 1.0


refill = compile_loop(
    types.void(
        types.float64, INTS, INT_TABLE, TABLE, ROW, TABLE, BOOLS_OUT, INTS_OUT, ROW_OUT, ROW_OUT, ROW_OUT, ROW_OUT,
        BOOLS_OUT, ROW_OUT, ROW_OUT,
    ),
    _refill,
)  # fmt: skip


def _hold(flow: int, change: int, links: IntArray, on_link: IntArray, is_marked: BoolArray) -> bool:
    """A flow begins (change 1) or ends (-1): counts it on its links, marks those that others use too; whether there are any."""
    is_shared = False
    for place in range(links.shape[1]):
        link = links[flow, place]
        if link >= 0:
            on_link[link] += change
            if on_link[link] > max(change, 0):
                is_marked[link] = True
                is_shared = True
    return is_shared


hold = compile_loop(types.boolean(types.int32, types.int32, INT_TABLE, INTS_OUT, BOOLS_OUT), _hold)


def _release(op: int, ptr: IntArray, succ: IntArray, missing: IntArray, ready: IntArray, num_ready: int) -> int:
    """An operator has ended: writes the successors that nothing holds any longer; returns how many are ready."""
    for edge in range(ptr[op], ptr[op + 1]):
        missing[succ[edge]] -= 1
        if missing[succ[edge]] == 0:
            ready[num_ready] = succ[edge]
            num_ready += 1
    return num_ready


release = compile_loop(types.int64(types.int64, INTS, INTS, INTS_OUT, INTS_OUT, types.int64), _release)


def _event_loop(
    op_class: IntArray, resource: IntArray, pred_ptr: IntArray, pred: IntArray, seconds: FloatArray, flow_of: IntArray,
    links: IntArray, uses: FloatArray, demand: FloatArray, times: FloatArray, num_resources: int, num_links: int,
    start: FloatArray, finish: FloatArray, added: FloatArray,
) -> int:  # fmt: skip
    """One lane, event by event; returns how many operators ended. See event_loop.py. A resource runs one operator at a time."""
    num_ops = len(op_class)
    succ_ptr, succ = successors(pred_ptr, pred)
    missing, ready = np.empty(num_ops, dtype=np.int32), np.empty(num_ops, dtype=np.int32)
    num_ready = 0
    for op in range(num_ops):
        missing[op] = pred_ptr[op + 1] - pred_ptr[op]
        if missing[op] == 0:
            ready[num_ready] = op
            num_ready += 1
    running, on = np.full(num_resources, -1, dtype=np.int32), np.full(num_resources, -1, dtype=np.int32)
    due, speed, slowed = np.full(num_resources, np.inf), np.ones(num_resources), np.zeros(num_resources, dtype=np.bool_)
    work_left, since, members = (
        np.zeros(num_resources),
        np.zeros(num_resources),
        np.empty(num_resources, dtype=np.int32),
    )
    left, crossing, on_link = np.ones(num_links), np.zeros(num_links), np.zeros(num_links, dtype=np.int32)
    is_marked = np.zeros(num_links, dtype=np.bool_)
    now, num_done, is_shared = 0.0, 0, False
    while True:
        while num_ready > 0:
            num_ready -= 1
            op = ready[num_ready]
            at = resource[op]
            running[at], start[op], due[at] = op, now, now + seconds[op_class[op]]
            if flow_of[op] >= 0:
                on[at], work_left[at], since[at], speed[at] = flow_of[op], seconds[op_class[op]], now, 1.0
                slowed[at] = False
                is_shared = hold(on[at], 1, links, on_link, is_marked) or is_shared
        if is_shared:
            refill(
                now, on, links, uses, demand, times, is_marked, members, work_left, since, speed, due, slowed, left, crossing
            )  # fmt: skip
        is_shared, now = False, np.inf
        for at in range(num_resources):
            now = min(now, due[at])
        if now == np.inf:
            return num_done
        for at in range(num_resources):
            if due[at] > now:
                continue
            op = running[at]
            due[at], finish[op] = np.inf, now
            num_done += 1
            if on[at] >= 0:
                added[op] = max(0.0, now - start[op] - seconds[op_class[op]]) if slowed[at] else 0.0
                is_shared = hold(on[at], -1, links, on_link, is_marked) or is_shared
                on[at] = -1
            num_ready = release(op, succ_ptr, succ, missing, ready, num_ready)


event_loop = compile_loop(
    types.int64(
        INTS, INTS, INTS, INTS, ROW, INTS, INT_TABLE, TABLE, ROW, TABLE, types.int64, types.int64, ROW_OUT, ROW_OUT,
        ROW_OUT,
    ),
    _event_loop,
)  # fmt: skip
