"""Cluster sizes, each in its best layout: the table, its front, what is taken, and what is said where nothing fits."""

from __future__ import annotations

from functools import cache

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.results.document import to_document
from simulator.results.plan_table import PlanResult, PlanRow
from simulator.run.planner import fits_any
from simulator.run.planner.cluster_sizes import AskedSizes
from simulator.run.planner.sizes import (
    Limits,
    Planned,
    choice_of,
    front_of,
    nearest_to,
    plan_sizes,
    resized,
    trained_tokens,
)
from simulator.scenario.scenario import Scenario
from tests.run import planned as double

TOKENS = 1e12
ANY = Limits()


@cache
def scenario(*more: str) -> Scenario:
    return load_scenario(
        "mixtral-8x22b",
        ["cluster.num_gpus=256", "parallel.pp=4", f"phases=[{{name: pretrain, tokens: {TOKENS}}}]", *more],
    )


def plan(asked: AskedSizes = AskedSizes(), limits: Limits = ANY, *more: str) -> Planned:
    return plan_sizes(scenario(*more), asked, limits, double.plan_layout, double.fits_any)


def rows(*pairs: tuple[int, float]) -> list[PlanRow]:
    return [PlanRow(num_gpus=gpus, fits=True, step_s=step, days=step, cost_usd=step * gpus) for gpus, step in pairs]


def test_the_table_starts_at_the_smallest_and_holds_the_scenarios_own_size() -> None:
    sizes = [row.num_gpus for row in plan().result.rows]
    assert sizes[0] == plan().result.smallest_that_fits == double.SMALLEST
    assert scenario().cluster.num_gpus in sizes
    assert len(sizes) <= 6
    assert sizes == sorted(sizes)


def test_days_and_cost_follow_from_tokens_step_and_price() -> None:
    row = plan(AskedSizes(listed=(64,))).result.rows[0]
    tokens = scenario().training.global_batch_size * scenario().training.seq_len
    wall_s = TOKENS / tokens * double.step_s(64)
    assert row.days == pytest.approx(wall_s / 86_400)
    assert row.cost_usd == pytest.approx(wall_s / 3_600 * 64 * 2)


def test_padding_trains_nothing() -> None:
    half = plan(AskedSizes(listed=(64,)), ANY, "training.padding_fraction=0.5").result.rows[0]
    assert half.days == pytest.approx(2 * (plan(AskedSizes(listed=(64,))).result.rows[0].days or 0))


def test_a_size_without_a_layout_is_a_row_that_says_why() -> None:
    small, large = plan(AskedSizes(listed=(8, 64))).result.rows
    assert not small.fits
    assert small.why == "no layout fits on 8 GPUs"
    assert set(to_document(small)) == {"num_gpus", "fits", "why"}
    assert large.fits


def test_rejections_are_summed_over_the_sizes() -> None:
    assert plan(AskedSizes(listed=(8, 64, 128))).result.rejected == {"not legal": 100, "does not fit": 60}


def test_the_front_leaves_out_what_another_beats_in_both() -> None:
    table = rows((8, 10.0), (16, 6.0), (32, 6.5), (64, 2.0), (128, 2.0))
    assert front_of(table) == (0, 1, 3)
    assert front_of([*table, PlanRow(num_gpus=256, fits=False)]) == (0, 1, 3)
    assert front_of(rows((8, 1.0), (8, 1.0))) == (0, 1), "equals do not beat one another"


def test_of_nearly_equal_costs_the_fastest_is_taken() -> None:
    table = rows((8, 10.0), (16, 5.1), (32, 2.62), (64, 1.5))
    assert choice_of(table, ANY) == 2, "4.8 % above the least cost; 64 GPUs cost 20 % more"
    assert choice_of(table, Limits(days=2.0)) == 3
    assert choice_of(table, Limits(usd=82.0)) == 1
    assert choice_of(table, Limits(days=2.0, usd=82.0)) is None
    assert choice_of([PlanRow(num_gpus=8, fits=False)], ANY) is None


