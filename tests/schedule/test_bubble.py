"""Law: with equal stages, the executed orders have the published bubble, in whole slots and hence exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.schedule import PUBLISHED_BUBBLES, ChunkSeconds, bubble_seconds, build_schedule, dry_run


def bubbles(schedule, slots):
    """Makespan - busy of every rank, in slots."""
    starts = dry_run(schedule, slots)
    makespan = max(
        start + slots[action.kind]
        for row, actions in zip(starts, schedule.ranks, strict=True)
        for start, action in zip(row, actions, strict=True)
    )
    return {makespan - sum(slots[action.kind] for action in actions) for actions in schedule.ranks}


@given(
    st.sampled_from(["1f1b", "gpipe"]), st.integers(1, 12), st.integers(0, 20), st.integers(1, 50), st.integers(1, 50)
)
def test_gpipe_and_1f1b(name, num_ranks, extra, forward, backward):
    schedule = build_schedule(name, num_ranks, num_ranks + extra)
    slots = {"F": forward, "B": backward}
    chunk = ChunkSeconds(forward, backward, weight_s=0, pair_s=0)
    assert bubbles(schedule, slots) == {bubble_seconds(name, num_ranks, chunk)}


@given(st.integers(2, 8), st.integers(1, 3), st.integers(2, 5), st.integers(1, 50), st.integers(1, 50))
def test_interleaved_1f1b(num_ranks, groups, vpp, forward, backward):
    schedule = build_schedule("interleaved_1f1b", num_ranks, num_ranks * groups, vpp)
    chunk = ChunkSeconds(forward, backward, weight_s=0, pair_s=0)
    expected = bubble_seconds("interleaved_1f1b", num_ranks, chunk)
    assert bubbles(schedule, {"F": forward, "B": backward}) == {expected}


@pytest.mark.parametrize("num_ranks", range(2, 17, 2))
@pytest.mark.parametrize("extra", [0, 2, 10])
def test_dualpipe_where_weights_and_forward_are_half_a_backward(num_ranks, extra):
    schedule = build_schedule("dualpipe", num_ranks, 2 * num_ranks + extra)
    slots = {"F": 7, "B": 14, "I": 7, "W": 7, "FB": 21}
    chunk = ChunkSeconds(7, 14, weight_s=7, pair_s=21)
    assert bubbles(schedule, slots) == {bubble_seconds("dualpipe", num_ranks, chunk)}


def test_published_table():
    """DeepSeek-V3 technical report table 2 with P = 16, F = 1, B = 2, W = 0.5, F&B = 2.5."""
    chunk = ChunkSeconds(1, 2, 0.5, 2.5)
    assert [bubble_seconds(name, 16, chunk) for name in ("1f1b", "zb_h1", "dualpipe")] == [45, 30, 21]
    assert [PUBLISHED_BUBBLES[name].parameter_copies for name in ("1f1b", "zb_h1", "dualpipe")] == [1, 1, 2]
    assert [PUBLISHED_BUBBLES[name].activations(16, 120) for name in ("1f1b", "zb_h1", "dualpipe")] == [16, 16, 17]


def test_activations_held_are_the_published_ones():
    for name, count in {"gpipe": 20, "1f1b": 20, "dualpipe": 20, "interleaved_1f1b": 24}.items():
        schedule = build_schedule(name, 8, count)
        peaks = []
        for actions in schedule.ranks:
            held, peak = 0, 0
            for action in actions:
                held += sum(kind == "F" for kind, _, _ in action.halves())
                peak = max(peak, held)
                held -= sum(kind in "BI" for kind, _, _ in action.halves())
            peaks.append(peak)
        assert max(peaks) == PUBLISHED_BUBBLES[name].activations(8, count)


def test_no_schedule_of_one_direction_holds_more_than_there_is():
    """Three micro-batches on eight ranks."""
    assert {PUBLISHED_BUBBLES[name].activations(8, 3) for name in ("gpipe", "1f1b", "zb_h1")} == {3}


def test_no_closed_form():
    with pytest.raises(InputError, match="no closed form for schedule 'zb_v' but where F = I = W"):
        bubble_seconds("zb_v", 4, ChunkSeconds(1, 2, 0.5, 3))
    with pytest.raises(InputError, match="no closed form for schedule 'hanayo'"):
        bubble_seconds("hanayo", 4, ChunkSeconds(1, 2, 1, 3))
