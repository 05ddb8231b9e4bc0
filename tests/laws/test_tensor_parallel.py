"""Laws of tensor, sequence and expert tensor parallelism: what more of it, faster links and other switches may do to a step."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum
from typing import Any

import pytest

from hwprofiles.catalog import load_node
from simulator.assembly.unit_costs import TP_COLLECTIVES
from simulator.errors import InputError
from tests.laws.runs import ROUNDING, Run, changed, simulate
from tests.laws.scenarios import Document, dense_model

DENSE: Document = {
    "model": dense_model(4, 4096, 14_336, heads=32, kv_heads=8, vocab=32_768),
    "cluster": {"node": "h100-x8", "num_gpus": 16, "fabric": "ib-400g-rail"},
    "stack": "h100-transfer",
    "parallel": {"tp": 4, "pp": 2, "sequence_parallel": True},
    "training": {"seq_len": 4096, "global_batch_size": 32},
    "device": {"speed_cv": 0.0},
    "draws": 1,
}
MOE = changed(
    DENSE,
    model={
        "num_dense_layers": 1,
        "moe": {"num_routed_experts": 16, "num_shared_experts": 1, "top_k": 2, "expert_intermediate_size": 2048},
    },
    parallel={"tp": 2, "ep": 4},
    moe={"balance": "forced"},
)  # fmt: skip
CASES = {"dense": DENSE, "moe": MOE}


def model_flop(run: Run) -> float:
    """Of a step, over all GPUs of a replica of the pipeline."""
    per_rank = fsum(
        op.model_flop for stage in run.prepared.workload.stages for unit in stage.units for op in unit.ops()
    )
    return per_rank * run.graph.num_micro_batches * run.prepared.scenario.cluster.num_gpus


def exposed(run: Run) -> float:
    return sum(row.seconds for row in run.result.step.by_category if row.category == TP_COLLECTIVES)


@pytest.mark.parametrize("document", CASES.values(), ids=CASES)
@pytest.mark.parametrize("tp", [1, 2, 8])
def test_equal_gpus_do_the_same_model_flop_whatever_tp(document: Mapping[str, Any], tp: int) -> None:
    """A rank's micro-batch has 1/tp of the FLOP, and a replica tp times as many ranks."""
    here, there = simulate(document), simulate(changed(document, parallel={"tp": tp, "sequence_parallel": tp > 1}))
    assert model_flop(there) == pytest.approx(model_flop(here), rel=ROUNDING)
    assert there.result.step.tokens_per_step == here.result.step.tokens_per_step
    counted = [each.result.step.tflops.causal * each.step_s for each in (here, there)]
    assert counted[0] == pytest.approx(counted[1], rel=1e-6)


@pytest.mark.parametrize("document", CASES.values(), ids=CASES)
def test_a_faster_nvlink_is_never_slower(document: Mapping[str, Any]) -> None:
    steps = []
    for factor in (1.0, 2.0, 4.0):
        node = load_node("h100-x8").model_dump(mode="json")
        node["scale_up_bytes_per_s"] *= factor
        steps.append(simulate(changed(document, cluster={"node": node})))
    assert [run.step_s for run in steps] == sorted((run.step_s for run in steps), reverse=True)
    assert exposed(steps[0]) > exposed(steps[1]) > exposed(steps[2]) > 0


def test_a_group_that_leaves_its_node_is_slower() -> None:
    inside = simulate(changed(DENSE, cluster={"num_gpus": 32}, parallel={"tp": 8, "pp": 1}))
    across = simulate(changed(DENSE, cluster={"num_gpus": 32}, parallel={"tp": 16, "pp": 1}))
    assert across.prepared.hardware.placement.tp.nodes == 2
    assert across.step_s > inside.step_s
    assert exposed(across) > 2 * exposed(inside)


def test_chunks_hide_what_they_can_and_no_more() -> None:
    """What GEMMs lose beside them, by SMs that the reduction takes, is theirs."""
    in_chunks = {"parallel": {"overlap": {"tp": "chunked"}}}
    plain, chunked, alone, free = (
        simulate(changed(DENSE, **sections))
        for sections in (
            {}, in_chunks, {**in_chunks, "assumptions": {"tp_overlap_sms": 0}}, {"mechanisms": {"tp_collectives": False}},
        )
    )  # fmt: skip
    assert free.step_s < alone.step_s < chunked.step_s < plain.step_s
    assert 0 < exposed(alone) < 0.7 * exposed(plain)
    assert exposed(chunked) - exposed(alone) == pytest.approx(chunked.step_s - alone.step_s, rel=0.1)
    assert exposed(free) == 0


def test_without_experts_no_ranks_share_them() -> None:
    with pytest.raises(InputError, match="has no experts; use etp: 1"):
        simulate(changed(DENSE, parallel={"etp": 2}))


def test_ranks_that_share_experts_send_more_and_hold_as_much() -> None:
    whole, cut = (simulate(changed(MOE, parallel={"ep": ep, "etp": etp})) for ep, etp in ((4, 1), (2, 2)))
    held = [[stage.expert_params for stage in run.prepared.workload.stages] for run in (whole, cut)]
    assert held[0] == held[1]
    assert exposed(cut) > exposed(whole)
    axes = {each.axis for stage in cut.prepared.workload.stages for unit in stage.units for each in unit.collectives()}
    assert axes == {"tp", "etp"}


@pytest.mark.parametrize("document", CASES.values(), ids=CASES)
def test_stages_exchange_the_shard_of_a_sequence(document: Mapping[str, Any]) -> None:
    run = simulate(document)
    tp = document["parallel"]["tp"]
    assert run.prepared.workload.boundary_bytes == 2 * 4096 * 4096 // tp


def test_without_sequence_parallelism_stages_exchange_whole_sequences() -> None:
    whole = simulate(changed(DENSE, parallel={"sequence_parallel": False}))
    assert whole.prepared.workload.boundary_bytes == 2 * 4096 * 4096


def test_gradients_of_replicated_weights_are_summed_over_the_ranks_once_a_step() -> None:
    """Norms of the layers and the final one, in FP32; without sequence parallelism every rank has the same gradients."""

    def summed(document: Mapping[str, Any]) -> list[int]:
        rows = simulate(document).result.step.collectives or ()
        return [row.bytes for row in rows if row.name == "tp_all_reduce_gradients"]

    assert sorted(summed(DENSE)) == [4 * 2 * 2 * 4096, 4 * (2 * 2 + 1) * 4096]
    assert summed(changed(DENSE, parallel={"sequence_parallel": False})) == []
