"""python -m validation.torch_pipelines: steps of torch's own pipeline schedules on four H200, predicted beside measured.

The measurement (validation/data/pipeline_steps_h200x4.json, our own; its `note` says how) has plain modules and eager launches.
What is compared is the step of one schedule over another's, which holds no kernel rate. torch 2.11 runs its interleaved
schedule by another executor than GPipe and 1F1B (torch/distributed/pipelining/schedules.py, _PipelineScheduleRuntime): it lists
each rank's sends and receives between its chunks beforehand (_add_send_recv) and issues them without waiting, but all on one
communicator, so that they run in that order: a receive that is posted before its sender is ready holds up every send behind
it. `one_queue_s` is a step so executed; `predicted_s` is the simulator's, whose transfers do not hold up one another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator import load_scenario
from simulator.assembly.pair import build_template
from simulator.assembly.pairing import Pairing
from simulator.schedule.action import Kind, Schedule
from simulator.schedule.check import YIELD_OF, Unit, needs_of
from simulator.step.graph import order_of_actions
from simulator.step.prepared import PreparedStep, prepare
from simulator.step.step import simulate_prepared
from validation.measured_memory import SCHEDULES, torch_scenario
from validation.trace_pair import makespan

MEASURED = Path(__file__).parent / "data" / "pipeline_steps_h200x4.json"
BASE = {"dense": "pp-1f1b-dense", "moe": "pp-1f1b-moe"}
"""The case that the others of a model are told against; it comes first."""
TWICE = {"dense": "pp-1f1b-dense-m4"}
"""The same with twice as many micro-batches, where that was measured."""


@dataclass(frozen=True)
class Step:
    """Seconds of a step. one_queue_s: where torch's executor of several stages a rank runs it, else None; known_rates_s: so, at
    the speed of blocks and head that the model's 1F1B shows (`measured_rates`), where it was measured twice.
    """

    case: str
    base: str
    predicted_s: float
    measured_s: float
    one_queue_s: float | None
    known_rates_s: float | None


def steps(path: Path = MEASURED) -> Iterator[Step]:
    """The rows whose schedule is modelled."""
    rows = [row for row in json.loads(path.read_text(encoding="utf-8"))["rows"] if row["kind"] == "pp"]
    rows = [row for row in rows if row["schedule"] in SCHEDULES]
    by_case = {row["case"]: row for row in rows}
    rates = dict[str, Rates]()
    for row in rows:
        step = prepared(row)
        result = simulate_prepared(step, explained=False).step
        model = "moe" if "e" in row["config"] else "dense"
        if row["case"] == BASE[model] and (more := by_case.get(TWICE.get(model, ""))) is not None:
            rates[model] = measured_rates(step, row["step_s"], more["step_s"], result.optimizer_s)
        has_chunks = row["vpp"] > 1
        queue = one_queue_s(step) + result.optimizer_s if has_chunks else None
        known = one_queue_s(step, rates[model]) + result.optimizer_s if has_chunks and model in rates else None
        yield Step(row["case"], BASE[model], result.step_s, row["step_s"], queue, known)


def prepared(row: Mapping[str, Any]) -> PreparedStep:
    """A row's step before it is simulated: launched one kernel after the other, its grouped GEMMs take their rows' numbers on
    the device, and nothing is loaded between the steps that were timed.
    """
    document = torch_scenario(row)
    document["device"] = {"clock": "burst", "speed_cv": 0.0}
    document["moe"] = {"balance": "forced", "host_sync": "none"}
    document["host"] = {"dispatch": "eager"}
    document["assumptions"] = {"host_other_s": 0.0}
    document["parallel"]["overlap"] = {"pp": row["vpp"] > 1}
    return prepare(load_scenario(document))


@dataclass(frozen=True)
class Rates:
    """How many times as long as predicted a block and the head take, forward and backward together."""

    block: float = 1.0
    head: float = 1.0


def measured_rates(step: PreparedStep, few_s: float, many_s: float, optimizer_s: float) -> Rates:
    """Of a model's blocks and head, from 1F1B measured with m and with 2m micro-batches.

    The last rank, which has the head, is at work m times, the other stages once before and behind it: T(m) = m t + (P - 1) s,
    t the last stage's F + B and s another's.
    """
    schedule = order_of_actions(step.scenario)
    count, chunks = schedule.num_micro_batches, chunk_seconds(step)
    last_s = (many_s - few_s) / count
    other_s = (few_s - optimizer_s - count * last_s) / (schedule.num_ranks - 1)
    last, other = (chunks["F", stage] + chunks["B", stage] for stage in (schedule.num_stages - 1, 1))
    return Rates(block=other_s / other, head=(last_s - other_s) / (last - other))


def one_queue_s(step: PreparedStep, rates: Rates = Rates()) -> float:
    """Seconds from the first chunk to the end of the last where every rank sends and receives in one order."""
    schedule = order_of_actions(step.scenario)
    chunks = chunk_seconds(step)
    for (kind, stage), seconds in chunks.items():
        block_s = min(seconds, chunks[kind, 1])
        chunks[kind, stage] = rates.block * block_s + rates.head * (seconds - block_s)
    hops = step.messages.placement.pp_hops
    transfer_s = max(step.messages.send(step.workload.boundary_bytes, hop).seconds for hop in hops)
    return queued(schedule, chunks, transfer_s)


def chunk_seconds(step: PreparedStep) -> dict[tuple[Kind, int], float]:
    """Seconds of each pass of each stage, alone."""
    chunks: dict[tuple[Kind, int], float] = {}
    for stage in step.stages:
        for kind in PASSES:
            template = build_template(kind, stage, None, pairing=Pairing(), wait_at_boundary=False)
            chunks[kind, stage.stage] = makespan(template)
    return chunks


Half = tuple[Kind, int, int]
"""(pass, stage, micro-batch)."""
Entry = tuple[str, Half]
"""("compute", a pass), or ("send" | "receive", the pass whose result is sent)."""
PASSES: tuple[Kind, ...] = ("F", "B", "I", "W")


def programs(schedule: Schedule) -> list[list[Entry]]:
    """Chunks, sends and receives of each rank in torch's order.

    The ranks take turns, an action each where its inputs have been sent; a send stands behind its chunk, the receive at the
    same moment at the end of what its rank has so far.
    """
    listed: list[list[Entry]] = [[] for _ in schedule.ranks]
    position, yielded = [0] * schedule.num_ranks, set[Unit]()
    while any(place < len(order) for place, order in zip(position, schedule.ranks, strict=True)):
        for rank, order in enumerate(schedule.ranks):
            if position[rank] == len(order):
                continue
            action = order[position[rank]]
            if not yielded.issuperset(needs_of(schedule, action)):
                continue
            position[rank] += 1
            listed[rank] += [("compute", half) for half in action.halves()]
            for kind, stage, micro_batch in action.halves():
                yielded.add((YIELD_OF[kind], stage, micro_batch))
                target = stage + (1 if kind == "F" else -1)
                if kind != "W" and 0 <= target < schedule.num_stages:
                    other = schedule.rank_of(target, micro_batch)
                    if other != rank:
                        listed[rank].append(("send", (kind, stage, micro_batch)))
                        listed[other].append(("receive", (kind, stage, micro_batch)))
    return listed


def queued(schedule: Schedule, chunk_s: Mapping[tuple[Kind, int], float], transfer_s: float) -> float:
    """Seconds of the whole schedule. chunk_s: of an action by kind and stage.

    A transfer begins when it is first in the queues of both its ranks and the chunks that were listed before it there are
    done; a chunk waits for its own inputs alone.
    """
    listed = programs(schedule)
    place, computed = [0] * len(listed), [0.0] * len(listed)
    queues: list[list[tuple[Unit, float]]] = [[] for _ in listed]
    queue_free = [0.0] * len(listed)
    arrived: dict[Unit, float] = {}
    while any(place[rank] < len(listed[rank]) or queues[rank] for rank in range(len(listed))):
        for rank, entries in enumerate(listed):
            while place[rank] < len(entries):
                what, half = entries[place[rank]]
                if what != "compute":
                    queues[rank].append((_yielded(half), computed[rank]))
                else:
                    needed = _inputs(schedule, half, rank)
                    if not needed <= arrived.keys():
                        break
                    computed[rank] = max([computed[rank], *(arrived[each] for each in needed)]) + chunk_s[half[:2]]
                place[rank] += 1
        _transfer(queues, queue_free, arrived, transfer_s)
    return max(computed)


def _yielded(half: Half) -> Unit:
    """What a pass yields."""
    return (YIELD_OF[half[0]], half[1], half[2])


def _inputs(schedule: Schedule, half: Half, rank: int) -> set[Unit]:
    """What a pass needs from another rank."""
    kind, stage, micro_batch = half
    source = stage + (-1 if kind == "F" else 1)
    is_inside = kind != "W" and 0 <= source < schedule.num_stages
    if not is_inside or schedule.rank_of(source, micro_batch) == rank:
        return set()
    return {("output" if kind == "F" else "gradient", source, micro_batch)}


def _transfer(
    queues: list[list[tuple[Unit, float]]], queue_free: list[float], arrived: dict[Unit, float], transfer_s: float
) -> None:
    """Does the transfers that are first in both their queues."""
    first: dict[Unit, list[int]] = {}
    for rank, queue in enumerate(queues):
        if queue:
            first.setdefault(queue[0][0], []).append(rank)
    for unit, pair in first.items():
        if len(pair) == 2:
            begin = max(max(queues[rank][0][1], queue_free[rank]) for rank in pair)
            arrived[unit] = begin + transfer_s
            for rank in pair:
                queues[rank].pop(0)
                queue_free[rank] = arrived[unit]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line a case: the step over that of the model's 1F1B, predicted and measured."""
    given = sys.argv[1:] if arguments is None else arguments
    found = {step.case: step for step in steps(*map(Path, given))}
    print("case,predicted_s,measured_s,over_1f1b,over_1f1b_one_queue,over_1f1b_known_rates,over_1f1b_measured")
    for step in found.values():
        base = found[step.base]
        queue = "" if step.one_queue_s is None else f"{step.one_queue_s / base.predicted_s:.3f}"
        known = "" if step.known_rates_s is None else f"{step.known_rates_s / base.measured_s:.3f}"
        over, measured = step.predicted_s / base.predicted_s, step.measured_s / base.measured_s
        print(f"{step.case},{step.predicted_s:.4f},{step.measured_s:.4f},{over:.3f},{queue},{known},{measured:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
