"""Laws of every stated assumption: which way a larger value moves the step and the memory, and that its effect is told rightly.

The keys are drawn from the files: one without a declared sign fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from hwprofiles.stack_choice import load_stack, stack_kind, stack_names
from hwprofiles.stack_records import Assumption
from simulator import load_scenario, simulate_run, simulate_step
from simulator.scenario.assumptions import read_assumptions
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared
from tests.laws.runs import ROUNDING, changed
from tests.laws.scenarios import Document

LONGER, SHORTER, NEITHER, EITHER = 1, -1, 0, None
"""What a larger value does; EITHER: the direction depends on the scenario."""

SIGNS: Mapping[str, tuple[int | None, int | None, str]] = {
    "routing_concentration": (
        SHORTER,
        NEITHER,
        "tokens of a sequence choose less alike, so micro-batches are more even",
    ),
    "expert_popularity_cv": (LONGER, LONGER, "what no balancing removes stays between experts, and in their memory"),
    "expert_popularity_drift_cv": (LONGER, LONGER, "a bias that has more to follow leaves more between experts"),
    "bias_update_rate": (EITHER, EITHER, "a faster bias follows the drift better and trembles more"),
    "aux_loss_pressure": (SHORTER, SHORTER, "a stronger pressure leaves less between experts"),
    "gpu_speed_cv": (LONGER, NEITHER, "the slowest GPU of a group holds the others"),
    "collective_stretch": (LONGER, NEITHER, "collectives that last longer slow more kernels down"),
    "collective_sms": (LONGER, NEITHER, "a data-parallel collective takes more SMs from the kernels beside it"),
    "tp_overlap_chunks": (EITHER, NEITHER, "smaller pieces overlap better and have more launches"),
    "tp_overlap_sms": (LONGER, NEITHER, "a GEMM leaves more SMs to the reduction of what it makes"),
    "lone_chunk_full_sms": (SHORTER, NEITHER, "kernels beside no communication use more SMs"),
    "pp_boundary_wait": (LONGER, NEITHER, "a chunk waits for the transfer before it"),
    "notify_floor_s": (LONGER, NEITHER, "announcing counts takes time"),
    "dispatch_layout_s": (LONGER, NEITHER, "the layout is computed before the dispatch"),
    "long_run_slowdown": (
        LONGER,
        NEITHER,
        "kernels of a long run that are slower than in the short one that was measured",
    ),
    "gemm.fp8-block.wgrad.scale": (LONGER, NEITHER, "kernels that much slower than the measured release's"),
    "host_other_s": (LONGER, NEITHER, "the next step begins later"),
    "host_speed": (LONGER, NEITHER, "calls that issue work take longer"),
    "host_link_frac": (SHORTER, NEITHER, "copies to the host and back are faster"),
    "host_memory_frac": (SHORTER, NEITHER, "the host updates its share of the optimizer's state faster"),
    "memory_bf16_weight_copy_frac": (NEITHER, LONGER, "more BF16 originals stay beside the FP8 weights"),
    "memory_expert_rows_frac": (NEITHER, LONGER, "the fullest rank saves more rows"),
    "memory_expert_rows_peak_frac": (NEITHER, LONGER, "the fullest micro-batch works on more rows"),
    "memory_dispatch_nvl_tokens": (NEITHER, LONGER, "longer queues"),
    "memory_dispatch_rdma_tokens": (NEITHER, LONGER, "longer queues"),
    "memory_dispatch_slot_metadata_bytes": (NEITHER, LONGER, "wider queues"),
    "memory_dispatch_granularity_bytes": (NEITHER, LONGER, "the heap is rounded up further"),
    "memory_communicator_bytes": (NEITHER, LONGER, "larger communicators"),
    "memory_context_bytes": (NEITHER, LONGER, "a larger context"),
    "memory_fragmentation_frac": (NEITHER, LONGER, "less of the device can be used"),
    "memory_graph_node_bytes": (NEITHER, LONGER, "the driver holds more for each captured kernel"),
    "memory_graph_pool_frac": (NEITHER, LONGER, "the graphs' pool holds more that it cannot use"),
    "memory_graph_rows_frac": (NEITHER, LONGER, "captured experts have room for more rows in flight"),
    "memory_graph_budget_frac": (NEITHER, LONGER, "captured experts work in larger buffers"),
    "memory_real_over_estimate": (NEITHER, LONGER, "more is allocated than predicted"),
}
"""Key → sign of the step's seconds, sign of the memory as a share of what can be used, and why."""

