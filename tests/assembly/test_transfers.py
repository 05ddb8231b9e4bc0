"""Pipeline transfers in the graph: which hop each takes, and who waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.assembly.chunks import COMM, COMPUTE, NUM_STREAMS, StageCost
from simulator.assembly.expand import expand
from simulator.assembly.intervals import observed_ops, rank_parts
from simulator.assembly.pairing import Pairing
from simulator.assembly.shapes import PricedStep
from simulator.assembly.step_graph import StepGraph
from simulator.engine import sweep
from simulator.errors import InconsistentSimulation
from simulator.schedule import Schedule, build_schedule
from simulator.schedule.order import executable_order
from tests.assembly.made_up import segment, stage, unit
from tests.assembly.test_step_graph import labels, preds, tail_of

FREE = segment(0.0)
SCHEDULES = [("1f1b", 4, 6, 1), ("gpipe", 3, 4, 1), ("interleaved_1f1b", 4, 8, 2), ("interleaved_1f1b", 2, 4, 3)]


def one_kernel(index: int, forward_s: float, backward_s: float) -> StageCost:
    """A stage of one dense unit: attention forward and backward take all of it."""
    times = {"attn_f": forward_s, "mlp_b_local": backward_s}
    made = unit(f"s{index}", is_moe=False)
    blocks = {
        (name, regime): replace(cost, segments=(("", "none", segment(times.get(name, 0.0))),))
        for (name, regime), cost in made.blocks.items()
    }
    return stage(index, replace(made, blocks=blocks))


def timed(schedule: Schedule, hop_s: Sequence[float], *, wait: bool = False, joint: bool = False) -> StepGraph:
    """Chunks of 1 s forward and 2 s backward, a free tail."""
    tail = replace(
        tail_of(schedule), reduce=[()] * schedule.num_stages, gather=[()] * schedule.num_stages,
        norm=[FREE] * schedule.num_ranks, optimizer=[FREE] * schedule.num_ranks,
    )  # fmt: skip
    stages = [one_kernel(index, 1.0, 2.0) for index in range(schedule.num_stages)]
    hops = [segment(seconds) for seconds in hop_s]
    return expand(schedule, PricedStep(stages, tail, pairing=Pairing(), wait_at_boundary=wait, hops=hops, joint=joint))


def makespan(graph: StepGraph) -> float:
    return sweep(graph.dag, graph.class_seconds()).makespan_s


@pytest.mark.parametrize(("name", "ranks", "micro_batches", "vpp"), [*SCHEDULES, ("dualpipe", 4, 8, 1)])
def test_a_transfer_takes_the_hop_between_its_ranks(name: str, ranks: int, micro_batches: int, vpp: int) -> None:
    """Hop r lies between rank r and the next, in both directions; the last one goes round to rank 0."""
    schedule = build_schedule(name, ranks, micro_batches, vpp)
    hop_s = [float(10 + rank) for rank in range(ranks)]
    graph = timed(schedule, hop_s)
    seconds, sent = graph.class_seconds()[graph.dag.op_class], 0
    for index, action in enumerate(graph.actions):
        moves = [(kind, s, m) for kind, s, m in action.halves() if kind in ("F", "B", "I")]
        for kind, from_stage, micro_batch in moves:
            to_stage = from_stage + 1 if kind == "F" else from_stage - 1
            if not 0 <= to_stage < schedule.num_stages:
                continue
            here, there = schedule.rank_of(from_stage, micro_batch), schedule.rank_of(to_stage, micro_batch)
            hop = here if (here + 1) % ranks == there else there
            span = range(graph.spans.first[index], graph.spans.last[index])
            label = f"stage_{from_stage}.send_{'f' if kind == 'F' else 'b'}"
            (op,) = (op for op in span if labels(graph)[op] == label)
            assert seconds[op] == hop_s[hop]
            sent += 1
    assert sent == 2 * (schedule.num_stages - 1) * micro_batches


@pytest.mark.parametrize(("ranks", "micro_batches", "vpp"), [(4, 8, 2), (4, 16, 2), (2, 6, 4), (3, 6, 2)])
def test_messages_of_interleaving_are_hidden_but_for_filling_and_draining(
    ranks: int, micro_batches: int, vpp: int
) -> None:
    """The first forward crosses p v - 1 hops … a short transfer never adds more than the pipeline's length a group."""
    schedule = build_schedule("interleaved_1f1b", ranks, micro_batches, vpp)
    free, short = (makespan(timed(schedule, [hop] * ranks)) for hop in (0.0, 0.01))
    assert free == (micro_batches * vpp + ranks - 1) * 3.0
    hops = 2 * (ranks * vpp - 1)
    assert (ranks - 1) * 2 * 0.01 <= short - free <= 0.01 * hops * micro_batches / ranks + 1e-9


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(["gpipe", "1f1b"]), st.integers(2, 9), st.integers(1, 24))
def test_joint_transfers_never_deadlock(name: str, ranks: int, micro_batches: int) -> None:
    schedule = build_schedule(name, ranks, micro_batches)
    ordered = executable_order(schedule, joint=True)
    assert sorted(map(str, ordered.actions)) == sorted(str(a) for order in schedule.ranks for a in order)


