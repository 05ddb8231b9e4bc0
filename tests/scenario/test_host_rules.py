"""What host.cuda_graph refuses: what Megatron-Core does, and with a way out."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.errors import InputError

PADDED = (
    "moe.capacity_factor=1.0",
    "moe.drop=probs",
    "moe.pad_to_capacity=true",
    "moe.host_sync=null",
    "moe.dispatcher=alltoall",
)
DROPLESS = ("moe.host_sync=null",)


@pytest.mark.parametrize(
    ("preset", "given", "graph", "text"),
    [
        ("deepseek-v3", DROPLESS, "full_iteration", "write moe.host_sync: none"),
        ("deepseek-v3", (*PADDED, "moe.host_sync=per_layer"), "full_iteration", "host_sync per_layer"),
        ("deepseek-v3", DROPLESS, "[attn, moe]", "drop and pad"),
        ("deepseek-v3", PADDED, "[moe, moe_router]", "moe holds moe_router and moe_preprocess already"),
        ("deepseek-v3", PADDED, "[attn, moe_preprocess]", "captured behind moe_router"),
        ("llama-3.1-70b", (), "[attn, moe_router]", "has no experts; allowed attn and mlp"),
        ("mixtral-8x22b", (), "[mlp]", "the model has none"),
        (
            "llama-3.1-70b",
            ("recompute={granularity: full, num_layers: 1}",),
            "[attn]",
            "recompute.granularity: selective",
        ),
        (
            "deepseek-v3",
            ("recompute={granularity: selective, modules: [moe]}",),
            "[attn, moe_router]",
            "computes again",
        ),
        ("llama-3.1-70b", (), "[]", "must be none, full_iteration, or a list"),
        ("llama-3.1-70b", (), "[attn, attn]", "each once"),
        ("llama-3.1-70b", (), "full", "must be none, full_iteration, or a list"),
    ],
)
def test_a_graph_that_cannot_be_captured_is_refused(preset: str, given: tuple[str, ...], graph: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(preset, overrides=[*given, f"host.cuda_graph={graph}"])
    (problem,) = caught.value.problems
    assert "host.cuda_graph" in str(problem) and text in problem.message


@pytest.mark.parametrize(
    ("preset", "given", "graph"),
    [
        ("deepseek-v3", PADDED, "full_iteration"),
        ("deepseek-v3", ("moe.host_sync=none",), "full_iteration"),
        ("deepseek-v3", PADDED, "[attn, mlp, moe]"),
        ("deepseek-v3", DROPLESS, "[moe_preprocess, moe_router, attn]"),
        ("llama-3.1-70b", (), "[attn, mlp]"),
    ],
)
def test_what_can_be_captured_is_taken(preset: str, given: tuple[str, ...], graph: str) -> None:
    scenario = load_scenario(preset, overrides=[*given, f"host.cuda_graph={graph}"])
    assert scenario == load_scenario(scenario.canonical())
