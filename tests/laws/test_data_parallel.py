"""Laws of what data-parallel ranks gather and reduce: bytes in closed form; more sharing is less memory, overlap no slower."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import fsum
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator import load_scenario
from simulator.assembly.chunks import COMPUTE, DP
from simulator.assembly.step_graph import StepGraph
from simulator.engine import sweep
from simulator.step.graph import build_graph
from simulator.step.prepared import PreparedStep, prepare
from tests.laws.runs import ROUNDING, changed
from tests.laws.scenarios import LAW, Document, dense_model, scenarios
from tests.laws.test_memory_laws import memories

DENSE: Document = {
    "model": dense_model(6, 1024, 4096, heads=8, kv_heads=4, vocab=16_000),
    "cluster": {"node": "h100-x8", "num_gpus": 8, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 1, "schedule": "1f1b"},
    "training": {"seq_len": 4096, "global_batch_size": 24},
    "device": {"speed_cv": 0.0},
    "mechanisms": {"host_stream": False},
    "draws": 1,
}
MOE: Document = changed(
    DENSE,
    model={
        "num_dense_layers": 1,
        "moe": {"num_routed_experts": 8, "top_k": 2, "expert_intermediate_size": 512, "num_shared_experts": 1},
    },
    parallel={"ep": 4}, moe={"balance": "forced"},
)  # fmt: skip


def step_of(document: Document, **sections: object) -> tuple[PreparedStep, StepGraph]:
    prepared = prepare(load_scenario(changed(document, **sections)))
    return prepared, build_graph(prepared)


def seconds(document: Document, **sections: object) -> float:
    graph = step_of(document, **sections)[1]
    return sweep(graph.dag, graph.class_seconds()).makespan_s


def sent_bytes(document: Document, name: str, **sections: object) -> float:
    """Bytes that a rank puts on the wire in all collectives whose name begins so, mean over the pipeline ranks."""
    graph = step_of(document, **sections)[1]
    times = np.bincount(graph.dag.op_class, minlength=graph.dag.num_classes)
    return (
        fsum(
            float(count) * (message.cost.bytes_nic + message.cost.bytes_scale_up)
            for count, segment in zip(times, graph.classes, strict=True)
            for message in segment.messages
            if message.name.startswith(name)
        )
        / graph.num_ranks
    )


def parameters(document: Document) -> tuple[float, float]:
    """Bytes in BF16 of a pipeline rank's dense and expert parameters, each times (N - 1) / N of its holders; means."""
    prepared = step_of(document)[0]
    scenario = prepared.scenario
    dp = scenario.cluster.num_gpus // scenario.parallel.pp
    edp = dp // scenario.parallel.ep
    stages, ranks = prepared.workload.stages, scenario.parallel.pp
    dense, expert = (fsum(getattr(stage, f"{kind}_params") for stage in stages) for kind in ("dense", "expert"))
    return 2 * dense * (dp - 1) / dp / ranks, 2 * expert * (edp - 1) / edp / ranks


