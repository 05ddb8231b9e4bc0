"""A ramp runs only valid batches, follows its line, trains exactly its tokens, is interpolated exactly where linear."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.run.batch_ramp import (
    MAX_SIZES,
    BatchSize,
    cut,
    interpolate,
    interpolation_error_frac,
    ramp_levels,
    sizes_to_simulate,
    valid_batch_sizes,
)

SEQ_LEN = 4096
V3_SIZES = valid_batch_sizes(3072, 15360, 128, 16, "dualpipe", "1f1b")


def test_the_sizes_of_a_dualpipe_ramp() -> None:
    """24 micro-batches are below the minimum of 32, of which every second count is valid."""
    assert V3_SIZES[0] == BatchSize(3072, "1f1b")
    assert [size.global_batch_size for size in V3_SIZES if size.schedule == "1f1b"] == list(range(3072, 4096, 128))
    assert [size.global_batch_size for size in V3_SIZES if size.schedule == "dualpipe"] == list(range(4096, 15361, 256))


def test_a_ramp_below_the_minimum_needs_another_schedule() -> None:
    with pytest.raises(InputError, match=r"4096 sequences \(32 micro-batches\).*schedule_below"):
        valid_batch_sizes(3072, 15360, 128, 16, "dualpipe", None)


@pytest.mark.parametrize(("start", "first"), [(1, 8), (11, 8), (13, 16), (63, 64)])
def test_the_first_batch_is_the_nearest_valid_one(start: int, first: int) -> None:
    assert valid_batch_sizes(start, 64, 8, 4, "1f1b", None)[0].global_batch_size == first


def test_a_ramp_of_very_many_sizes_is_thinned() -> None:
    sizes = valid_batch_sizes(1, 10_000_001, 1, 16, "dualpipe", "1f1b")
    assert len(sizes) <= MAX_SIZES + 2
    sizes = valid_batch_sizes(1, 10_000_000, 1, 16, "dualpipe", "1f1b")
    assert sizes[-1].global_batch_size == 10_000_000
    assert all(size.global_batch_size % 2 == 0 for size in sizes if size.schedule == "dualpipe")


@given(
    start=st.integers(1, 400),
    more=st.integers(0, 400),
    over_tokens=st.floats(1e3, 1e12),
    num_ranks=st.sampled_from([2, 4, 8]),
)
def test_the_tokens_of_the_levels_sum_to_the_ramp(start: int, more: int, over_tokens: float, num_ranks: int) -> None:
    full = 2 * num_ranks * 4 + 8 * (start + more)
    sizes = valid_batch_sizes(min(start, full), full, 4, num_ranks, "dualpipe", "1f1b")
    levels = ramp_levels(sizes, min(start, full), over_tokens, SEQ_LEN)
    assert math.fsum(level.tokens for level in levels) == pytest.approx(over_tokens)
    assert [level.batch for level in levels] == sorted(level.batch for level in levels)
    assert all(level.tokens > 0 for level in levels)


def test_the_steps_of_a_fine_ramp_are_the_integral_of_the_line() -> None:
    """Steps = integral of tokens over batch: over_tokens / (seq_len (full - start)) ln(full / start)."""
    sizes = valid_batch_sizes(3072, 15360, 16, 1, "1f1b", None)
    levels = ramp_levels(sizes, 3072, 469e9, SEQ_LEN)
    exact = 469e9 / (SEQ_LEN * (15360 - 3072)) * math.log(5)
    assert sum(level.steps for level in levels) == pytest.approx(exact, rel=1e-5)


def test_a_level_runs_while_the_line_is_nearest_to_it() -> None:
    sizes = valid_batch_sizes(10, 30, 10, 1, "1f1b", None)
    levels = ramp_levels(sizes, 10, 80.0, seq_len=1)
    assert [(level.batch.global_batch_size, level.tokens, level.steps) for level in levels] == [
        (10, 20.0, 2.0),
        (20, 40.0, 2.0),
        (30, 20.0, 20 / 30),
    ]


def test_a_ramp_is_cut_where_tokens_or_steps_end() -> None:
    levels = ramp_levels(valid_batch_sizes(10, 30, 10, 1, "1f1b", None), 10, 80.0, seq_len=1)
    assert cut(levels) == levels
    assert [level.tokens for level in cut(levels, tokens=30.0)] == [20.0, 10.0]
    assert [level.steps for level in cut(levels, steps=3.0)] == [2.0, 1.0]
    assert [level.tokens for level in cut(levels, steps=2.0)] == [20.0]


def test_at_most_five_sizes_are_simulated_and_every_size_lies_between_them() -> None:
    chosen = sizes_to_simulate(V3_SIZES)
    assert [(size.global_batch_size, size.schedule) for size in chosen] == [
        (3072, "1f1b"),
        (3968, "1f1b"),
        (4096, "dualpipe"),
        (9728, "dualpipe"),
        (15360, "dualpipe"),
    ]
    for size in V3_SIZES:
        interpolate(size, dict.fromkeys(chosen, 1.0))


def test_interpolation_is_exact_where_the_step_is_linear_in_the_batch() -> None:
    def step_s(size: BatchSize) -> float:
        return (2.0 if size.schedule == "dualpipe" else 3.0) + 1e-3 * size.global_batch_size

    simulated = {size: step_s(size) for size in sizes_to_simulate(V3_SIZES)}
    for size in V3_SIZES:
        assert interpolate(size, simulated) == pytest.approx(step_s(size), rel=1e-12)
    assert interpolation_error_frac(V3_SIZES, simulated) == pytest.approx(0.0, abs=1e-12)


def test_the_stated_error_bounds_the_true_one_of_a_curved_step() -> None:
    def step_s(size: BatchSize) -> float:
        return 1e-3 * size.global_batch_size + 5.0 * math.exp(-size.global_batch_size / 5000)

    simulated = {size: step_s(size) for size in sizes_to_simulate(V3_SIZES)}
    stated = interpolation_error_frac(V3_SIZES, simulated)
    assert stated is not None
    actual = max(abs(interpolate(size, simulated) / step_s(size) - 1) for size in V3_SIZES)
    assert 0 < actual < stated


def test_where_every_size_is_simulated_there_is_no_error() -> None:
    sizes = valid_batch_sizes(8, 24, 8, 4, "1f1b", None)
    assert interpolation_error_frac(sizes, dict.fromkeys(sizes_to_simulate(sizes), 1.0)) == 0.0
