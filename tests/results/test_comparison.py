"""What a comparison says of two runs: what differs and nothing else, parts that add up, and when the two are unlike in kind."""

from __future__ import annotations

import json
from math import fsum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.results.changes import changed_inputs
from simulator.results.compared_figures import FIGURES, changed_results
from simulator.results.comparison import UNEXPLAINED, Beside, compare, step_difference
from simulator.results.document import to_document, to_json
from simulator.results.interval import Estimate, Interval
from simulator.results.run_result import RunResult, from_json
from simulator.results.step_result import CategoryTime, StepTimes

BASE = from_json((Path(__file__).parent / "data" / "made_up_run.json").read_text())
CATEGORIES = ("gemm", "attention", "bubble", "optimizer", "made up")


def step_of(step_s: float, seconds: dict[str, float], **changes: Any) -> StepTimes:
    """The made-up step with another time and other categories, its interval as wide as before."""
    factor = step_s / BASE.step.step_s
    rows = tuple(CategoryTime(category=name, seconds=each, share=0.0) for name, each in seconds.items())
    interval = Interval(low=BASE.step.interval.low * factor, high=BASE.step.interval.high * factor)
    return BASE.step.model_copy(update={"step_s": step_s, "by_category": rows, "interval": interval, **changes})


def faster(factor: float, **changes: Any) -> RunResult:
    """The made-up run with a step of `factor` times the seconds."""
    seconds = {each.category: each.seconds * factor for each in BASE.step.by_category}
    step = step_of(BASE.step.step_s * factor, seconds)
    return BASE.model_copy(update={"step": step, **changes})


def beside(other: RunResult) -> Beside:
    return compare(BASE, [other]).others[0]


def test_the_same_run_twice_differs_in_nothing() -> None:
    found = beside(BASE)
    assert (found.changed, found.results, found.step_difference, found.warnings) == ((), (), (), ())


def test_every_run_beside_the_base_is_told_in_order() -> None:
    runs = [faster(0.9, scenario=BASE.scenario | {"name": name}) for name in ("b", "a")]
    found = compare(BASE, runs)
    assert (found.base, [each.scenario for each in found.others]) == ("made-up", ["b", "a"])
    assert [each.scenario for each in found.runs] == ["made-up", "b", "a"]
    with pytest.raises(ValueError, match="beside"):
        compare(BASE, [])


def test_the_document_has_the_keys_of_the_contract() -> None:
    other = faster(0.9, scenario=BASE.scenario | {"stack": "h800-notrace"})
    document = json.loads(to_json(compare(BASE, [other])))
    assert list(document) == ["base", "others", "runs"]
    (found,) = document["others"]
    assert list(found) == ["scenario", "changed", "results", "step_difference", "warnings"]
    assert found["changed"] == [{"key": "stack", "from": "h800-deepseek-2024", "to": "h800-notrace"}]
    assert {"key", "from", "to"} <= set(found["results"][0])
    assert set(found["step_difference"][0]) == {"category", "seconds"}


def test_inputs_are_told_by_key_and_phases_by_name() -> None:
    first: dict[str, Any] = {
        "name": "a", "cluster": {"num_gpus": 8, "node": "n"}, "parallel": {"layers_per_stage": None, "flag": True},
        "phases": [{"name": "one", "tokens": 5.0}, {"name": "two", "tokens": 6.0}],
        "modules": ["x", "y"],
    }  # fmt: skip
    second: dict[str, Any] = {
        "name": "b", "cluster": {"num_gpus": 16, "node": "n"}, "parallel": {"layers_per_stage": [1, 2], "flag": 1},
        "phases": [{"name": "two", "tokens": 6.0}, {"name": "three", "tokens": 7.0}],
        "modules": ["y", "x"],
    }  # fmt: skip
    found = to_document(changed_inputs(first, second))
    assert found == [
        {"key": "cluster.num_gpus", "from": 8, "to": 16},
        {"key": "parallel.layers_per_stage", "to": [1, 2]},
        {"key": "parallel.flag", "from": True, "to": 1},
        {"key": "phases.one.tokens", "from": 5.0},
        {"key": "modules", "from": ["x", "y"], "to": ["y", "x"]},
        {"key": "phases.three.tokens", "to": 7.0},
    ]


def test_a_list_whose_names_are_not_its_own_is_one_value() -> None:
    same = [{"name": "a", "x": 1}, {"name": "a", "x": 2}]
    (found,) = changed_inputs({"list": same}, {"list": same[::-1]})
    assert (found.key, found.from_) == ("list", same)


seconds = st.dictionaries(st.sampled_from(CATEGORIES), st.floats(0.0, 100.0), min_size=1)