@pytest.mark.parametrize("document", [DENSE, MOE, changed(DENSE, parallel={"pp": 2})], ids=["dense", "moe", "pp2"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_bytes_on_the_wire(document: Document, dtype: str) -> None:
    """(N - 1) / N (2 P + G) a micro-batch with FSDP; P once a step without resharding, G once with no_sync; ZeRO 1 both."""
    p = fsum(parameters(document))
    g = p * (2 if dtype == "fp32" else 1)
    count = 24 // (8 // load_scenario(document).parallel.pp)

    def wire(zero: int, **plan: object) -> tuple[float, float, float]:
        reduce = {"dtype": dtype, **({"every": plan.pop("every")} if "every" in plan else {})}
        sections = {"parallel": {"zero_stage": zero}, "data_parallel": {"grad_reduce": reduce, **plan}}
        names = ("all_gather", "reduce_scatter", "all_reduce")
        return tuple(sent_bytes(document, name, **sections) for name in names)  # type: ignore[return-value]

    assert wire(0) == pytest.approx((0, 0, 2 * g), rel=1e-6)
    assert wire(0, every="micro_batch") == pytest.approx((0, 0, 2 * g * count), rel=1e-6)
    assert wire(1) == pytest.approx((p, g, 0), rel=1e-6)
    assert wire(1, param_gather={"overlap": True}) == pytest.approx((p, g, 0), rel=1e-6)
    assert wire(1, param_gather={"dtype": "fp32"}) == pytest.approx((2 * p, g, 0), rel=1e-6)
    assert wire(2) == pytest.approx((p, g * count, 0), rel=1e-6)
    assert wire(3) == pytest.approx((2 * p * count, g * count, 0), rel=1e-6)
    assert wire(3, every="step") == pytest.approx((2 * p * count, g, 0), rel=1e-6)
    assert wire(3, reshard_after_forward=False) == pytest.approx((p, g * count, 0), rel=1e-6)


def test_shard_groups_gather_inside_and_sum_over_them() -> None:
    """HSDP of 2 x 4: (4 - 1) / 4 inside a group, and 2 (2 - 1) / 2 of a quarter of the gradients over the two."""
    whole = parameters(DENSE)[0] * 8 / 7
    plan = {"parallel": {"zero_stage": 3}, "data_parallel": {"hsdp_group": 4}}
    assert sent_bytes(DENSE, "all_gather", **plan) == pytest.approx(3 * 2 * 0.75 * whole, rel=1e-6)
    assert sent_bytes(DENSE, "reduce_scatter", **plan) == pytest.approx(3 * 0.75 * 2 * whole, rel=1e-6)
    assert sent_bytes(DENSE, "all_reduce", **plan) == pytest.approx(3 * 2 * whole / 4, rel=1e-6)
    alone, group = memories(changed(DENSE, parallel={"zero_stage": 3})), memories(changed(DENSE, **plan))
    assert group[0].optimizer_bytes == pytest.approx(2 * alone[0].optimizer_bytes, rel=1e-6)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("seq", [512, 4096])
def test_two_units_are_gathered_and_no_more(ahead: bool, seq: int) -> None:
    """A gather begins when the unit before the one before its own is done (across actions, too); its unit waits for it."""
    graph = step_of(
        DENSE, parallel={"zero_stage": 3}, data_parallel={"param_gather": {"overlap": ahead}}, training={"seq_len": seq}
    )[1]
    line, names = sweep(graph.dag, graph.class_seconds()), [graph.labels[row] for row in graph.dag.op_class]
    found: dict[tuple[int, str], list[int]] = {}  # operators of each unit's passes, in the order of the compute stream
    for op in np.flatnonzero(graph.dag.resource[: graph.tail_first] == COMPUTE):
        action = int(np.searchsorted(graph.spans.last, op, side="right"))
        key = (action, names[op].split(".")[0])
        found.setdefault(key, []).append(int(op))
    passes = list(found.values())
    gathers = [
        op for op in np.flatnonzero(graph.dag.resource[: graph.tail_first] == DP)
        if "all_gather" in names[op] and (names[op].split(".")[1] != "layer_0" or names[op - 1] != names[op])
    ]  # fmt: skip
    assert len(gathers) == len(passes)
    hidden = 0
    for idx, (gather, own) in enumerate(zip(gathers, passes, strict=True)):
        assert names[gather].split(".")[1] == names[own[0]].split(".")[0]
        assert line.finish_s[gather, 0] <= line.start_s[own[0], 0]
        freed = idx - 1 - ahead
        if freed >= 0:
            assert line.start_s[gather, 0] >= line.finish_s[passes[freed][-1], 0]
        hidden += idx > 0 and bool(line.start_s[gather, 0] < line.finish_s[passes[idx - 1][-1], 0])
    assert (hidden > len(passes) // 2) == ahead


SHARES = [{"zero_stage": zero} for zero in (0, 1, 2, 3)]


@pytest.mark.parametrize("document", [DENSE, MOE, changed(DENSE, parallel={"pp": 2})], ids=["dense", "moe", "pp2"])
def test_more_sharing_is_never_more_memory(document: Document) -> None:
    peaks = [[rank.peak_bytes for rank in memories(changed(document, parallel=share))] for share in SHARES]
    for more, less in pairwise(peaks):
        assert all(shared < whole for whole, shared in zip(more, less, strict=True))
    fsdp = changed(document, parallel={"zero_stage": 3})
    for plan in ({"reshard_after_forward": False}, {"grad_reduce": {"every": "step"}}):
        held = [rank.peak_bytes for rank in memories(changed(fsdp, data_parallel=plan))]
        assert all(more > less for more, less in zip(held, peaks[3], strict=True))


def test_what_has_one_holder_is_held_whole_whatever_the_zero_stage() -> None:
    alone = changed(DENSE, cluster={"num_gpus": 1}, training={"global_batch_size": 4})
    held = [[rank.peak_bytes for rank in memories(changed(alone, parallel=share))] for share in SHARES]
    assert held == held[:1] * 4


def without_latency(document: Document) -> float:
    """Seconds of the even step whose ring collectives take the time of their bytes alone, and no SMs from kernels."""
    prepared = prepare(load_scenario(document))
    free = {"value": 0.0, "low": 0.0, "high": 0.0}
    rings = {
        key: entry
        for key, entry in prepared.messages.stack.parameters.items()
        if key.startswith(("ring.", "nvls.")) and key.endswith("_s")
    }
    parameters = {**prepared.messages.stack.parameters, **{k: e.model_copy(update=free) for k, e in rings.items()}}
    messages = replace(prepared.messages, stack=replace(prepared.messages.stack, parameters=parameters))
    with patch.object(type(messages.network), "latency_s", lambda *_: 0.0):
        graph = build_graph(replace(prepared, messages=messages))
    return sweep(graph.dag, graph.class_seconds()).makespan_s


def still(document: Document) -> Document:
    return changed(
        document, moe={"balance": "forced"}, device={"speed_cv": 0.0},
        assumptions={**document.get("assumptions", {}), "collective_sms": 0, "collective_stretch": 1}, draws=1,
        mechanisms={"host_stream": False},
    )  # fmt: skip


@settings(LAW, max_examples=8)
@given(scenarios(max_ep=8), st.sampled_from(["dp", "reduce", "gather"]))
def test_overlap_is_never_slower(document: Document, switch: str) -> None:
    """In a network without latency, with collectives that take no SMs and no host that issues them: then smaller pieces cost
    nothing.

    Where parameters are sharded, their gathers queue behind reductions on one stream: what is reduced early may then come in
    the way of the next layer's parameters, as it does in FSDP with one stream.
    """
    assume(document["parallel"]["zero_stage"] < 3 or switch == "gather")
    plan, overlap = document["data_parallel"], document["parallel"]["overlap"]
    found = []
    for is_on in (True, False):
        if switch == "dp":
            found.append(changed(document, parallel={"overlap": {**overlap, "dp": is_on}}))
        elif switch == "reduce":
            found.append(changed(document, data_parallel={"grad_reduce": {**plan["grad_reduce"], "overlap": is_on}}))
        else:
            found.append(changed(document, data_parallel={"param_gather": {**plan["param_gather"], "overlap": is_on}}))
    on, off = (without_latency(still(each)) for each in found)
    assert on <= off * (1 + 1e-6)


@pytest.mark.parametrize("gather", [False, True])
def test_finer_buckets_never_expose_more(gather: bool) -> None:
    """Without latency: each size against the next finer one; all at once is the reduction at the end."""
    sizes = [10**10, 200_000_000, 100_000_000, 40_000_000, 1]
    plan = {"param_gather": {"overlap": gather}}
    steps = [without_latency(still(changed(DENSE, data_parallel={**plan, "bucket_bytes": size}))) for size in sizes]
    assert all(finer <= coarser * (1 + ROUNDING) for coarser, finer in pairwise(steps))
    assert steps[-1] < 0.999 * steps[0]
    if not gather:
        end = without_latency(still(changed(DENSE, data_parallel={"grad_reduce": {"overlap": False}})))
        assert steps[0] == pytest.approx(end, rel=1e-9)


def test_a_collective_beside_compute_takes_its_sms() -> None:
    """More SMs, longer kernels; none where nothing runs beside them, or where the mechanism is off."""
    fsdp = changed(DENSE, parallel={"zero_stage": 3})
    free, some, many = (seconds(fsdp, assumptions={"collective_sms": sms}) for sms in (0, 16, 32))
    assert free < some < many
    alone = seconds(fsdp, assumptions={"collective_sms": 0, "collective_stretch": 1})
    assert seconds(fsdp, mechanisms={"sm_partition": False}) == pytest.approx(alone, rel=ROUNDING)
    assert alone < seconds(fsdp, assumptions={"collective_sms": 16, "collective_stretch": 1}) < some
    apart = changed(fsdp, parallel={"zero_stage": 1, "overlap": {"dp": False}})
    assert seconds(apart, assumptions={"collective_sms": 0}) == seconds(apart, assumptions={"collective_sms": 32})


@pytest.mark.parametrize("zero", [2, 3])
def test_without_overlap_every_collective_is_added_to_the_step(zero: int) -> None:
    """On one pipeline rank: compute and the sum of all collectives; nothing is hidden behind the micro-batch that follows."""
    sections = {"zero_stage": zero, "overlap": {"dp": False}}
    graph = step_of(DENSE, parallel=sections)[1]
    line, on_wire = sweep(graph.dag, graph.class_seconds()), graph.dag.resource == DP
    sent = fsum((line.finish_s - line.start_s)[on_wire, 0].tolist())
    busy = fsum((line.finish_s - line.start_s)[~on_wire, 0].tolist())
    assert line.makespan_s == pytest.approx(busy + sent, rel=1e-9)


def test_a_collective_of_tensor_parallelism_beside_a_gemm_takes_its_sms() -> None:
    """As those of data parallelism do; nothing where the mechanism is off."""
    cut = changed(DENSE, parallel={"tp": 2, "sequence_parallel": True, "overlap": {"dp": False}})
    free = {"collective_sms": 0, "collective_stretch": 1}
    alone = seconds(cut, assumptions=free)
    assert seconds(cut, mechanisms={"sm_partition": False}) == pytest.approx(alone, rel=ROUNDING)
    assert alone < seconds(cut, assumptions={**free, "collective_sms": 16}) < seconds(cut)


def test_experts_with_several_holders_take_sms_where_dense_parameters_have_one() -> None:
    """tp 8 on eight GPUs: dp 1, and four holders of an expert of two."""
    wide = changed(MOE, parallel={"tp": 8, "sequence_parallel": True, "ep": 2, "zero_stage": 3})
    free = {"collective_sms": 0, "collective_stretch": 1}
    apart, beside = (step_of(wide, assumptions={**free, "collective_sms": sms})[1] for sms in (0, 16))
    taken = [fsum(segment.by_category.get("interference", 0.0) for segment in each.classes) for each in (apart, beside)]
    assert taken[0] == 0 < taken[1]
