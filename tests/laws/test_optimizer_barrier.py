"""Laws of the end of a step: what the optimizer waits for, and what the next step may begin beside."""

from __future__ import annotations

from functools import cache

import pytest

from simulator import load_scenario, simulate_step
from simulator.assembly.chunks import NUM_STREAMS
from simulator.results.step_result import StepResult
from simulator.schedule import SCHEDULES
from simulator.step.graph import build_graph
from simulator.step.prepared import prepare
from tests.laws.runs import ROUNDING

DENSE = (
    "cluster.num_gpus=16", "parallel.pp=4", "model.num_layers=16", "model.num_dense_layers=16", "model.vocab_size=2048",
    "training.seq_len=1024", "training.global_batch_size=64", "parallel.zero_stage=0", "device.speed_cv=0",
)  # fmt: skip


@cache
def step_of(schedule: str, sync: str) -> StepResult:
    chunks = ("parallel.vpp=2",) if SCHEDULES[schedule].own_chunks is None else ()
    given = (*DENSE, *chunks, f"parallel.schedule={schedule}", f"training.grad_norm_sync={sync}")
    return simulate_step(load_scenario("llama-3.1-70b", given))


@pytest.mark.parametrize("sync", ["post_validation", "none"])
@pytest.mark.parametrize("schedule", ["1f1b", "zb_h1", "zb_v", "dualpipe_v"])
def test_no_barrier_is_never_slower_and_all_parts_still_sum_to_the_step(schedule: str, sync: str) -> None:
    free, barrier = step_of(schedule, sync).step, step_of(schedule, "barrier").step
    assert free.step_s <= barrier.step_s
    for rank in free.by_rank:
        parts = (rank.forward_s, rank.backward_s, rank.weight_s, rank.overlapped_f_b_s, rank.bubble_s, rank.optimizer_s)
        assert sum(parts) == pytest.approx(free.step_s, rel=ROUNDING)
        assert min(parts) >= 0
    assert free.tokens_per_s_per_gpu >= barrier.tokens_per_s_per_gpu


def test_only_a_v_has_much_to_gain() -> None:
    """ZB-V's last rank begins 3 half-size forwards behind the first, and ends later too; in 1F1B the first rank ends last."""
    saved = {
        name: step_of(name, "barrier").step.step_s - step_of(name, "none").step.step_s for name in ("1f1b", "zb_v")
    }
    ranks = step_of("zb_v", "barrier").step.by_rank
    half_forward_s = ranks[1].forward_s / (2 * 16)
    assert half_forward_s < saved["zb_v"] < 3.3 * half_forward_s, "less where F, I and W differ"
    assert saved["1f1b"] < 0.05 * saved["zb_v"]


def test_ranks_pass_the_norm_on() -> None:
    """Post-validation: each rank's norm waits for the one before, and for no reduction of a later rank."""
    labels = {}
    for sync in ("barrier", "post_validation", "none"):
        graph = build_graph(
            prepare(
                load_scenario("llama-3.1-70b", (*DENSE, "parallel.schedule=zb_h1", f"training.grad_norm_sync={sync}"))
            )
        )
        names = [graph.labels[row] for row in graph.dag.op_class]
        norms = [i for i, name in enumerate(names) if name == "grad_norm"]
        labels[sync] = [
            {int(p) for p in graph.dag.pred[graph.dag.pred_ptr[i] : graph.dag.pred_ptr[i + 1]]} for i in norms
        ]
        if sync == "post_validation":
            assert all(first in preds for first, preds in zip(norms, labels[sync][1:], strict=False))
            assert not labels[sync][0] & set(norms)
    assert len(labels["barrier"]) == len(labels["post_validation"]) == 4
    assert labels["none"] == []
    assert len(labels["barrier"][0]) > len(labels["post_validation"][0])


def test_a_norm_is_sent_over_its_own_hop() -> None:
    """Two stages a node: from the second on to the next node, from the others inside."""
    given = (*DENSE, "training.grad_norm_sync=post_validation")
    graph = build_graph(prepare(load_scenario("llama-3.1-70b", given)))
    ends = {
        int(resource) // NUM_STREAMS: graph.classes[row].seconds
        for row, resource in zip(graph.dag.op_class, graph.dag.resource, strict=True)
        if graph.labels[row] == "grad_norm"
    }
    assert ends[1] > ends[0] == ends[2] > ends[3]


def test_the_norm_waits_for_the_sum_of_tied_copies() -> None:
    graph = build_graph(prepare(load_scenario("llama-3.1-70b", (*DENSE, "model.tied_embeddings=true"))))
    names = [graph.labels[row] for row in graph.dag.op_class]
    sums = {i for i, name in enumerate(names) if name == "all_reduce_embedding_copies"}
    norms = [i for i, name in enumerate(names) if name == "grad_norm"]
    assert len(sums) == 2 and len(norms) == 4
    for i in norms:
        assert sums <= {int(p) for p in graph.dag.pred[graph.dag.pred_ptr[i] : graph.dag.pred_ptr[i + 1]]}