@given(seconds, seconds)
def test_the_parts_of_a_difference_add_up_to_it(before: dict[str, float], after: dict[str, float]) -> None:
    one, two = (step_of(fsum(each.values()) + 1e-3, {**each, "rest": 1e-3}) for each in (before, after))
    parts = step_difference(one, two)
    assert fsum(part.seconds for part in parts) == pytest.approx(two.step_s - one.step_s, abs=1e-9)
    assert UNEXPLAINED not in {part.category for part in parts}
    sizes = [abs(part.seconds) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert 0.0 not in sizes


def test_a_category_of_one_side_alone_counts_in_full() -> None:
    parts = step_difference(step_of(3.0, {"gemm": 2.0, "bubble": 1.0}), step_of(4.5, {"gemm": 1.5, "attention": 3.0}))
    assert {part.category: part.seconds for part in parts} == {"attention": 3.0, "bubble": -1.0, "gemm": -0.5}


def test_what_categories_leave_of_a_difference_is_told() -> None:
    """Those of the made-up result sum to the step; here they do not."""
    parts = step_difference(step_of(10.0, {"gemm": 10.0}), step_of(12.0, {"gemm": 10.5}))
    assert {part.category: part.seconds for part in parts} == {UNEXPLAINED: 1.5, "gemm": 0.5}


def test_results_are_told_by_effect() -> None:
    memory = BASE.memory.model_copy(update={"verdict": "does not fit"})
    other = faster(0.8, memory=memory)
    other = other.model_copy(update={"step": other.step.model_copy(update={"bubble_s": BASE.step.bubble_s / 100})})
    found = changed_results(BASE, other)
    assert [row.key for row in found] == ["memory.verdict", "step.step_s", "step.bubble_s"]
    assert found[1].relative == pytest.approx(-0.2)
    assert found[0].relative is None


def test_a_figure_of_one_side_alone_is_absent_on_the_other() -> None:
    totals = BASE.totals.model_copy(update={"cost_usd": None})
    rows = {row["key"]: row for row in to_document(changed_results(BASE, BASE.model_copy(update={"totals": totals})))}
    assert set(rows) == {"totals.cost_usd", "totals.cost_usd_per_trillion_tokens"}
    assert "to" not in rows["totals.cost_usd"]
    assert "intervals_overlap" not in rows["totals.cost_usd"]


def test_cost_per_trillion_tokens_is_the_quotient_of_the_totals() -> None:
    of = FIGURES["totals.cost_usd_per_trillion_tokens"].of
    found, tokens = of(BASE), fsum(phase.tokens for phase in BASE.phases)
    assert isinstance(found, Estimate)
    assert BASE.totals.cost_usd is not None
    assert found.value == pytest.approx(BASE.totals.cost_usd.value / tokens * 1e12)
    assert found.high == pytest.approx(BASE.totals.cost_usd.high / tokens * 1e12)


def test_rates_have_the_interval_of_the_step_turned_round() -> None:
    found = FIGURES["step.tokens_per_s_per_gpu"].of(BASE)
    assert isinstance(found, Estimate)
    tokens = BASE.step.tokens_per_s_per_gpu * BASE.step.step_s
    assert found.low == pytest.approx(tokens / BASE.step.interval.high)
    assert found.high == pytest.approx(tokens / BASE.step.interval.low)


@pytest.mark.parametrize(("factor", "overlap"), [(0.9, True), (1.1, True), (0.8, False), (1.25, False)])
def test_whether_intervals_share_a_value_is_said(factor: float, overlap: bool) -> None:
    """The made-up step is 18.9 to 22.7 s: at 0.8 times 15.1 to 18.2."""
    row = next(row for row in beside(faster(factor)).results if row.key == "step.step_s")
    assert row.intervals_overlap is overlap


def test_stacks_of_another_kind_are_warned_of() -> None:
    (warning,) = beside(faster(0.9, stack="h200-transfer", stack_kind="transferred")).warnings
    assert "h200-transfer (transferred" in warning
    assert "differ in kind" in warning
    assert beside(faster(0.9, stack="h800-notrace")).warnings == ()


def test_other_models_and_other_runs_compare_per_token() -> None:
    model = faster(0.9, scenario=BASE.scenario | {"model": {"name": "deepseek-v2"}})
    assert "the models differ" in beside(model).warnings[0]
    half = faster(
        0.9, phases=(BASE.phases[0].model_copy(update={"tokens": BASE.phases[0].tokens / 2}), *BASE.phases[1:])
    )
    assert [("numbers of tokens" in text) for text in beside(half).warnings] == [True]
    step = BASE.step.model_copy(update={"tokens_per_step": 2 * BASE.step.tokens_per_step})
    assert "a step has other" in beside(BASE.model_copy(update={"step": step})).warnings[0]


def test_other_versions_are_warned_of() -> None:
    assert beside(faster(0.9, version="0.3.0")).warnings == (
        "made by versions 0.1.0 and 0.3.0: figures as each of them computed",
    )
