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
"""The case that the others of a model are told against."""


@dataclass(frozen=True)
class Step:
    """Seconds of a step. one_queue_s: where torch's executor of several stages a rank runs it, else None."""

    case: str
    base: str
    predicted_s: float
    measured_s: float
    one_queue_s: float | None


def steps(path: Path = MEASURED) -> Iterator[Step]:
    """The rows whose schedule is modelled."""
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        if row["kind"] != "pp" or row["schedule"] not in SCHEDULES:
            continue
        document = torch_scenario(row)
        document["device"] = {"clock": "burst", "speed_cv": 0.0}
        document["moe"] = {"balance": "forced"}
        document["parallel"]["overlap"] = {"pp": row["vpp"] > 1}
        step = prepare(load_scenario(document))
        result = simulate_prepared(step, explained=False).step
        queued = one_queue_s(step) + result.optimizer_s if row["vpp"] > 1 else None
        base = BASE["moe" if "e" in row["config"] else "dense"]
        yield Step(row["case"], base, result.step_s, row["step_s"], queued)


def one_queue_s(step: PreparedStep) -> float:
    """Seconds from the first chunk to the end of the last where every rank sends and receives in one order."""
    schedule = order_of_actions(step.scenario)
    chunks: dict[tuple[Kind, int], float] = {}
    for stage in step.stages:
        for kind in ("F", "B"):
            template = build_template(kind, stage, None, pairing=Pairing(), wait_at_boundary=False)
            chunks[kind, stage.stage] = makespan(template)
    hops = step.messages.placement.pp_hops
    transfer_s = max(step.messages.send(step.workload.boundary_bytes, hop).seconds for hop in hops)
    return queued(schedule, chunks, transfer_s)


Entry = tuple[str, Unit]
"""("compute", what an action yields), or ("send" | "receive", the unit that is sent)."""


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
            unit = (YIELD_OF[action.kind], action.stage, action.micro_batch)
            yielded.add(unit)
            listed[rank].append(("compute", unit))
            target = action.stage + (1 if action.kind == "F" else -1)
            if 0 <= target < schedule.num_stages:
                listed[rank].append(("send", unit))
                listed[schedule.rank_of(target, action.micro_batch)].append(("receive", unit))
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
                what, unit = entries[place[rank]]
                if what != "compute":
                    queues[rank].append((unit, computed[rank]))
                else:
                    needed = _inputs(schedule, unit)
                    if not needed <= arrived.keys():
                        break
                    kind: Kind = "F" if unit[0] == "output" else "B"
                    computed[rank] = max([computed[rank], *(arrived[each] for each in needed)]) + chunk_s[kind, unit[1]]
                place[rank] += 1
        _transfer(queues, queue_free, arrived, transfer_s)
    return max(computed)


def _inputs(schedule: Schedule, unit: Unit) -> set[Unit]:
    """What a chunk needs from another rank."""
    what, stage, micro_batch = unit
    if what == "output":
        return {("output", stage - 1, micro_batch)} if stage else set()
    return {("gradient", stage + 1, micro_batch)} if stage < schedule.num_stages - 1 else set()


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
    print("case,predicted_s,measured_s,over_1f1b,over_1f1b_one_queue,over_1f1b_measured")
    for step in found.values():
        base = found[step.base]
        queue = "" if step.one_queue_s is None else f"{step.one_queue_s / base.predicted_s:.3f}"
        over, measured = step.predicted_s / base.predicted_s, step.measured_s / base.measured_s
        print(f"{step.case},{step.predicted_s:.4f},{step.measured_s:.4f},{over:.3f},{queue},{measured:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
