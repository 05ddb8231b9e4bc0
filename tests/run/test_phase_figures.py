"""What a phase, its ramp and the steady state tell of a run whose step is linear in the batch: closed forms, each by hand."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.run.batch_ramp import BatchSize, interpolation_error_frac, valid_batch_sizes
from tests.run.test_training_run import FIXED_S, FULL_S, PER_SEQUENCE_S, RAMP, make_scenario, run

STEP_TOKENS = 15360 * 4096


def test_the_step_of_a_phase_is_that_of_its_full_batch() -> None:
    """A ramp of smaller, shorter steps makes the mean step shorter, not the one that is told."""
    phase = run(make_scenario([{"name": "pretrain", "tokens": 1e12, "batch_ramp": RAMP}])).phases[0]
    assert phase.step_s == FULL_S
    assert phase.wall_s / phase.steps < FULL_S


def test_a_ramp_takes_its_own_steps_and_sequences() -> None:
    ramp = run(make_scenario([{"name": "pretrain", "tokens": 1e12, "batch_ramp": RAMP}])).phases[0].ramp
    assert ramp is not None
    assert ramp.wall_s == pytest.approx(FIXED_S * ramp.steps + PER_SEQUENCE_S * 469e9 / 4096, rel=1e-9)


def test_a_ramp_that_begins_with_the_full_batch_is_none() -> None:
    ramp = {**RAMP, "from": 15360}
    phase = run(make_scenario([{"name": "pretrain", "tokens": 1e12, "batch_ramp": ramp}])).phases[0]
    assert phase.ramp is None
    assert phase.wall_s == pytest.approx(1e12 / STEP_TOKENS * FULL_S)


def test_the_steady_state_is_of_the_first_phase_alone() -> None:
    phases = [{"name": "one", "tokens": 1e12}, {"name": "two", "tokens": 3e12}]
    result = run(make_scenario(phases))
    assert result.steady_state.gpu_hours == pytest.approx(1e12 / STEP_TOKENS * FULL_S * 2048 / 3600)
    assert result.totals.wall_s.value == pytest.approx(4e12 / STEP_TOKENS * FULL_S)


def test_the_document_tells_the_seed_of_the_scenario() -> None:
    assert run(make_scenario([{"name": "pretrain", "steps": 1}], seed=7)).seed == 7


def test_sizes_that_were_all_simulated_have_no_error_whatever_the_curve() -> None:
    """2, 4 and 9 s: the middle one lies 1.5 s off the line between its neighbours, and nothing is interpolated."""
    sizes = [BatchSize(count, "gpipe") for count in (8, 16, 24)]
    simulated = dict(zip(sizes, (2.0, 4.0, 9.0), strict=True))
    assert interpolation_error_frac(sizes, simulated) == 0.0
    more = [*sizes, BatchSize(12, "gpipe")]
    assert interpolation_error_frac(more, simulated) == pytest.approx((5.5 - 4.0) / 4.0)


def test_a_ramp_that_is_cut_short_has_the_tokens_that_it_trains() -> None:
    ramp = run(make_scenario([{"name": "pretrain", "tokens": 469e9 / 2, "batch_ramp": RAMP}])).phases[0].ramp
    assert ramp is not None
    assert ramp.tokens == pytest.approx(469e9 / 2)


def test_a_ramp_from_the_schedule_s_least_batch_needs_no_other_schedule() -> None:
    """DualPipe on 16 ranks: 32 micro-batches of 128 sequences."""
    assert valid_batch_sizes(4096, 15360, 128, 16, "dualpipe", None)[0] == BatchSize(4096, "dualpipe")


def test_the_document_tells_its_stack_s_kind_and_every_warning() -> None:
    kinds = [
        run(make_scenario([{"name": "p", "steps": 1}], stack=stack)).stack_kind
        for stack in ("h800-deepseek-2024", "h800-transfer")
    ]
    assert kinds == ["measured", "transferred"]
    scenario = load_scenario("deepseek-v3", ["parallel.comm_sms=40", "training.seq_len=65536"])
    assert len(scenario.warnings) >= 2
    assert run(scenario).warnings == scenario.warnings