def test_the_nearest_to_limits_oversteps_them_least() -> None:
    table = rows((8, 10.0), (64, 1.5))
    assert nearest_to(table, Limits(days=1.0)) is table[1]
    assert nearest_to(table, Limits(usd=79.0)) is table[0]
    assert nearest_to(table, Limits(days=1.0, usd=1.0)) is table[0], "80 times the cost, 96 times on the other"


def test_days_that_the_table_does_not_meet_are_looked_for_on_more_gpus() -> None:
    most = plan().result.rows[-1]
    further = plan(limits=Limits(days=(most.days or 0) * 0.8)).result
    assert further.chosen is not None
    assert further.rows[further.chosen].num_gpus > most.num_gpus
    assert (further.rows[further.chosen].days or 0) <= (most.days or 0) * 0.8


def test_limits_that_nothing_meets_leave_the_choice_open() -> None:
    found = plan(limits=Limits(usd=1.0))
    assert found.scenario is None
    assert "chosen" not in to_document(found.result)
    assert "--max-usd" in found.result.rule


def test_the_taken_scenario_is_the_chosen_rows() -> None:
    found = plan()
    assert found.result.chosen is not None
    assert found.scenario is not None
    assert found.scenario.cluster.num_gpus == found.result.rows[found.result.chosen].num_gpus
    assert found.result.plan is not None
    assert found.at_own is not None
    assert found.at_own.cluster.num_gpus == scenario().cluster.num_gpus
    assert PlanResult.model_validate(to_document(found.result), strict=False) == found.result


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (AskedSizes(listed=(4, 8)), "fits on 4, 8 GPUs; the smallest that fits is 32"),
        (AskedSizes(ends=(8, 16)), "fits on 8 to 16 GPUs; the smallest that fits is 32"),
        (AskedSizes(ends=(1, 4)), "fits on 1 to 4 GPUs; the smallest that fits is 32"),
    ],
)
def test_where_nothing_fits_the_smallest_that_does_is_named(asked: AskedSizes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan(asked)


def test_no_degree_of_the_stated_layout_is_left_where_the_cluster_is_another() -> None:
    large = scenario("parallel.ep=8")
    small = resized(large, 2)
    assert (small.cluster.num_gpus, small.parallel.pp, small.parallel.ep) == (2, 1, 1)
    assert resized(large, 256) is large
    assert isinstance(fits_any(small), bool), "two GPUs are no pipeline of four"


def test_a_model_that_fits_nowhere_is_said_with_a_remedy() -> None:
    with pytest.raises(InputError, match=r"no layout of mixtral-8x22b fits on any number of GPUs up to 131,072; use"):
        plan_sizes(scenario(), AskedSizes(), ANY, double.plan_layout, lambda each: False)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(days=0.0), "--max-days: is no limit"),
        (Limits(days=float("nan")), "--max-days: is no limit"),
        (Limits(usd=float("inf")), "--max-usd: is no limit"),
        (Limits(usd=-1.0), "--max-usd: is no limit"),
    ],
)
def test_a_limit_is_a_positive_number(limits: Limits, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan(limits=limits)


def test_a_limit_needs_what_it_is_compared_with() -> None:
    no_price = load_scenario({"model": "mixtral-8x7b", "cluster": {"node": "h100-x8", "num_gpus": 64}})
    assert trained_tokens(no_price) is None
    for limits, said in ((Limits(days=1.0), "does not say how much is trained"), (Limits(usd=1.0), "how much")):
        with pytest.raises(InputError, match=said):
            plan_sizes(no_price, AskedSizes(), limits, double.plan_layout, double.fits_any)
    row = plan_sizes(no_price, AskedSizes(listed=(64,)), ANY, double.plan_layout, double.fits_any).result
    assert row.rows[0].days is None
    assert any("tokens/s" in note for note in row.notes)
