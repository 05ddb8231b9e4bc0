"""ZB-H1, ZB-V and DualPipeV: published bubbles and activations, where stages stand, orders of torch.distributed.pipelining."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.schedule import (
    PUBLISHED_BUBBLES,
    ChunkSeconds,
    Schedule,
    bubble_seconds,
    build_schedule,
    check_schedule,
    dry_run,
    held_chunks,
    measure,
    vpp_problem,
)

FEW = settings(max_examples=60, deadline=None, derandomize=True)


def spans(schedule: Schedule, slots: dict) -> list[tuple[int, int, int]]:
    """(first slot, slot behind the last, slots at work) of every rank."""
    found = []
    for starts, actions in zip(dry_run(schedule, slots), schedule.ranks, strict=True):
        end = starts[-1] + slots[actions[-1].kind]
        found.append((starts[0], end, sum(slots[action.kind] for action in actions)))
    return found


def slots_of(forward: int, inputs: int, weights: int) -> dict:
    pair = forward + inputs + weights
    return {"F": forward, "B": inputs + weights, "I": inputs, "W": weights, "FB": pair}


@FEW
@given(st.integers(1, 9), st.integers(0, 14), st.integers(1, 30), st.integers(0, 30), st.integers(0, 30))
def test_zb_h1_has_the_published_bubble_and_memory(
    num_ranks: int, extra: int, weights: int, more: int, most: int
) -> None:
    """(P-1)(F+B-2W) where W is no longer than I, and F no longer than I; P micro-batches on every rank, from F to W."""
    inputs = weights + more
    slots = slots_of(min(weights + most, inputs), inputs, weights)
    schedule = build_schedule("zb_h1", num_ranks, num_ranks + extra)
    check_schedule(schedule)
    chunk = ChunkSeconds(slots["F"], slots["B"], weights, slots["FB"])
    whole = spans(schedule, slots)
    busy = (num_ranks + extra) * slots["FB"]
    assert max(end for _, end, _ in whole) - busy == bubble_seconds("zb_h1", num_ranks, chunk)
    assert {held_chunks(actions) for actions in schedule.ranks} == {num_ranks}


@FEW
@given(st.integers(1, 9), st.integers(1, 24), st.integers(1, 30))
def test_zb_h1_is_never_longer_than_1f1b_and_holds_no_more(num_ranks: int, num_micro_batches: int, length: int) -> None:
    """Also with fewer micro-batches than ranks."""
    slots = slots_of(2 * length, 2 * length, length)
    put_off, plain = (build_schedule(name, num_ranks, num_micro_batches) for name in ("zb_h1", "1f1b"))
    assert measure(put_off, slots).duration <= measure(plain, slots).duration
    assert measure(put_off, slots).in_flight == measure(plain, slots).in_flight


@FEW
@given(st.integers(1, 8), st.integers(0, 12), st.integers(1, 20))
def test_zb_v_has_no_bubble_where_all_passes_are_alike(num_ranks: int, extra: int, length: int) -> None:
    """From 2P-1 micro-batches on no rank waits between its first and its last action; rank r begins and ends r later."""
    num_micro_batches = 2 * num_ranks - 1 + extra
    schedule = build_schedule("zb_v", num_ranks, num_micro_batches)
    check_schedule(schedule)
    whole = spans(schedule, slots_of(length, length, length))
    assert [(begin, end - begin - busy) for begin, end, busy in whole] == [(r * length, 0) for r in range(num_ranks)]
    assert bubble_seconds("zb_v", num_ranks, ChunkSeconds(length, 2 * length, length, 3 * length)) == 0
    held = max(map(held_chunks, schedule.ranks))
    assert held == PUBLISHED_BUBBLES["zb_v"].activations(num_ranks, num_micro_batches) == 2 * num_ranks


def test_zb_v_has_a_bubble_where_passes_differ() -> None:
    for lengths in ((2, 1, 1), (1, 2, 1), (1, 1, 2)):
        assert measure(build_schedule("zb_v", 4, 12), slots_of(*lengths)).bubble_frac > 0


@FEW
@given(st.integers(1, 8), st.integers(0, 9), st.integers(1, 30))
def test_dualpipe_v_has_the_published_bubble_and_memory(num_ranks: int, extra: int, length: int) -> None:
    """(S/2-1)(F&B+B-3W) and S+1 stage-activations with S = 2P half-size stages, each on one rank."""
    schedule = build_schedule("dualpipe_v", num_ranks, 2 * num_ranks + extra)
    check_schedule(schedule)
    slots = slots_of(length, length, length)
    chunk = ChunkSeconds(length, 2 * length, length, 3 * length)
    waits = {max(end for _, end, _ in spans(schedule, slots)) - busy for _, _, busy in spans(schedule, slots)}
    assert waits == {bubble_seconds("dualpipe_v", num_ranks, chunk)}
    assert max(map(held_chunks, schedule.ranks)) == 2 * num_ranks + 1
    assert all(len(schedule.holders(stage)) == 1 for stage in range(2 * num_ranks))


@pytest.mark.parametrize("name", ["dualpipe", "dualpipe_v"])
def test_without_the_split_backwards_are_whole_and_the_ramp_longer(name: str) -> None:
    apart, whole = (build_schedule(name, 8, 20, split=split) for split in (True, False))
    check_schedule(whole)
    assert {action.kind for actions in whole.ranks for action in actions} == {"F", "B", "FB"}
    assert measure(whole).duration > measure(apart).duration
    assert build_schedule("1f1b", 8, 20, split=False) == build_schedule("1f1b", 8, 20)
    with pytest.raises(InputError, match="zb_v is made of weight gradients apart"):
        build_schedule("zb_v", 8, 20, split=False)


@pytest.mark.parametrize("name", ["zb_v", "dualpipe_v"])
def test_a_v_turns_on_the_last_rank(name: str) -> None:
    schedule = build_schedule(name, 3, 7)
    assert schedule.placement == ((0, 5), (1, 4), (2, 3))
    assert [schedule.rank_of(stage, 6) for stage in range(6)] == [0, 1, 2, 2, 1, 0]
    assert (schedule.vpp, vpp_problem(name, 2)) == (2, None)
    with pytest.raises(InputError, match=f"vpp 4, but {name} has 2 chunks a rank, one each way; use vpp: 2, or leave"):
        build_schedule(name, 3, 7, 4)


def _torch_words(kind: str, num_ranks: int, num_micro_batches: int, rank: int) -> list[str]:
    """A rank's order in torch's own notation, turned into ours."""
    schedules = pytest.importorskip("torch.distributed.pipelining.schedules")
    schedule = object.__new__(getattr(schedules, kind))
    schedule.pp_group_size, schedule._n_microbatches, schedule.n_local_stages = num_ranks, num_micro_batches, 2
    schedule._num_stages = schedule.num_stages = 2 * num_ranks
    names = {"FORWARD": "F", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W", "FULL_BACKWARD": "B"}

    def word(action: object) -> str:
        parts = action.sub_actions or (action,)  # type: ignore[attr-defined]
        return "&".join(f"{p.stage_index}{names[p.computation_type.name]}{p.microbatch_index}" for p in parts)

    return [word(action) for action in schedule._calculate_single_rank_operations(rank) if action is not None]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("ScheduleZBVZeroBubble", "zb_v"), ("ScheduleDualPipeV", "dualpipe_v")])
@pytest.mark.parametrize(("num_ranks", "num_micro_batches"), [(2, 4), (3, 7), (4, 10), (8, 20)])
def test_the_order_is_that_of_torch(kind: str, name: str, num_ranks: int, num_micro_batches: int) -> None:
    schedule = build_schedule(name, num_ranks, num_micro_batches)
    for rank, actions in enumerate(schedule.ranks):
        assert list(map(str, actions)) == _torch_words(kind, num_ranks, num_micro_batches, rank)