def test_joint_transfers_round_a_ring_wait_for_each_other() -> None:
    with pytest.raises(InconsistentSimulation, match="deadlocks: rank 0 at 0F3, rank 1 at 1F2"):
        executable_order(build_schedule("interleaved_1f1b", 2, 4, 3), joint=True)


@pytest.mark.parametrize(("name", "ranks", "micro_batches", "vpp"), SCHEDULES[:2])
def test_sender_and_receiver_both_wait_for_a_joint_transfer(
    name: str, ranks: int, micro_batches: int, vpp: int
) -> None:
    """It waits for the chunk that sends and for the one before its receiver's; the sender's next compute waits for it."""
    schedule = build_schedule(name, ranks, micro_batches, vpp)
    graph = timed(schedule, [0.5] * ranks, joint=True)
    names, spans = labels(graph), graph.spans
    own = [np.flatnonzero(spans.rank == rank).tolist() for rank in range(ranks)]
    at = {half: i for i, action in enumerate(graph.actions) for half in action.halves()}

    def compute(index: int) -> int:
        ops = range(spans.first[index], spans.last[index])
        return next(op for op in ops if graph.dag.resource[op] % NUM_STREAMS == COMPUTE)

    sent = 0
    for index, action in enumerate(graph.actions):
        ((kind, s, m),) = action.halves()
        to = s + 1 if kind == "F" else s - 1
        if not 0 <= to < schedule.num_stages:
            continue
        receiver, sent = at[kind, to, m], sent + 1
        transfer = int(spans.inputs[receiver, 0 if kind == "F" else 1])
        assert names[transfer] == f"stage_{s}.send_{kind.lower()}"
        assert graph.dag.resource[transfer] == spans.rank[index] * NUM_STREAMS + COMM
        assert transfer in preds(graph, compute(receiver))
        ahead = own[spans.rank[receiver]]
        before = [int(spans.ends[ahead[ahead.index(receiver) - 1], 0])] if ahead.index(receiver) else []
        assert {int(spans.ends[index, 0]), *before} <= set(preds(graph, transfer))
        later = own[spans.rank[index]][own[spans.rank[index]].index(index) + 1 :]
        assert not later or transfer in preds(graph, compute(later[0]))
        assert not later or spans.inputs[later[0], 2] == transfer
    assert sent == sum(".send_" in name for name in names) == 2 * (schedule.num_stages - 1) * micro_batches


def test_a_plain_pipeline_of_joint_transfers_by_hand() -> None:
    """Two ranks, two micro-batches, hops of 1 s. Rank 0: F0 [0,1] send [1,2] F1 [2,3] send [5,6], B0 …

    Rank 1: F0 [2,3], B0 [3,5], meets rank 0 for F1's output and B0's gradient: [5,6]; F1 [6,7], B1 [7,9], [9,10].
    Rank 0: B0 [6,8], B1 [10,12].
    """
    schedule = build_schedule("1f1b", 2, 2)
    graph = timed(schedule, [1.0, 1.0], joint=True)
    assert makespan(graph) == 12.0
    finish, ops = sweep(graph.dag, graph.class_seconds()).finish_s, observed_ops(graph)
    parts = rank_parts(graph, ops, finish[ops])
    assert parts.by_kind.sum(axis=1).tolist() == [6.0, 6.0]
    assert parts.bubble_s.tolist() == [6.0, 6.0]


def test_the_chunk_behind_the_last_transfer_waits_too() -> None:
    """At a boundary every chunk waits for the transfer before it: DualPipe's last deferred weight parts as well."""
    schedule = build_schedule("dualpipe", 4, 8)
    graph = timed(schedule, [5.0] * 4, wait=True)
    names = labels(graph)
    for rank in range(4):
        own = np.flatnonzero(graph.spans.rank == rank)
        sending = [[n for n in range(graph.spans.first[i], graph.spans.last[i]) if ".send_" in names[n]] for i in own]
        for place, sends in enumerate(sending[:-1]):
            ops = range(graph.spans.first[own[place + 1]], graph.spans.last[own[place + 1]])
            compute = next(op for op in ops if graph.dag.resource[op] % NUM_STREAMS == COMPUTE)
            assert not sends or sends[-1] in preds(graph, compute)
