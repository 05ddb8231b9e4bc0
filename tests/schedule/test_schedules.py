"""Law: every registered schedule conserves its work, is legal, never deadlocks; DualPipe has the known counts."""

import csv
import time
from collections import Counter
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.schedule import (
    SCHEDULES,
    build_schedule,
    check_schedule,
    micro_batch_problem,
    next_valid_micro_batches,
    rank_problem,
)

COUNTS = Path(__file__).parent / "data" / "dualpipe_counts_pp16_mb120.csv"


@pytest.mark.parametrize("num_ranks", range(2, 17))
@pytest.mark.parametrize("name", SCHEDULES)
def test_conserved_legal_and_free_of_deadlock(name, num_ranks):
    if rank_problem(name, num_ranks) is not None:
        with pytest.raises(InputError, match="pipeline ranks"):
            build_schedule(name, num_ranks, 4 * num_ranks)
        return
    for wanted in (1, num_ranks - 1, 2 * num_ranks, 2 * num_ranks + 1, 3 * num_ranks + 2):
        for num_micro_batches in next_valid_micro_batches(name, num_ranks, wanted):
            schedule = build_schedule(name, num_ranks, num_micro_batches)
            check_schedule(schedule)
            assert (schedule.name, schedule.num_ranks, schedule.num_micro_batches) == (
                name,
                num_ranks,
                num_micro_batches,
            )


def test_dualpipe_counts_of_deepseek_v3():
    schedule = build_schedule("dualpipe", 16, 120)
    with COUNTS.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    for row in rows:
        count = Counter(action.kind for action in schedule.ranks[int(row["rank"])])
        assert count == {
            "F": int(row["unpaired_F"]),
            "FB": int(row["overlapped_F_B_pairs"]),
            "B": int(row["full_B"]),
            "I": int(row["input_only_B"]),
            "W": int(row["standalone_W"]),
        }


@pytest.mark.parametrize(("num_ranks", "num_micro_batches"), [(2, 4), (8, 20), (16, 120)])
def test_dualpipe_is_symmetric(num_ranks, num_micro_batches):
    """Rank P-1-r does with one direction what rank r does with the other."""
    schedule = build_schedule("dualpipe", num_ranks, num_micro_batches)
    half = num_micro_batches // 2

    def mirrored(unit):
        kind, stage, micro_batch = unit
        return kind, stage, (micro_batch + half) % num_micro_batches

    for rank in range(num_ranks):
        here = [tuple(map(mirrored, action.halves())) for action in schedule.ranks[rank]]
        assert here == [action.halves() for action in schedule.ranks[num_ranks - 1 - rank]]


def test_dualpipe_begins_as_published():
    """Rank 0 of 8 with 20 micro-batches, as in the figure of the released implementation's README."""
    schedule = build_schedule("dualpipe", 8, 20)
    kinds = "".join(action.kind[0] if action.kind != "FB" else "x" for action in schedule.ranks[0])
    assert kinds.startswith("F" * 6 + "FF" + "IWF" * 3 + "xx")
    assert kinds.endswith("B" + "I" + "WI" * 3 + "W")


def test_directions_place_stages():
    schedule = build_schedule("dualpipe", 4, 8)
    assert schedule.placement == ((0, 3), (1, 2), (1, 2), (0, 3))
    assert [schedule.rank_of(0, micro_batch) for micro_batch in range(8)] == [0] * 4 + [3] * 4


@pytest.mark.parametrize("num_micro_batches", [1, 3, 8])
def test_one_f_one_b_holds_at_most_p_minus_r(num_micro_batches):
    schedule = build_schedule("1f1b", 4, num_micro_batches)
    for rank, actions in enumerate(schedule.ranks):
        held, peak = 0, 0
        for action in actions:
            held += 1 if action.kind == "F" else -1
            peak = max(peak, held)
        assert peak == min(4 - rank, num_micro_batches)


def test_next_valid_micro_batches():
    assert next_valid_micro_batches("dualpipe", 16, 24) == (32,)
    assert next_valid_micro_batches("dualpipe", 16, 33) == (32, 34)
    assert next_valid_micro_batches("dualpipe", 16, 120) == (120,)
    assert next_valid_micro_batches("1f1b", 16, 0) == (1,)
    assert micro_batch_problem("dualpipe", 16, 120) is None
    assert micro_batch_problem("gpipe", 16, 1) is None
    assert "next valid: 32 or 34" in str(micro_batch_problem("dualpipe", 16, 33))


def test_errors_name_the_remedy():
    with pytest.raises(InputError, match="did you mean dualpipe"):
        build_schedule("dualpip", 16, 120)
    with pytest.raises(InputError, match=r"at least twice the pipeline ranks.*next valid: 32"):
        build_schedule("dualpipe", 16, 24)
    with pytest.raises(InputError, match="even number of pipeline ranks"):
        build_schedule("dualpipe", 3, 120)


def test_equal_requests_share_one_schedule():
    assert build_schedule("dualpipe", 16, 120) is build_schedule("dualpipe", 16, 120)


def test_large_schedule_builds_quickly():
    """P = 64, m = 512 takes about 50 ms; the bound only catches a quadratic builder."""
    start = time.perf_counter()
    build_schedule.__wrapped__("dualpipe", 64, 512)
    assert time.perf_counter() - start < 2
