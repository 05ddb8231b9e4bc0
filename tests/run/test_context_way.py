"""How GPUs that share a sequence exchange it where a layout is to be found."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.run.planner.context_way import context_way


@pytest.mark.parametrize(
    ("preset", "tp", "cp", "way"),
    [
        ("deepseek-v3", 1, 1, "ring"),
        ("deepseek-v3", 1, 2, "ring"),  # as many bytes: the ring runs beside the core
        ("deepseek-v3", 1, 4, "a2a"),  # every head has keys of its own
        ("deepseek-v3", 2, 128, "ring"),  # more GPUs than heads
        ("llama-3.1-405b", 8, 4, "ring"),  # 16 heads and one of keys a GPU: 12.75 heads' worth beside 3
        ("llama-3.1-405b", 1, 8, "ring"),  # 128 heads, 8 of keys: 119 beside 56
    ],
)
def test_the_fewest_bytes_are_sent(preset: str, tp: int, cp: int, way: str) -> None:
    assert context_way(load_scenario(preset), tp, cp) == way


def test_a_stated_way_is_kept() -> None:
    scenario = load_scenario("deepseek-v3", ["parallel.cp_comm=all_gather"])
    assert context_way(scenario, 1, 4) == "all_gather"
    assert context_way(load_scenario("deepseek-v3", ["parallel.cp_kv=latent"]), 1, 4) == "ring"
