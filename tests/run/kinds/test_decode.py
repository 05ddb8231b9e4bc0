"""A decode step: caches as published, laws of the step, and throughput beside what is served, to which nothing is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from hwprofiles.catalog import load_gpu, load_node
from hwprofiles.stack_choice import load_stack
from simulator.run.kinds.cache import cache_bytes, layer_caches
from simulator.run.kinds.decode import ROWS, Decode, Formats, decode_of, engine_weights
from simulator.run.kinds.decode_kernels import Shares, expert_shapes
from simulator.scenario.model import GqaAttention
from simulator.scenario.model_catalog import load_model
from simulator.scenario.phase_assumptions import phase_assumptions

VALUES: Mapping[str, float] = {key: each.value for key, each in phase_assumptions().items()}
FP8 = Formats("fp8-block", "fp8", "bf16")


@cache
def engine(gpus: int, *, mtp: bool = False, gpu: str = "h800", stack: str = "h800-deepseek-2024") -> Decode:
    node = load_node(f"{gpu}-x8")
    return decode_of(load_model("deepseek-v3"), gpus, node, load_gpu(gpu), load_stack(stack), FP8, mtp=mtp)


@cache
def dense() -> Decode:
    node = load_node("h800-x8")
    model, stack = load_model("llama-3.1-70b"), load_stack("h800-deepseek-2024")
    return decode_of(model, 8, node, load_gpu("h800"), stack, Formats(), mtp=False)


@pytest.mark.parametrize(
    ("model", "published"),
    # arXiv:2505.09343, table 1: 70.272 KB and 516.096 KB a token, in BF16.
    [("deepseek-v3", 70_272), ("llama-3.1-405b", 516_096)],
)
def test_a_cached_token_has_the_published_bytes(model: str, published: int) -> None:
    caches = layer_caches(load_model(model))
    assert cache_bytes(caches, 1.0) == published
    assert cache_bytes(caches, 1000.0) == 1000 * published
    assert cache_bytes(layer_caches(load_model(model), "fp8"), 1.0) == published / 2


def test_ranks_share_grouped_heads_and_not_a_latent() -> None:
    llama, latent = load_model("llama-3.1-70b"), load_model("deepseek-v3")
    assert cache_bytes(layer_caches(llama, tp=8), 1.0) * 8 == cache_bytes(layer_caches(llama), 1.0)
    assert cache_bytes(layer_caches(latent, tp=8), 1.0) == cache_bytes(layer_caches(latent), 1.0)


def test_layers_with_a_window_cache_no_more_than_it() -> None:
    model = load_model("gpt-oss-120b")
    assert isinstance(model.attention, GqaAttention) and model.attention.window is not None
    short, long = (cache_bytes(layer_caches(model), tokens) for tokens in (float(model.attention.window), 1e5))
    a_layer = short / model.attention.window / model.num_layers
    full = model.num_layers // 2
    assert long == pytest.approx(a_layer * (full * 1e5 + (model.num_layers - full) * model.attention.window))


def test_an_engine_holds_each_expert_once_and_the_rest_on_every_gpu() -> None:
    model = load_model("deepseek-v3")
    alone, shared = (engine_weights(model, Shares("fp8-block", ep=ep), mtp=False) for ep in (1, 128))
    experts = 58 * 256 * 3 * 7168 * 2048
    assert alone == pytest.approx(671.03e9 + 2 * 129_280 * 7168, rel=2e-3)
    assert alone - shared == pytest.approx(experts * (1 - 2 / 256), rel=1e-3)


def test_experts_that_no_row_asks_for_are_not_read() -> None:
    model = load_model("deepseek-v3")
    few, many = (expert_shapes(model, rows, Shares("fp8-block", ep=8)) for rows in (1, 1000))
    held = 256 // 8
    assert max(shape.groups for shape in many) == held
    asked = max(shape.groups for shape in few)
    assert asked == round(held * (1 - (1 - 8 / 256) ** 8))


# Laws


def test_a_step_takes_longer_with_more_sequences_and_longer_ones_and_yields_more() -> None:
    for mtp in (False, True):
        steps = [engine(128, mtp=mtp).step_s(VALUES, batch, 4000.0) for batch in (1, 4, 16, 64, 128, 256)]
        assert steps == sorted(steps)
        rates = [batch / step for batch, step in zip((1, 4, 16, 64, 128, 256), steps, strict=True)]
        assert rates == sorted(rates)
        assert engine(128, mtp=mtp).step_s(VALUES, 16, 8000.0) > steps[2]


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("rollout_cache_bandwidth_frac", 1.0), ("rollout_attention_flop_frac", 1.0), ("rollout_link_frac", 1.0),
        ("rollout_exchange_s", 0.0), ("rollout_engine_s", 0.0), ("rollout_expert_rows_frac", 1.0),
    ],
)  # fmt: skip
def test_a_faster_part_makes_no_step_longer(key: str, better: float) -> None:
    moved = []
    for found in (engine(128), dense()):
        for batch, context in ((2.0, 500.0), (64.0, 5000.0), (200.0, 30_000.0)):
            faster = found.step_s({**VALUES, key: better}, batch, context)
            assert faster <= found.step_s(VALUES, batch, context)
            moved.append(faster < found.step_s(VALUES, batch, context))
    assert any(moved)


@pytest.mark.parametrize("name", ["memory_bytes_per_s", "link_bytes_per_s", "peak_flop_per_s"])
def test_bandwidth_links_and_arithmetic_make_steps_shorter(name: str) -> None:
    """Attention in the latent space is bound by arithmetic, over grouped heads by the memory's bandwidth."""
    bound = {"memory_bytes_per_s": dense(), "link_bytes_per_s": engine(128), "peak_flop_per_s": engine(128)}[name]
    context = 3000.0 if name == "link_bytes_per_s" else 20_000.0
    steps = [
        replace(bound, **{name: scale * getattr(bound, name)}).step_s(VALUES, 100.0, context) for scale in (0.5, 1, 2)
    ]
    assert steps[0] > steps[1] > steps[2]


