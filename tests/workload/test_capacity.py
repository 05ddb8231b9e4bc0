"""Rows beyond the capacity of an expert: what is kept by closed forms and by drawing, and what that changes in a step."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, exp, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import load_scenario
from simulator.errors import InputError
from simulator.results.step_result import StepResult
from simulator.step.prepared import PreparedStep, prepare
from simulator.step.step import simulate_prepared
from simulator.workload.capacity import UNLIMITED, Capacity, capacity_law
from simulator.workload.expert_load import LoadModel, draw_loads
from simulator.workload.layers.experts import padded_rows, received_rows
from simulator.workload.layers.part import PARTS
from tests.workload.test_layers_brute_force import MLA, MOE, TOKENS, model, recipe


@pytest.mark.parametrize("limit", [0.25, 1.0, 1.25, 3.0])
def test_kept_of_exponential_loads(limit: float) -> None:
    """Variance 1: the mean of min(x, c) is 1 - e^-c, of its square 2 (1 - (1 + c) e^-c)."""
    found = capacity_law(limit, 1.0)
    kept = 1.0 - exp(-limit)
    assert found.kept == pytest.approx(kept, rel=1e-5)
    assert found.spread == pytest.approx((2 * (1 - (1 + limit) * exp(-limit)) - kept**2) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("variance", [0.01, 0.2, 2.0])
@pytest.mark.parametrize("limit", [0.8, 1.0, 1.5])
def test_kept_of_drawn_loads(variance: float, limit: float) -> None:
    drawn = np.random.default_rng(0).gamma(1 / variance, variance, 1_000_000)
    found, left = capacity_law(limit, variance), np.minimum(drawn, limit)
    assert found.kept == pytest.approx(left.mean(), rel=3e-3)
    assert found.spread == pytest.approx(left.std() / drawn.std(), rel=1e-2)


@given(st.floats(0.05, 8.0), st.floats(0.05, 8.0), st.floats(0.0, 4.0))
def test_a_larger_capacity_keeps_more_and_evens_less(one: float, other: float, variance: float) -> None:
    small, large = (capacity_law(limit, variance) for limit in sorted((one, other)))
    assert small.kept <= large.kept + 1e-12 <= 1.0 + 1e-9
    assert small.kept <= small.limit + 1e-9
    assert small.spread <= large.spread + 1e-9 <= 1.0 + 1e-6


def test_even_loads_lose_what_is_beyond_the_capacity() -> None:
    assert (capacity_law(1.0, 0.0).kept, capacity_law(0.8, 0.0).kept) == (1.0, 0.8)
    assert UNLIMITED.load(1.7) == 1.7
    assert Capacity(1.5, 0.9, 0.6).load(2.0) == pytest.approx(min(1.5, 0.9 * (1 + 0.6 / 0.9)))
    assert Capacity(1.5, 0.9, 0.6, is_padded=True).load(2.0) == 1.5
    assert Capacity(1.0, 0.5, 0.5).reached(4.0, 8) == 4.0 * (1 - 0.5**2)


def test_experts_run_what_is_kept_or_their_capacity() -> None:
    """16 tokens with two experts each: three quarters kept, or half as many rows more, of which these three are work."""
    whole = received_rows(MOE, recipe("bf16"))
    kept, padded = (
        replace(recipe("bf16"), capacity=Capacity(1.5, 0.75, 0.5, is_padded=is_padded)) for is_padded in (False, True)
    )
    assert (received_rows(MOE, kept), received_rows(MOE, padded)) == (ceil(0.75 * whole), ceil(1.5 * whole))
    for r, rows in ((kept, 0.75), (padded, 1.5)):
        (unit,) = PARTS["m"].units(model(MLA), r)
        up = next(op for op in unit.ops() if op.name == "expert_up")
        assert (up.shape.m, padded_rows(MOE, r)) == (rows * whole, rows * whole)
        assert up.model_flop == pytest.approx(2 * 0.75 * whole * 32 * 24)
        assert "router_capacity" in {op.name for op in unit.ops()}
    assert PARTS["m"].units(model(MLA), padded)[0].all_to_all["dispatch_f"].tokens == ceil(1.5 * TOKENS)
    assert PARTS["m"].units(model(MLA), kept)[0].all_to_all["dispatch_f"].tokens == TOKENS
    assert "router_capacity" not in {op.name for op in PARTS["m"].units(model(MLA), recipe())[0].ops()}


def test_drawn_loads_stay_below_the_limit_and_keep_their_sum() -> None:
    plain = LoadModel(0.6, 0.2, ranks=8, nodes=2)
    free, limited = (draw_loads(each, 3, 5, 0, 0)[:, :, 0] for each in (plain, replace(plain, limit=1.2)))
    assert free.max() > 1.2
    assert limited.max() <= 1.2 + 1e-12
    assert limited.mean(axis=-1) == pytest.approx(1.0)
    even = draw_loads(replace(plain, limit=1.0), 3, 5, 0, 0)[:, :, 0]
    assert even == pytest.approx(1.0)


PLAN = (
    "parallel={pp: 1, ep: 8, schedule: 1f1b}", "cluster.num_gpus=8", "training={global_batch_size: 16, seq_len: 2048}",
    "model.num_layers=4", "draws=2",
)  # fmt: skip


def step(*options: str) -> tuple[PreparedStep, StepResult]:
    prepared = prepare(load_scenario("mixtral-8x22b", [*PLAN, *options]))
    return prepared, simulate_prepared(prepared)


def test_dropping_evens_the_loads_and_shortens_the_step() -> None:
    times, amplified, memory = [], [], []
    for options in ((), *(("moe.drop=probs", f"moe.capacity_factor={factor}") for factor in (2, 1.25, 1))):
        _, result = step(*options)
        assert result.step.imbalance is not None
        times.append(result.step.step_s)
        amplified.append(result.step.imbalance.amplification_s)
        memory.append(result.memory.by_stage[0].activations_bytes)
    assert times == sorted(times, reverse=True)
    assert amplified == sorted(amplified, reverse=True)
    assert memory == sorted(memory, reverse=True)
    assert amplified[-1] < 0.5 * amplified[0]


def test_padded_experts_are_even_and_longer() -> None:
    drop = ("moe.drop=position", "moe.capacity_factor=1.25")
    (plain, _), (padded, even) = step(*drop), step(*drop, "moe.pad_to_capacity=true")
    assert (padded.random.load, even.step.imbalance) == (None, None)
    assert plain.random.load is not None
    assert padded.workload.capacity.rows == 1.25 > plain.workload.capacity.rows == plain.workload.capacity.kept
    assert plain.random.load.limit == 1.25 / plain.workload.capacity.kept


def test_one_rank_with_all_experts_drops_rows_too() -> None:
    prepared = prepare(
        load_scenario("mixtral-8x22b", [*PLAN, "parallel.ep=1", "moe.drop=probs", "moe.capacity_factor=1"])
    )
    assert prepared.random.load is None
    assert 0.5 < prepared.workload.capacity.kept < 1.0


def test_a_given_imbalance_is_what_is_cut() -> None:
    prepared, _ = step("moe.drop=probs", "moe.capacity_factor=1.1", "moe.balance={load_imbalance: 1.5}")
    assert prepared.workload.capacity.kept < 0.99
    forced, _ = step("moe.drop=probs", "moe.capacity_factor=1", "moe.balance=forced")
    assert forced.workload.capacity.kept == 1.0
    free, _ = step()
    assert free.workload.capacity.limit == inf


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["moe.drop=probs"], "moe.drop: probs, but there is no capacity_factor; give one, or write drop: none"),
        (
            ["moe.capacity_factor=1.2"],
            "moe.capacity_factor: 1.2, but drop is none: no row is dropped; write drop: probs",
        ),
        (["moe.pad_to_capacity=true"], "moe.pad_to_capacity: true, but there is no capacity_factor"),
        (["moe.capacity_factor=0", "moe.drop=probs"], "moe.capacity_factor"),
    ],
)
def test_a_capacity_and_what_is_dropped_come_together(options: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("mixtral-8x22b", options)
    assert words in str(caught.value)


def test_a_dense_model_has_no_capacity() -> None:
    warnings = load_scenario("llama-3.1-70b", ["moe.capacity_factor=1", "moe.drop=probs"]).warnings
    assert any("moe.capacity_factor: has no meaning" in warning for warning in warnings)
