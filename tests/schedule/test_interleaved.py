"""Interleaved 1F1B: its published order, its bubble, what its ranks hold, for which counts it exists."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.schedule import build_schedule, check_schedule, dry_run, next_valid_micro_batches, vpp_problem
from simulator.schedule.action import Schedule
from simulator.schedule.check import UNIT_SLOTS

NAME = "interleaved_1f1b"


def words(schedule: Schedule, rank: int) -> str:
    return " ".join(map(str, schedule.ranks[rank]))


def most_held(schedule: Schedule, rank: int) -> int:
    """Chunks whose activations the rank holds at its fullest."""
    held = peak = 0
    for action in schedule.ranks[rank]:
        held += 1 if action.kind == "F" else -1
        peak = max(peak, held)
    return peak


def test_the_order_word_by_word() -> None:
    """Groups of P micro-batches, chunk by chunk; 2 (P-1-r) + (v-1) P forwards before the first backward's partner."""
    schedule = build_schedule(NAME, 2, 4, 2)
    assert words(schedule, 0) == "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3"
    assert words(schedule, 1) == "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3"


def test_the_first_rank_of_the_published_figure() -> None:
    """arXiv:2104.04473 figure 4: four devices, two chunks each, eight micro-batches."""
    actions = build_schedule(NAME, 4, 8, 2).ranks[0]
    forwards = [(action.stage // 4, action.micro_batch + 1) for action in actions if action.kind == "F"]
    backwards = [(action.stage // 4, action.micro_batch + 1) for action in actions if action.kind == "B"]
    groups = [(group, chunk) for group in (0, 4) for chunk in (0, 1)]
    assert forwards == [(chunk, group + i) for group, chunk in groups for i in (1, 2, 3, 4)]
    assert backwards == [(1 - chunk, group + i) for group, chunk in groups for i in (1, 2, 3, 4)]
    assert "".join(action.kind for action in actions) == "F" * 10 + "FB" * 6 + "B" * 10


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(2, 8), st.integers(2, 6), st.integers(1, 4))
def test_sound_with_the_published_bubble(num_ranks: int, vpp: int, groups: int) -> None:
    """Makespan m v (F + B) + (P - 1)(F + B) with equal chunks: the bubble over ideal compute is (P - 1) / (m v)."""
    num_micro_batches = groups * num_ranks
    schedule = build_schedule(NAME, num_ranks, num_micro_batches, vpp)
    check_schedule(schedule)
    starts = dry_run(schedule)
    makespan = max(row[-1] for row in starts) + UNIT_SLOTS["B"]
    passage = UNIT_SLOTS["F"] + UNIT_SLOTS["B"]
    assert makespan == (num_micro_batches * vpp + num_ranks - 1) * passage
    assert schedule.placement[1] == tuple(range(1, num_ranks * vpp, num_ranks))
    for rank in range(num_ranks):
        most = 2 * (num_ranks - 1 - rank) + (vpp - 1) * num_ranks + 1
        assert most_held(schedule, rank) == min(most, num_micro_batches * vpp)


def test_counts_that_do_not_exist() -> None:
    assert next_valid_micro_batches(NAME, 4, 9) == (8, 12)
    assert next_valid_micro_batches(NAME, 4, 1) == (4,)
    with pytest.raises(InputError, match=r"multiple of the pipeline ranks \(4\).*next valid: 4 or 8"):
        build_schedule(NAME, 4, 6, 2)
    with pytest.raises(InputError, match="at least 2 pipeline ranks, not 1"):
        build_schedule(NAME, 1, 4, 2)
    with pytest.raises(InputError, match="needs at least 2 chunks a rank; use vpp: 2, or schedule: 1f1b"):
        build_schedule(NAME, 4, 8, 1)
    with pytest.raises(
        InputError, match="vpp 2, but 1f1b has no virtual stages; use vpp: 1, or schedule: interleaved_1f1b"
    ):
        build_schedule("1f1b", 4, 8, 2)
    assert build_schedule(NAME, 4, 8) == build_schedule(NAME, 4, 8, 2)
    assert vpp_problem("dualpipe", 1) is None
