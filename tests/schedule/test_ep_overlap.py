"""1F1B with overlapped pairs: published orders, bubbles, what ranks hold, for which counts it exists."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.schedule import build_schedule, check_schedule, dry_run
from simulator.schedule.action import Schedule
from simulator.schedule.check import UNIT_SLOTS
from simulator.step.timeline import most_in_flight

PLAIN, CHUNKS = "1f1b_ep_overlap", "interleaved_1f1b_ep_overlap"
F, B = UNIT_SLOTS["F"], UNIT_SLOTS["B"]


def kinds(schedule: Schedule, rank: int) -> list[str]:
    return [action.kind for action in schedule.ranks[rank]]


def makespan(schedule: Schedule, pair: int) -> int:
    starts = dry_run(schedule, {**UNIT_SLOTS, "FB": pair})
    return max(row[-1] for row in starts) + B


def test_without_a_pipeline_each_backward_runs_beside_the_next_forward() -> None:
    """Megatron-Core's combined_1f1b_schedule_for_no_pipelining with four micro-batches."""
    (order,) = build_schedule(PLAIN, 1, 4).ranks
    assert " ".join(map(str, order)) == "0F0 0F1&0B0 0F2&0B1 0F3&0B2 0B3"


def test_the_interleaved_order_word_by_word() -> None:
    """Interleaved 1F1B with one more passage in the warm-up, and its pairs side by side."""
    schedule = build_schedule(CHUNKS, 2, 4, 2)
    assert [" ".join(map(str, rank)) for rank in schedule.ranks] == [
        "0F0 0F1 2F0 2F1 0F2 0F3&2B0 2F2&2B1 2F3&0B0 0B1 2B2 2B3 0B2 0B3",
        "1F0 1F1 3F0 3F1&3B0 1F2&3B1 1F3&1B0 3F2&1B1 3F3&3B2 3B3 1B2 1B3",
    ]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 8), st.integers(2, 40), st.integers(1, 3))
def test_plain_pairs_leave_no_rank_waiting_for_its_neighbour(num_ranks: int, count: int, pair: int) -> None:
    """Makespan (P - 1)(F + B) + F + (m - 1) F&B + B once there are pairs on every rank: with F&B = F + B that of 1F1B."""
    num_micro_batches = max(count, 2 * num_ranks)
    schedule = build_schedule(PLAIN, num_ranks, num_micro_batches)
    check_schedule(schedule)
    assert makespan(schedule, pair) <= (num_micro_batches + num_ranks - 1) * (F + B)
    assert makespan(schedule, F + B) == makespan(build_schedule("1f1b", num_ranks, num_micro_batches), F + B)
    for rank in range(num_ranks):
        assert kinds(schedule, rank).count("FB") == num_micro_batches - 2 * (num_ranks - 1 - rank) - 1
        assert most_in_flight(schedule.ranks[rank]) == min(2 * (num_ranks - rank), num_micro_batches)
    if pair == 1:
        return
    ideal = (num_ranks - 1) * (F + B) + F + (num_micro_batches - 1) * pair + B
    assert makespan(schedule, pair) == ideal


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 8), st.integers(2, 5), st.integers(2, 4))
def test_interleaved_pairs_keep_the_published_bubble(num_ranks: int, vpp: int, groups: int) -> None:
    """(P - 1) / (m v) of ideal compute where a pair is as long as its halves: one more passage forward costs nothing."""
    schedule = build_schedule(CHUNKS, num_ranks, groups * num_ranks, vpp)
    check_schedule(schedule)
    assert makespan(schedule, F + B) == (groups * num_ranks * vpp + num_ranks - 1) * (F + B)
    for rank in range(num_ranks):
        alone = 2 * (num_ranks - 1 - rank) + (vpp - 1) * num_ranks + 1
        assert kinds(schedule, rank)[: alone + 1] == [*["F"] * alone, "FB"]


@pytest.mark.parametrize("num_micro_batches", [1, 2, 3, 5])
@pytest.mark.parametrize("num_ranks", [1, 3, 4])
def test_sound_with_fewer_micro_batches_than_ranks(num_ranks: int, num_micro_batches: int) -> None:
    if num_micro_batches == 1:
        with pytest.raises(
            InputError, match=r"runs a micro-batch beside another and needs at least 2, not 1; next valid: 2"
        ):
            build_schedule(PLAIN, num_ranks, 1)
        return
    schedule = build_schedule(PLAIN, num_ranks, num_micro_batches)
    check_schedule(schedule)
    assert "FB" in kinds(schedule, num_ranks - 1)


def test_virtual_stages_are_asked_for() -> None:
    with pytest.raises(InputError, match="vpp 1, but interleaved_1f1b_ep_overlap needs at least 2 chunks a rank"):
        build_schedule(CHUNKS, 4, 8, 1)
    with pytest.raises(InputError, match="at least 2 pipeline ranks, not 1"):
        build_schedule(CHUNKS, 1, 8, 2)
