"""Orders word by word for small pipelines, and a law of what is deferred."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.schedule import SCHEDULES, build_schedule, next_valid_micro_batches, rank_problem, schedule_problems


def printed(name: str, num_ranks: int, num_micro_batches: int) -> list[str]:
    return [" ".join(map(str, rank)) for rank in build_schedule(name, num_ranks, num_micro_batches).ranks]


def test_gpipe_goes_back_from_the_last_micro_batch() -> None:
    assert printed("gpipe", 2, 3) == ["0F0 0F1 0F2 0B2 0B1 0B0", "1F0 1F1 1F2 1B2 1B1 1B0"]


def test_one_forward_one_backward_warms_up_by_the_distance_to_the_end() -> None:
    assert printed("1f1b", 3, 3) == [
        "0F0 0F1 0F2 0B0 0B1 0B2",
        "1F0 1F1 1B0 1F2 1B1 1B2",
        "2F0 2B0 2F1 2B1 2F2 2B2",
    ]


def test_dualpipe_of_two_ranks() -> None:
    """Both ranks are middle ones: the first pair is not overlapped; the last weight part waits for the end."""
    assert printed("dualpipe", 2, 4) == [
        "0F0 1F2 0F1 1B2 1F3&0B0 1B3 0I1 0W1",
        "0F2 1F0 0F3 1B0 1F1&0B2 1B1 0I3 0W3",
    ]


@pytest.mark.parametrize("num_ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_weight_parts_follow_in_the_order_of_their_input_parts(name: str, num_ranks: int) -> None:
    """First deferred, first done: what waits longest holds its operands longest."""
    if rank_problem(name, num_ranks) is not None:
        pytest.skip(f"{name} does not run on {num_ranks} ranks")
    for wanted in (2 * num_ranks, 5 * num_ranks):
        num_micro_batches = next_valid_micro_batches(name, num_ranks, wanted)[-1]
        for rank in build_schedule(name, num_ranks, num_micro_batches).ranks:
            for stage in {action.stage for action in rank}:
                own = [action for action in rank if action.stage == stage]
                parts = {kind: [a.micro_batch for a in own if a.kind == kind] for kind in ("I", "W")}
                assert parts["I"] == parts["W"]


@pytest.mark.parametrize("kind", ["F", "B", "I", "W", "FB"])
def test_each_pass_left_out_is_missed(kind: str) -> None:
    schedule = build_schedule("dualpipe", 4, 8)
    rank, actions = next((r, actions) for r, actions in enumerate(schedule.ranks) if kind in {a.kind for a in actions})
    last = max(index for index, action in enumerate(actions) if action.kind == kind)
    ranks = tuple(
        actions[:last] + actions[last + 1 :] if r == rank else order for r, order in enumerate(schedule.ranks)
    )
    assert schedule_problems(schedule) == ()
    stage, micro_batch = actions[last].halves()[0][1:]
    found = schedule_problems(replace(schedule, ranks=ranks))
    assert any(f"stage {stage}, micro-batch {micro_batch} has" in text for text in found)


def test_the_next_valid_counts_are_the_nearest() -> None:
    assert next_valid_micro_batches("dualpipe", 4, 13) == (12, 14)
    assert next_valid_micro_batches("dualpipe", 4, 5) == (8,)
    assert next_valid_micro_batches("dualpipe", 4, 12) == (12,)
