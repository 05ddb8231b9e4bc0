"""Law: whatever breaks a sound schedule is found and named: lost, doubled, misplaced or early actions, deadlock."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InconsistentSimulation
from simulator.schedule import Action, build_schedule, check_schedule, dry_run, schedule_problems


def with_rank(schedule, rank, actions):
    ranks = list(schedule.ranks)
    ranks[rank] = tuple(actions)
    return replace(schedule, ranks=tuple(ranks))


def test_lost_action():
    schedule = build_schedule("1f1b", 4, 6)
    with pytest.raises(InconsistentSimulation, match="stage 2, micro-batch 5 has 1 F, 0 B"):
        check_schedule(with_rank(schedule, 2, schedule.ranks[2][:-1]))


def test_doubled_action():
    schedule = build_schedule("gpipe", 2, 2)
    with pytest.raises(InconsistentSimulation, match="stage 0, micro-batch 0 has 2 F, 1 B"):
        check_schedule(with_rank(schedule, 0, (Action("F", 0, 0), *schedule.ranks[0])))


def test_misplaced_action():
    schedule = build_schedule("dualpipe", 4, 8)
    moved = with_rank(schedule, 0, (Action("F", 0, 4), *schedule.ranks[0][1:]))
    with pytest.raises(InconsistentSimulation, match="rank 0: 0F4 belongs on rank 3"):
        check_schedule(moved)


def test_backward_before_its_forward():
    schedule = build_schedule("gpipe", 2, 2)
    early = [Action("B", 1, 0), Action("F", 1, 0), Action("F", 1, 1), Action("B", 1, 1)]
    with pytest.raises(InconsistentSimulation, match="rank 1: 1B0 stands before its 1F0"):
        check_schedule(with_rank(schedule, 1, early))


def test_pair_of_one_micro_batch():
    schedule = build_schedule("gpipe", 2, 1)
    with pytest.raises(InconsistentSimulation, match="1F0&1B0 stands before its 1F0"):
        check_schedule(with_rank(schedule, 1, [Action("FB", 1, 0, 1, 0)]))


def test_weights_before_their_input_gradient():
    schedule = build_schedule("gpipe", 1, 1)
    split = with_rank(schedule, 0, [Action("F", 0, 0), Action("W", 0, 0), Action("I", 0, 0)])
    with pytest.raises(InconsistentSimulation, match="0W0 stands before its 0I0"):
        check_schedule(split)


def test_malformed():
    schedule = build_schedule("gpipe", 2, 2)
    assert schedule_problems(replace(schedule, direction=(0,))) == ("direction has 1 entries, expected 2",)
    assert "belongs to kind FB only" in schedule_problems(with_rank(schedule, 0, [Action("F", 0, 0, 1, 1)]))[0]
    assert "outside the stages" in schedule_problems(with_rank(schedule, 0, [Action("F", 0, 9)]))[0]


def test_a_rank_executes_only_stages_that_it_holds():
    schedule = build_schedule("gpipe", 2, 1)
    assert "belongs on rank" in schedule_problems(replace(schedule, placement=((1,), (1,))))[0]


@pytest.mark.parametrize("kinds", ["F", "FI", "FW", "FBW", "FBI", "FBIW", "FIIW", "FFB"])
def test_a_micro_batch_has_one_backward_whole_or_in_two_parts(kinds):
    """FB and FIW are the two ways; anything between leaves something out or does it twice."""
    schedule = build_schedule("gpipe", 1, 1)
    found = schedule_problems(with_rank(schedule, 0, [Action(kind, 0, 0) for kind in kinds]))
    assert any("expected one F and B, or one F, I and W" in each for each in found)
    for sound in ("FB", "FIW"):
        assert not schedule_problems(with_rank(schedule, 0, [Action(kind, 0, 0) for kind in sound]))


def test_many_problems_are_shown_in_part_and_counted():
    """Nine of the twelve micro-batches that have no action."""
    with pytest.raises(InconsistentSimulation) as error:
        check_schedule(with_rank(build_schedule("gpipe", 1, 12), 0, []))
    lines = str(error.value).splitlines()
    assert sum("expected one F and B" in line for line in lines) == 9
    assert lines[-1] == "and 3 more"


def test_a_pair_takes_as_long_as_a_forward_and_a_full_backward():
    """Nothing is gained in slots: F 1 and B 2."""
    schedule = build_schedule("gpipe", 1, 2)
    paired = with_rank(schedule, 0, [Action("F", 0, 0), Action("FB", 0, 1, 0, 0), Action("B", 0, 1)])
    assert dry_run(paired) == ((0, 1, 4),)


def test_deadlock_shows_the_cycle():
    """Rank 0 wants the gradient of micro-batch 0 before it sends forward 1; rank 1 wants forward 1 first."""
    schedule = build_schedule("gpipe", 2, 2)
    schedule = with_rank(schedule, 0, [Action("F", 0, 0), Action("B", 0, 0), Action("F", 0, 1), Action("B", 0, 1)])
    with pytest.raises(InconsistentSimulation) as error:
        check_schedule(schedule)
    assert "rank 0 at 0B0 waits for the gradient of stage 1, micro-batch 0" in str(error.value)
    assert "rank 1 at 1F1 waits for the output of stage 0, micro-batch 1" in str(error.value)


def test_a_unit_that_nobody_yields_is_a_deadlock_too():
    schedule = build_schedule("gpipe", 2, 1)
    with pytest.raises(InconsistentSimulation, match="waits for the output of stage 0, micro-batch 0, which no rank"):
        dry_run(with_rank(schedule, 0, []))


@given(st.sampled_from([("1f1b", 4, 5), ("gpipe", 3, 4), ("dualpipe", 4, 8)]), st.data())
def test_any_loss_or_swap_that_breaks_the_order_is_found(arguments, data):
    """Law: the checks are complete: what they accept runs to the end with everything done once."""
    schedule = build_schedule(*arguments)
    rank = data.draw(st.integers(0, schedule.num_ranks - 1))
    actions = data.draw(st.permutations(schedule.ranks[rank]))
    changed = with_rank(schedule, rank, actions)
    if not schedule_problems(changed):
        starts = dry_run(changed)
        assert [len(row) for row in starts] == [len(row) for row in changed.ranks]
    shorter = with_rank(schedule, rank, actions[1:])
    assert schedule_problems(shorter)
