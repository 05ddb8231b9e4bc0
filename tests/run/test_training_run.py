"""A run is the sum of its steps: with a step that is linear in the batch, every total has a closed form."""

import json
import math
from typing import Any

import pytest

from simulator.results.document import to_document, to_json
from simulator.results.interval import Estimate, Interval
from simulator.results.run_result import RunResult, from_json
from simulator.results.step_memory import Memory, StageMemory
from simulator.results.step_result import (
    Basis,
    FlopPerToken,
    Mfu,
    ModelCounts,
    RankTimes,
    StepResult,
    StepTimes,
    Tflops,
    parts_of,
)
from simulator.run.training_run import simulate_run
from simulator.scenario.scenario import Scenario

FIXED_S, PER_SEQUENCE_S = 2.0, 1e-3
MODEL = {
    "name": "small",
    "hidden_size": 64,
    "num_layers": 16,
    "vocab_size": 128,
    "attention": {"kind": "gqa", "num_heads": 4, "num_kv_heads": 4, "head_dim": 16},
    "dense_ffn": {"intermediate_size": 128},
    "num_dense_layers": 16,
}
RAMP = {"from": 3072, "over_tokens": 469e9, "schedule_below": "1f1b"}


def make_scenario(phases: list[dict[str, Any]], **sections: Any) -> Scenario:
    document = {
        "schema_version": 1,
        "model": MODEL,
        "cluster": {"node": "h800-x8", "num_gpus": 2048},
        "stack": "h800-deepseek-2024",
        "parallel": {"pp": 16, "schedule": "dualpipe"},
        "training": {"seq_len": 4096, "global_batch_size": 15360},
        "prices": {"usd_per_gpu_hour": 2.0},
        "phases": phases,
    }
    return Scenario.model_validate(document | sections)