SMALL: Document = {
    "schema_version": 1,
    "name": "small",
    "model": {
        "name": "small", "hidden_size": 1024, "num_layers": 4, "vocab_size": 8000, "num_dense_layers": 0,
        "attention": {
            "kind": "mla", "num_heads": 8, "q_lora_rank": 256, "kv_lora_rank": 128, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "v_head_dim": 128,
        },
        "moe": {
            "num_routed_experts": 32, "top_k": 4, "expert_intermediate_size": 512, "score": "sigmoid", "router_bias": True,
        },
    },
    "cluster": {"node": "h800-x8", "num_gpus": 32, "fabric": "ib-400g-rail"},
    "stack": "h800-deepseek-2024",
    "parallel": {"pp": 2, "ep": 16, "schedule": "dualpipe", "overlap": {"ep": "pair"}},
    "training": {"seq_len": 512, "global_batch_size": 96},
    "precision": {"recipe": "fp8-blockwise"},
    "phases": [{"name": "pretrain", "steps": 1}],
    "assumptions": {"memory_dispatch_granularity_bytes": 2**21},
    "mechanisms": {"host_stream": False},
    "draws": 2,
}  # fmt: skip
"""Two nodes an expert group, two stages, FP8: every assumption has something to act on but that of the host, which such small
kernels would wait for.
"""


def by_aux_loss(document: Document) -> Document:
    moe = {**document["model"]["moe"], "router_bias": False}
    return changed(document, model={"moe": moe})


MEASURED = tuple(name for name in stack_names() if stack_kind(name) == "measured")

SCENES: Mapping[str, Document] = {
    **{name: changed(SMALL, stack=name) for name in MEASURED},
    "learned": SMALL,
    "natural": changed(SMALL, moe={"balance": "natural"}),
    "aux_loss": by_aux_loss(SMALL),
    "forced": changed(SMALL, moe={"balance": "forced"}),
    "buckets": changed(SMALL, parallel={"schedule": "1f1b"}, data_parallel={"bucket_bytes": 1}),
    "near": changed(
        SMALL, cluster={"num_gpus": 16}, parallel={"schedule": "1f1b", "ep": 8}, data_parallel={"bucket_bytes": 1}
    ),
    "chunked": changed(SMALL, parallel={"tp": 2, "sequence_parallel": True, "overlap": {"tp": "chunked"}}),
    "hosted": changed(SMALL, offload={"optimizer": 0.5, "activations": 1}),
    "captured": changed(SMALL, host={"cuda_graph": "full_iteration"}, moe={"host_sync": "none"}),
    "issued": changed(SMALL, mechanisms={"host_stream": True}),
    "still": changed(SMALL, moe={"balance": "forced"}, device={"speed_cv": 0.0}),
}
"""By what makes loads even, and without chance."""


ACTS_IN = {
    "expert_popularity_cv": "natural", "aux_loss_pressure": "aux_loss", "collective_sms": "buckets",
    "collective_stretch": "near", "host_speed": "issued", "host_other_s": "issued",
    "tp_overlap_chunks": "chunked", "tp_overlap_sms": "chunked", "host_link_frac": "hosted", "host_memory_frac": "hosted",
    **dict.fromkeys((key for key in SIGNS if key.startswith("memory_graph")), "captured"),
}  # fmt: skip
"""Key → the scene in which it must move something; `learned` where not named, the stack itself for those of a stack."""

STATED: Mapping[tuple[str, str], Assumption] = {
    **{(ACTS_IN.get(key, "learned"), key): entry for key, entry in read_assumptions().items()},
    **{(name, key): entry for name in MEASURED for key, entry in load_stack(name).assumptions.items()},
}
"""(scene, key) of every assumption of the files."""

IDLE = {("h800-notrace", "notify_floor_s")}
"""Assumptions that the stack's own rows answer: those of this one were timed around the call, its notify included."""


def stated(key: str) -> Assumption:
    """Of equal keys that of the scenes' own stack."""
    return STATED.get((SMALL["stack"], key)) or STATED[ACTS_IN.get(key, "learned"), key]


