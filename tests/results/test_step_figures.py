"""What a step's result tells, by hand: its middle rank, its fullest rank, what its parts sum to, what binds it."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.errors import InconsistentSimulation
from simulator.results import explain
from simulator.results.interval import Estimate
from simulator.results.step_memory import Memory
from simulator.results.step_result import RankTimes, StepTimes, parts_of
from tests.results.test_interval_ends import GRAPH, makespan
from tests.results.test_result_documents import TEXT, from_json, rank, stage


def test_the_middle_of_an_even_number_of_ranks_is_the_upper_one() -> None:
    """Rank num_ranks // 2, as the contract says: 2 of four."""
    ranks = [rank(place, forward_s=1.0 + place) for place in range(4)]
    assert parts_of(ranks).middle.forward_s == 3.0
    assert parts_of(ranks[:2]).middle.forward_s == 2.0


@pytest.mark.parametrize(("share", "is_sound"), [(1e-9, True), (1e-4, False), (-1e-4, False)])
def test_parts_may_miss_the_step_by_rounding_alone(share: float, is_sound: bool) -> None:
    step = from_json(TEXT).step
    fields = {name: getattr(step, name) for name in StepTimes.model_fields}
    first: RankTimes = step.by_rank[0]
    off = first.model_copy(update={"forward_s": first.forward_s + share * step.step_s})
    changed = fields | {"by_rank": (off, *step.by_rank[1:])}
    if is_sound:
        assert StepTimes(**changed).by_rank[0] == off
        return
    with pytest.raises(InconsistentSimulation, match="rank 0"):
        StepTimes(**changed)


def test_the_fullest_rank_is_that_of_the_highest_peak() -> None:
    """Not the one with the most of a single kind."""
    hungry = stage(0, 5).model_copy(update={"activations_bytes": 4})
    assert Memory.of(12, 10, [hungry, stage(1, 9)], Estimate.exact(0.0)).worst_stage.pp_rank == 1


def test_categories_sum_to_the_step() -> None:
    """3 and 2 s of compute in 6 s of actions leave 1 s of messages that nothing hides; 3 s of bubble, 1 s of optimizer."""
    work = explain.Busy({"gemm": 3.0, "attention": 2.0}, {})
    found = {each.category: (each.seconds, each.share) for each in explain.categories(work, 10.0, 6.0, 3.0, 1.0)}
    assert found == {
        "gemm": (3.0, 0.3), "attention": (2.0, 0.2), "exposed_communication": (1.0, 0.1), "bubble": (3.0, 0.3),
        "optimizer": (1.0, 0.1),
    }  # fmt: skip


def test_what_binds_most_comes_first_and_what_is_not_random_does_not_bind() -> None:
    """Free GEMMs gain 3 x 10 + 5 x 1 s, free messages 5 x 3, a free optimizer 2; unequal GPUs add 20, even loads nothing."""
    base = makespan(np.array([10.0, 4.0, 2.0]))
    found = explain.binding(GRAPH, makespan, base, {"expert_imbalance": 0.0, "speed_spread": 20.0})
    assert [(each.what, each.seconds) for each in found] == [
        ("gemm", 35.0), ("speed_spread", 20.0), ("all_to_all", 15.0), ("optimizer", 2.0),
    ]  # fmt: skip
