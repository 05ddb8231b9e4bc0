"""Laws that hold on average over the random draws (common ones), on scenarios whose draws are many."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from simulator.scenario.recipes import RECIPES
from simulator.schedule import SCHEDULES
from tests.laws.runs import changed, simulate
from tests.laws.scenarios import HELD, Document

DRAWS = 32


def wide(ep: int, pp: int, schedule: str, **moe: Any) -> Document:
    """A few MoE layers on nodes of eight GPUs, 64 experts."""
    return {
        "model": {
            "hidden_size": 2048, "num_layers": 2 * pp, "vocab_size": 32_000, "num_dense_layers": 0,
            "attention": {"kind": "gqa", "num_heads": 16, "num_kv_heads": 4, "head_dim": 128},
            "moe": {
                "num_routed_experts": 64, "top_k": 8, "expert_intermediate_size": 1024, "score": "sigmoid",
                "router_bias": True,
            },
        },
        "cluster": {"node": "h800-x8", "num_gpus": ep * pp, "fabric": "ib-400g-8plane"},
        "parallel": {"pp": pp, "vpp": SCHEDULES[schedule].fewest_chunks, "ep": ep, "schedule": schedule},
        "training": {"seq_len": 4096, "global_batch_size": 8 * ep},
        "precision": {"recipe": "fp8-blockwise"},
        "moe": moe,
        "draws": DRAWS,
    }  # fmt: skip


CASES = [wide(8, 2, "1f1b"), wide(16, 1, "gpipe"), wide(64, 2, "dualpipe", max_nodes_per_token=4)]


@pytest.mark.parametrize("document", CASES)
def test_forced_balance_is_not_slower_than_learned(document: Document) -> None:
    by_balance = [
        simulate(changed(document, moe={"balance": name})).step_s for name in ("forced", "learned", "natural")
    ]
    assert by_balance == sorted(by_balance)


@pytest.mark.parametrize("document", CASES)
@pytest.mark.parametrize("mechanism", ["imbalance", "speed_spread"])
def test_chance_costs_time(document: Document, mechanism: str) -> None:
    assert simulate(changed(document, mechanisms={mechanism: False})).step_s < simulate(document).step_s


TIMED = [name for name in RECIPES if RECIPES[name].gemm_dtype in HELD]
PAIRS = list(product(SCHEDULES, TIMED))
FEW = [pair for at, pair in enumerate(PAIRS) if at // len(TIMED) % len(TIMED) == at % len(TIMED)]
"""Each schedule once, with the recipes in turn."""


@pytest.mark.parametrize(
    ("schedule", "recipe"), [pair if pair in FEW else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS]
)
def test_more_nodes_a_token_are_not_faster(schedule: str, recipe: str) -> None:
    """8 nodes against 4 and fewer, under even loads."""
    document = changed(wide(64, 2, schedule, balance="forced"), precision={"recipe": recipe})
    steps = [simulate(changed(document, moe={"max_nodes_per_token": nodes})).step_s for nodes in (1, 2, 4, 8, None)]
    assert steps[:4] == sorted(steps[:4])
    assert steps[4] == steps[3]
    unlimited = simulate(changed(document, moe={"max_nodes_per_token": 4}, mechanisms={"node_limited_dispatch": False}))
    assert unlimited.step_s == steps[3]