class Linear:
    """A step of FIXED_S + PER_SEQUENCE_S x batch seconds, a tenth of it uncertain; remembers what was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str]] = []

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        self.calls.append((global_batch_size, schedule))
        step_s = FIXED_S + PER_SEQUENCE_S * global_batch_size
        tokens = global_batch_size * scenario.training.seq_len
        rank = RankTimes(
            pp_rank=0,
            forward_s=step_s,
            backward_s=0.0,
            weight_s=0.0,
            overlapped_f_b_s=0.0,
            bubble_s=0.0,
            optimizer_s=0.0,
        )
        stage = StageMemory(
            pp_rank=0,
            weights_bytes=1,
            gradients_bytes=1,
            optimizer_bytes=1,
            activations_bytes=1,
            buffers_bytes=1,
            peak_bytes=5,
        )
        return StepResult(
            stack_sha256="0" * 64,
            model=ModelCounts(num_parameters=1, num_active_parameters=1, num_mtp_parameters=0),
            step=StepTimes(
                step_s=step_s,
                interval=Interval(low=0.9 * step_s, high=1.1 * step_s),
                tokens_per_step=tokens,
                tokens_per_s_per_gpu=tokens / step_s / scenario.cluster.num_gpus,
                model_flop_per_token=FlopPerToken(causal=1.0, noncausal=2.0),
                tflops=Tflops(causal=1.0, noncausal=2.0),
                mfu=Mfu(bf16_dense_causal=0.1, bf16_dense_noncausal=0.2),
                bubble_s=0.0,
                optimizer_s=0.0,
                by_rank=(rank,),
                parts=parts_of([rank]),
            ),
            memory=Memory.of(8, 8, [stage], Estimate.exact(0.0)),
            basis=Basis(measured=1.0, interpolated=0.0, extrapolated=0.0, transferred=0.0, assumed=0.0),
        )


def run(scenario: Scenario) -> RunResult:
    return simulate_run(scenario, simulate=Linear())


FULL_S = FIXED_S + PER_SEQUENCE_S * 15360


def test_without_a_ramp_the_run_is_its_steady_state() -> None:
    result = run(make_scenario([{"name": "pretrain", "tokens": 14.8e12}]))
    steps = 14.8e12 / (15360 * 4096)
    assert result.totals.wall_s.value == pytest.approx(steps * FULL_S, rel=1e-12)
    assert result.totals.gpu_hours.value == pytest.approx(2048 * steps * FULL_S / 3600, rel=1e-12)
    assert result.steady_state.gpu_hours == pytest.approx(result.totals.gpu_hours.value, rel=1e-12)
    assert result.steady_state.gpu_hours_per_trillion_tokens * 14.8 == pytest.approx(result.steady_state.gpu_hours)
    assert result.phases[0].ramp is None
    assert result.step.step_s == FULL_S


def test_a_run_of_steps_has_as_many() -> None:
    result = run(make_scenario([{"name": "pretrain", "steps": 1000}]))
    assert result.phases[0].steps == pytest.approx(1000)
    assert result.phases[0].tokens == pytest.approx(1000 * 15360 * 4096)
    assert result.totals.wall_s.value == pytest.approx(1000 * FULL_S)


def test_the_wall_time_of_a_ramp_is_steps_times_fixed_plus_sequences_times_rate() -> None:
    """A linear step costs FIXED_S a step and PER_SEQUENCE_S a sequence, whatever the batches are."""
    result = run(make_scenario([{"name": "pretrain", "tokens": 14.8e12, "batch_ramp": RAMP}]))
    phase = result.phases[0]
    assert phase.wall_s == pytest.approx(FIXED_S * phase.steps + PER_SEQUENCE_S * 14.8e12 / 4096, rel=1e-12)
    assert phase.tokens == pytest.approx(14.8e12, rel=1e-12)
    ramp = phase.ramp
    assert ramp is not None
    line = 469e9 / (4096 * (15360 - 3072)) * math.log(15360 / 3072)
    assert ramp.steps == pytest.approx(line, rel=2e-3), "rounding to valid batches hardly moves the integral"
    assert phase.steps - ramp.steps == pytest.approx((14.8e12 - 469e9) / (15360 * 4096), rel=1e-12)
    assert ramp.interpolation_error_frac == pytest.approx(0.0, abs=1e-12)
    assert result.totals.gpu_hours.value > result.steady_state.gpu_hours


def test_a_ramp_is_cut_off_where_the_phase_ends() -> None:
    result = run(make_scenario([{"name": "pretrain", "tokens": 1e9, "batch_ramp": RAMP}]))
    assert result.phases[0].tokens == pytest.approx(1e9)
    steps = run(make_scenario([{"name": "pretrain", "steps": 40, "batch_ramp": RAMP}])).phases[0]
    assert steps.steps == pytest.approx(40)
    assert steps.tokens == pytest.approx(40 * 3072 * 4096, rel=1e-9)


def test_the_ramp_says_which_batches_it_ran() -> None:
    """Half of the tokens of a ramp end it half way, whatever is simulated beyond."""
    whole, half = (
        run(make_scenario([{"name": "pretrain", "tokens": tokens, "batch_ramp": RAMP}])).phases[0].ramp
        for tokens in (1e12, 469e9 / 2)
    )
    assert whole is not None
    assert half is not None
    assert (whole.first_global_batch_size, whole.last_global_batch_size) == (3072, 15360)
    assert half.first_global_batch_size == 3072
    assert half.last_global_batch_size == pytest.approx((3072 + 15360) / 2, abs=128)
    assert half.points == whole.points


def test_at_most_five_batches_are_simulated_each_once_and_the_full_one_first() -> None:
    simulate = Linear()
    phases = [{"name": name, "tokens": 1e12, "batch_ramp": RAMP} for name in ("one", "two")]
    result = simulate_run(make_scenario(phases), simulate=simulate)
    assert simulate.calls[0] == (15360, "dualpipe")
    assert sorted(simulate.calls) == sorted(set(simulate.calls))
    assert len(simulate.calls) == 5
    assert (3072, "1f1b") in simulate.calls
    assert result.totals.gpu_hours.value == pytest.approx(sum(phase.gpu_hours for phase in result.phases))


def test_a_ramp_that_is_switched_off_is_none() -> None:
    phases = [{"name": "pretrain", "tokens": 1e12, "batch_ramp": RAMP}]
    off = run(make_scenario(phases, mechanisms={"batch_ramp": False}))
    without = run(make_scenario([{"name": "pretrain", "tokens": 1e12}]))
    assert off.totals == without.totals


@pytest.mark.parametrize("factor", [0.5, 2.0, 7.0])
def test_tokens_times_k_cost_k_times_as_much(factor: float) -> None:
    one = run(make_scenario([{"name": "pretrain", "tokens": 1e12}])).totals
    many = run(make_scenario([{"name": "pretrain", "tokens": 1e12 * factor}])).totals
    assert one.cost_usd is not None
    assert many.cost_usd is not None
    assert many.gpu_hours.value == pytest.approx(factor * one.gpu_hours.value, rel=1e-12)
    assert many.cost_usd.value == pytest.approx(factor * one.cost_usd.value, rel=1e-9)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_price_times_k_costs_k_times_as_much(factor: float) -> None:
    phases = [{"name": "pretrain", "tokens": 1e12, "batch_ramp": RAMP}]
    one = run(make_scenario(phases)).totals
    many = run(make_scenario(phases, prices={"usd_per_gpu_hour": 2.0 * factor})).totals
    assert one.cost_usd is not None
    assert many.cost_usd is not None
    assert many.gpu_hours == one.gpu_hours
    assert many.cost_usd.value == pytest.approx(factor * one.cost_usd.value, rel=1e-9)


def test_the_totals_carry_the_range_of_the_step() -> None:
    totals = run(make_scenario([{"name": "pretrain", "tokens": 14.8e12, "batch_ramp": RAMP}])).totals
    for estimate in (totals.gpu_hours, totals.wall_s, totals.cost_usd):
        assert estimate is not None
        assert estimate.low == pytest.approx(0.9 * estimate.value, rel=1e-9)
        assert estimate.high == pytest.approx(1.1 * estimate.value, rel=1e-9)


def test_without_a_price_there_is_no_cost() -> None:
    document = to_document(run(make_scenario([{"name": "pretrain", "tokens": 1e12}], prices=None)))
    places = (document["totals"], document["steady_state"], document["phases"][0])
    assert all("cost_usd" not in place for place in places)


KEYS = ["gpu_speed_cv", "memory_fragmentation_frac"]


def test_the_same_scenario_gives_the_same_bytes_and_another_order_of_overrides_too() -> None:
    phases = [{"name": "pretrain", "tokens": 1e12, "batch_ramp": RAMP}]
    range_ = {"value": 0.05, "low": 0.02, "high": 0.1}
    one, other = (make_scenario(phases, assumptions=dict.fromkeys(keys, range_)) for keys in (KEYS, KEYS[::-1]))
    assert to_json(run(one)) == to_json(run(one)) == to_json(run(other))
    assert from_json(to_json(run(one))).scenario_sha256 == one.scenario_sha256
    assert json.loads(to_json(run(one)))["schema_version"] == 1