def test_the_batch_is_what_memory_leaves_beside_the_weights() -> None:
    found = engine(128)
    most = found.most_sequences(VALUES, 5000.0)
    used = found.weight_bytes + most * 5000 * 70_272
    assert used == pytest.approx(VALUES["rollout_memory_frac"] * found.memory_bytes)
    assert found.most_sequences(VALUES, 10_000.0) == pytest.approx(most / 2)


def test_a_drafted_token_yields_more_a_step_and_costs_rows() -> None:
    plain, drafting = engine(128), engine(128, mtp=True)
    assert (plain.tokens_per_step(VALUES), drafting.tokens_per_step(VALUES)) == (1.0, 1.85)
    assert plain.step_s(VALUES, 32, 4000.0) < drafting.step_s(VALUES, 32, 4000.0) < 2 * plain.step_s(VALUES, 32, 4000.0)


def test_seconds_between_priced_rows_lie_between_theirs() -> None:
    table = engine(128).even
    for below, above in pairwise(ROWS):
        low, high = sorted((table.at(below), table.at(above)))
        assert low <= table.at((below + above) / 2) <= high
    assert table.at(2 * ROWS[-1]) == 2 * table.at(ROWS[-1])
    assert table.at(0.1) == table.at(1)


# Beside what is served


def tokens_per_s_per_node(found: Decode, batch: float, context: float) -> float:
    return 8 * batch * found.tokens_per_step(VALUES) / found.step_s(VALUES, batch, context)


def batch_at(found: Decode, tokens_per_s: float, context: float) -> float:
    """Sequences a GPU at which each gets so many tokens a second."""
    low, high = 1.0, 1000.0
    for _ in range(40):
        middle = (low + high) / 2
        fast = found.tokens_per_step(VALUES) / found.step_s(VALUES, middle, context) > tokens_per_s
        low, high = (middle, high) if fast else (low, middle)
    return low


def test_deepseeks_own_service() -> None:
    """open-infra-index, day 6: decode on 144 H800, 4,989 cached tokens, 20 to 22 tokens/s a user: 14.8K tokens/s a node."""
    found = engine(144, mtp=True)
    rates = [tokens_per_s_per_node(found, batch_at(found, speed, 4989.0), 4989.0) for speed in (20.0, 22.0)]
    assert rates[0] > rates[1]
    for rate in rates:
        assert rate == pytest.approx(14_800, rel=0.25)


@pytest.mark.slow
def test_an_open_engine_on_another_gpu() -> None:
    """lmsys.org/blog/2025-05-05-large-scale-ep: 72 H100 decode 256 sequences each, 2,000 tokens in: 22.3K tokens/s a node."""
    found = engine(72, gpu="h100", stack="h100-measured")
    assert tokens_per_s_per_node(found, 256.0, 2050.0) == pytest.approx(22_300, rel=0.2)