@cache
def measured(scene: str, key: str, value: float | None) -> tuple[float, float]:
    """(seconds of a step, fullest rank's bytes over those that can be used) with one assumption overridden."""
    overrides = {} if value is None else {key: value}
    step = prepare(load_scenario(changed(SCENES[scene], assumptions=overrides)))
    result = simulate_prepared(step, explained=False)
    return result.step.step_s, result.memory.peak_bytes_per_gpu / result.memory.usable_bytes


def test_every_assumption_has_a_declared_sign() -> None:
    assert {key for _, key in STATED} == set(SIGNS)


@pytest.mark.parametrize(("scene", "key"), sorted(STATED))
def test_a_larger_value_moves_step_and_memory_as_declared(scene: str, key: str) -> None:
    entry = STATED[scene, key]
    low, high = (measured(scene, key, end) for end in (entry.low, entry.high))
    for sign, less, more in zip(SIGNS[key][:2], low, high, strict=True):
        if sign == NEITHER:
            assert less == more
        elif sign is not EITHER:
            assert sign * (more - less) >= 0
    assert (low == high) == ((scene, key) in IDLE), "whether the range of this assumption changes anything"


def effects(document: Mapping[str, Any]) -> tuple[float, dict[str, tuple[float, float]]]:
    """(step seconds, key → relative change of the GPU-hours at the ends of its range), as the result tells them."""
    result = simulate_run(load_scenario(document))
    hours = result.totals.gpu_hours.value
    told = {row.key: row.effect_on_gpu_hours for row in result.assumptions}
    return result.step.step_s, {key: (e.low / hours, e.high / hours) for key, e in told.items() if e is not None}


@pytest.mark.parametrize("scene", ["still", "forced"])
def test_an_effect_is_what_the_step_does_at_that_end(scene: str) -> None:
    """Where loads are even: exactly. Without chance, every assumption but that of chance; with it, that of the GPUs' speed."""
    step_s, told = effects(SCENES[scene])
    keys = ["gpu_speed_cv"] if scene == "forced" else sorted(set(told) - {"gpu_speed_cv", "routing_concentration"})
    assert len(keys) == 1 or {"lone_chunk_full_sms", "pp_boundary_wait", "notify_floor_s"} <= set(keys)
    for key in keys:
        if SIGNS[key][0] == NEITHER:
            assert told[key] == (0.0, 0.0)
            continue
        ends = [measured(scene, key, end)[0] / step_s - 1.0 for end in (stated(key).low, stated(key).high)]
        assert told[key] == pytest.approx((min(0.0, *ends), max(0.0, *ends)), abs=ROUNDING), key


@pytest.mark.parametrize("seq_len", [64, 2048])
def test_the_effect_of_alike_tokens_is_near_that_of_the_router_simulated_again(seq_len: int) -> None:
    """The effect scales the spread of loads by a closed form; the step itself simulates the router at that concentration.

    Short sequences tell whether a token's choices are all counted: their own chance is as large as their likeness.
    """
    document = changed(
        SMALL, training={"seq_len": seq_len}, device={"speed_cv": 0.0}, moe={"balance": "natural"},
        assumptions={"expert_popularity_cv": 0.0},
    )  # fmt: skip
    step_s, told = effects(document)
    entry = stated("routing_concentration")
    for end, value in zip(told["routing_concentration"], (entry.high, entry.low), strict=True):
        found = load_scenario(changed(document, assumptions={entry.key: value}))
        assert end == pytest.approx(simulate_step(found).step.step_s / step_s - 1.0, rel=0.35)
        assert abs(end) > 1e-3


def test_a_given_imbalance_leaves_alike_tokens_no_effect() -> None:
    """The scenario says how uneven the loads are: nothing about the router's tokens moves the step, and none is told."""
    document = changed(SCENES["learned"], moe={"balance": {"load_imbalance": 1.3}})
    entry = stated("routing_concentration")
    ends = [
        simulate_step(load_scenario(changed(document, assumptions={"routing_concentration": end}))).step.step_s
        for end in (entry.low, entry.high)
    ]
    assert ends[0] == ends[1]
    assert effects(document)[1]["routing_concentration"] == (0.0, 0.0)


def test_an_exact_assumption_has_no_effect_to_tell() -> None:
    found = simulate_run(load_scenario(changed(SCENES["still"], assumptions={"collective_sms": 20})))
    (row,) = (row for row in found.assumptions if row.key == "collective_sms")
    assert row.effect_on_gpu_hours is not None
    assert (row.effect_on_gpu_hours.low, row.effect_on_gpu_hours.high) == (0.0, 0.0)
