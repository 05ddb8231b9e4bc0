"""The graph of a small made-up pipeline against its definition: draws, inputs, the tail, intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from simulator.assembly.chunks import COMM, COMPUTE, DP, NUM_STREAMS, StageCost
from simulator.assembly.expand import expand
from simulator.assembly.intervals import observed_ops, rank_parts
from simulator.assembly.pairing import Pairing
from simulator.assembly.shapes import DRAW_OFFSET, ROWS_PER_UNIT, PricedStep
from simulator.assembly.step_graph import KINDS, StepGraph, of_operators
from simulator.assembly.tail import TailCosts
from simulator.engine import sweep
from simulator.schedule import Schedule, build_schedule
from simulator.workload.expert_load import LoadModel, draw_loads
from tests.assembly.made_up import segment, stage, unit

CASES = [("dualpipe", 4, 10), ("1f1b", 4, 6), ("gpipe", 3, 4)]


def stages_of(num_stages: int) -> list[StageCost]:
    """Two layers a stage, the second a dense one."""
    return [stage(index, unit(f"s{index}m"), unit(f"s{index}d", is_moe=False)) for index in range(num_stages)]


def tail_of(schedule: Schedule, *, overlap_reduce: bool = True) -> TailCosts:
    stages = range(schedule.num_stages)
    return TailCosts(
        reduce=[(("reduce_dense", segment()), ("reduce_expert", segment())) for _ in stages],
        gather=[(("gather", segment()),) for _ in stages],
        norm=[segment()] * schedule.num_ranks, optimizer=[segment() for _ in schedule.ranks], overlap_reduce=overlap_reduce,
    )  # fmt: skip


def graph_of(schedule: Schedule, *, wait: bool = False, overlap_reduce: bool = True, joint: bool = False) -> StepGraph:
    """Every hop takes a time of its own."""
    tail, hops = tail_of(schedule, overlap_reduce=overlap_reduce), [segment() for _ in schedule.ranks]
    stages = stages_of(schedule.num_stages)
    return expand(schedule, PricedStep(stages, tail, pairing=Pairing(), wait_at_boundary=wait, hops=hops, joint=joint))


def labels(graph: StepGraph) -> list[str]:
    return [graph.labels[index] for index in graph.dag.op_class]


def preds(graph: StepGraph, op: int) -> Sequence[int]:
    return [int(pred) for pred in graph.dag.pred[graph.dag.pred_ptr[op] : graph.dag.pred_ptr[op + 1]]]


def test_rows_of_draws_are_those_that_the_loads_have() -> None:
    loads = draw_loads(LoadModel(0.3, 0.2, ranks=8, nodes=2), units=2, micro_batches=3, seed=1, draw=0)
    rank, node, slowest = (loads[:, :, DRAW_OFFSET[kind]] for kind in ("rank", "arriving", "leaving"))
    by_node = rank.reshape(2, 3, 2, 4).mean(axis=-1)
    assert np.allclose(node, np.repeat(by_node, 4, axis=-1))
    assert np.allclose(slowest, by_node.max(axis=-1, keepdims=True))


@pytest.mark.parametrize(("name", "num_ranks", "num_micro_batches"), CASES)
def test_an_operator_is_multiplied_by_its_own_load_or_by_its_gpu(
    name: str, num_ranks: int, num_micro_batches: int
) -> None:
    """A routed kernel or message: unit and micro-batch of its own half. Another kernel: its rank. A send: nothing."""
    graph = graph_of(build_schedule(name, num_ranks, num_micro_batches))
    names, units = labels(graph), list(graph.draw_units)
    speeds = len(units) * num_micro_batches * ROWS_PER_UNIT
    for first, last, action, rank in zip(
        graph.spans.first, graph.spans.last, graph.actions, graph.spans.rank, strict=True
    ):
        micro_batch = {stage_idx: m for _, stage_idx, m in action.halves()}
        half = {("f" if kind == "F" else "b"): m for kind, _, m in action.halves()}
        for op in range(first, last):
            label, row = names[op], graph.dag.draw_row[op]
            if ".send_" in label:
                assert row == -1
            elif label.endswith(".routed") or graph.dag.resource[op] % NUM_STREAMS == COMM:
                unit_idx = units.index((int(label[1 : label.index("m.")]), 0))
                m = half["f" if "_f" in label else "b"]
                towards = "dispatch_f" in label or "combine_b" in label
                kind = "rank" if label.endswith(".routed") else "arriving" if towards else "leaving"
                assert row == (unit_idx * num_micro_batches + m) * ROWS_PER_UNIT + DRAW_OFFSET[kind]  # type: ignore[index]
            else:
                assert row == speeds + rank
        assert micro_batch
    compute = graph.dag.resource[graph.tail_first :] % NUM_STREAMS == COMPUTE
    tail_ranks = graph.dag.resource[graph.tail_first :] // NUM_STREAMS
    assert np.array_equal(graph.dag.draw_row[graph.tail_first :], np.where(compute, speeds + tail_ranks, -1))


@pytest.mark.parametrize(("name", "num_ranks", "num_micro_batches"), CASES)
def test_a_chunk_waits_for_the_transfer_from_its_neighbour(name: str, num_ranks: int, num_micro_batches: int) -> None:
    """Between ranks for the send of that micro-batch; on one rank (DualPipe's turning point) for the chunk itself."""
    schedule = build_schedule(name, num_ranks, num_micro_batches)
    graph = graph_of(schedule)
    names = labels(graph)
    span_of = {}
    for index, action in enumerate(graph.actions):
        for kind, stage_idx, micro_batch in action.halves():
            span_of["F" if kind == "F" else "B" if kind in ("B", "I") else "W", stage_idx, micro_batch] = index
    for (kind, stage_idx, micro_batch), index in span_of.items():
        source = {"F": ("F", stage_idx - 1, micro_batch), "B": ("B", stage_idx + 1, micro_batch)}.get(kind)
        if source not in span_of:
            continue
        before, column = span_of[source], 0 if kind == "F" else 1
        op = int(graph.spans.inputs[index, column])
        assert graph.spans.first[before] <= op < graph.spans.last[before]
        same_rank = graph.spans.rank[before] == graph.spans.rank[index]
        assert (names[op] == f"stage_{source[1]}.send_{kind.lower()}") == (not same_rank)


@pytest.mark.parametrize("overlap_reduce", [True, False])
@pytest.mark.parametrize(("name", "num_ranks", "num_micro_batches"), CASES)
def test_the_tail_waits_for_what_it_needs(
    name: str, num_ranks: int, num_micro_batches: int, overlap_reduce: bool
) -> None:
    schedule = build_schedule(name, num_ranks, num_micro_batches)
    graph = graph_of(schedule, overlap_reduce=overlap_reduce)
    names = labels(graph)
    rank_of = graph.dag.resource // NUM_STREAMS
    last: dict[tuple[int, int], int] = {}
    for index, action in enumerate(graph.actions):
        for kind, stage_idx, _ in action.halves():
            if kind in ("B", "W"):
                last[int(graph.spans.rank[index]), stage_idx] = int(graph.spans.ends[index, 0])
    compute_end = {rank: max(op for (holder, _), op in last.items() if holder == rank) for rank in range(num_ranks)}
    tail = range(graph.tail_first, graph.dag.num_ops)
    reduced = {op for op in tail if ".reduce_expert" in names[op]}
    for op in tail:
        waits, rank, label = set(preds(graph, op)), int(rank_of[op]), names[op]
        if ".reduce_dense" in label:
            stage_idx = int(label.split(".")[0].removeprefix("stage_"))
            assert {last[holder, stage_idx] for holder in schedule.holders(stage_idx)} <= waits
            assert overlap_reduce or compute_end[rank] in waits
            assert not overlap_reduce or len(waits) <= len(schedule.holders(stage_idx)) + 1
        elif label == "grad_norm":
            assert reduced <= waits
        elif "optimizer" in label:
            assert {compute_end[rank]} < waits and {names[pred] for pred in waits - {compute_end[rank]}} == {
                "grad_norm"
            }
        elif "gather" in label:
            assert f"rank_{rank}.optimizer" in {names[pred] for pred in waits}
        on_dp = graph.dag.resource[op] % NUM_STREAMS == DP
        assert graph.dag.is_join[op] == on_dp
    assert len(reduced) == sum(len(stages) for stages in schedule.placement)


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize(("name", "num_ranks", "num_micro_batches"), CASES)
def test_the_parts_of_a_step_are_their_definition(
    name: str, num_ranks: int, num_micro_batches: int, wait: bool
) -> None:
    """Action by action: from the moment that its input is there (a pair whose halves do not wait for each other: the first of
    them) and its rank is free, to its last operator; idle is what lies between, and after it up to the last backward of all.
    """
    graph = graph_of(build_schedule(name, num_ranks, num_micro_batches), wait=wait)
    finish = sweep(graph.dag, graph.class_seconds()).finish_s[:, 0]
    names = labels(graph)
    by_kind: dict[tuple[int, str], float] = defaultdict(float)
    free, idle = [0.0] * num_ranks, [0.0] * num_ranks
    for index, action in enumerate(graph.actions):
        rank = int(graph.spans.rank[index])
        inputs = [float(finish[op]) if op >= 0 else 0.0 for op in graph.spans.inputs[index]]
        early = action.kind == "FB" and not wait
        ready = min(inputs) if early else max(inputs)
        ops = range(graph.spans.first[index], graph.spans.last[index])
        end = max(ready, free[rank], *(finish[op] for op in ops if ".send_" not in names[op]))
        start = max(ready, free[rank])
        by_kind[rank, action.kind] += end - start
        idle[rank] += start - free[rank]
        free[rank] = end
    ops = observed_ops(graph)
    parts = rank_parts(graph, ops, finish[ops][:, None])
    for rank in range(num_ranks):
        assert parts.bubble_s[rank] == pytest.approx(idle[rank] + max(free) - free[rank])
        for index, kind in enumerate(KINDS):
            assert parts.by_kind[rank, index] == pytest.approx(by_kind[rank, kind])
    assert parts.backward_end_s == pytest.approx(max(free))


def test_every_draw_row_multiplies_its_operators() -> None:
    """The first row as well as the last; where there is none, 1."""
    graph = graph_of(build_schedule("1f1b", 4, 6))
    multipliers = np.arange(2.0, 2.0 + graph.dag.num_draw_rows)
    rows = graph.dag.draw_row
    assert {0, graph.dag.num_draw_rows - 1} <= set(rows.tolist())
    assert (of_operators(graph, multipliers) == np.where(rows < 0, 1.0, rows + 2.0)).all()


def test_the_last_backward_is_that_of_the_slowest_rank_wherever_it_is() -> None:
    """A slow GPU at the other end of the pipeline: it has the last backward, and no rank has a negative bubble."""
    graph = graph_of(build_schedule("dualpipe", 4, 10))
    draws = np.ones((graph.dag.num_draw_rows, 1))
    draws[-1] = 3.0
    finish_s, ops = sweep(graph.dag, graph.class_seconds(), draws).finish_s, observed_ops(graph)
    parts = rank_parts(graph, ops, finish_s[ops])
    last = [graph.spans.ends[graph.spans.rank == rank].ravel() for rank in range(4)]
    ends = [finish_s[each[each >= 0]].max() for each in last]
    assert ends.index(max(ends)) == 3
    assert parts.backward_end_s == max(ends)
    assert (parts.bubble_s >= 0.0).all()
    assert parts.by_kind.sum(axis=1) + parts.bubble_s == pytest.approx([max(ends)] * 4)


def test_what_is_ready_first_is_reduced_first() -> None:
    """Of the two stages of a DualPipe rank, the one whose last weight gradient comes earlier."""
    graph = graph_of(build_schedule("dualpipe", 4, 10))
    names, resource = labels(graph), graph.dag.resource
    for rank in range(4):
        own = rank * NUM_STREAMS
        reduces = [op for op, name in enumerate(names) if resource[op] == own + DP and name.endswith(".reduce_dense")]
        ready = [max(pred for pred in preds(graph, op) if resource[pred] == own + COMPUTE) for op in reduces]
        assert len(ready) == 2
        assert ready == sorted(ready), rank
