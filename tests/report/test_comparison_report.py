"""The comparison in terminal and Markdown: fits its place, names what it compares, says what can be said of the difference."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import pytest

from simulator.report.comparison_console import print_comparison
from simulator.report.comparison_markdown import MAX_LINES, document
from simulator.report.comparison_text import inputs, largest_parts, names, shown_results, step_change
from simulator.results.comparison import Comparison, StepDifference, compare
from simulator.results.run_result import RunResult
from tests.results.test_comparison import BASE, faster

HOSTILE = "a|b`<script>alert(1)</script> **x** @you [l](http://x) \x1b[31m"


def changed(values: Mapping[str, Any], factor: float = 0.9, **sections: Any) -> RunResult:
    """The made-up run with other values of its scenario: section → keys, or a value."""
    scenario = dict(BASE.scenario)
    for key, value in values.items():
        scenario[key] = {**scenario[key], **value} if isinstance(value, Mapping) else value
    return faster(factor, scenario=scenario, **sections)


def text_of(comparison: Comparison, width: int = 100) -> str:
    out = io.StringIO()
    print_comparison(comparison, out, width)
    return out.getvalue()


PLAN = compare(BASE, [changed({"parallel": {"schedule": "1f1b", "pp": 8}})])


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    many = compare(BASE, [changed({"name": "n" * 200, "model": {"name": "x" * 200}}), changed({"stack": "s" * 80})])
    for comparison in (PLAN, many):
        lines = text_of(comparison, width).splitlines()
        assert max(map(len, lines)) <= width
        assert any("step" in line and "-10.0 %" in line for line in lines)


def test_where_there_is_no_room_the_base_goes_and_no_change_is_cut() -> None:
    """A change of 1000 times, at the narrowest."""
    slower = BASE.step.model_copy(update={"optimizer_s": 1234.5678, "exposed_comm_s": 1e-7})
    totals = BASE.totals.model_copy(update={"gpu_hours_paid": BASE.totals.gpu_hours.times(1e6)})
    text = text_of(compare(BASE, [BASE.model_copy(update={"step": slower, "totals": totals})]), 60)
    changes = [row.change for row in shown_results(compare(BASE, [BASE.model_copy(update={"step": slower})]).others[0])]
    assert all(change in text for change in changes)
    assert "…" not in text


def test_inputs_results_and_difference_stand_in_their_order() -> None:
    lines = [" ".join(line.split()) for line in text_of(PLAN).splitlines()]
    titles = ["Changed inputs", "Changed results, the biggest effect first", "Where the step's difference comes from"]
    places = [lines.index(title) for title in titles]
    assert places == sorted(places)
    assert lines[0] == "made-up: pp 8, schedule 1f1b beside made-up"
    assert "parallel.schedule dualpipe → 1f1b" in lines
    assert "step 20.4 s (18.9 to 22.7 s) 18.4 s (17.0 to 20.4 s) -10.0 %" in lines
    assert any(line.startswith("grouped GEMM -790.0 ms █") for line in lines)


def test_the_difference_is_told_with_what_the_intervals_allow() -> None:
    """18.9 to 22.7 s beside 17.0 to 20.4 s share values, beside 15.1 to 18.2 s not."""
    same = step_change(PLAN, 0)
    assert same.startswith("The step takes 2.04 s less, 10.0 %. That is less than the uncertainty")
    assert "better known than either" in same
    stacks = step_change(compare(BASE, [faster(0.9, stack="h800-notrace")]), 0)
    assert "which is faster is not settled" in stacks
    assumed = faster(0.9, scenario=BASE.scenario | {"assumptions": {"x": 1.0}})
    assert "not settled" in step_change(compare(BASE, [assumed]), 0)
    assert step_change(compare(BASE, [faster(1.5)]), 0).endswith("more, 50.0 %. The 90 % intervals share no value.")
    assert step_change(compare(BASE, [BASE]), 0) == "The steps take the same time."


def test_runs_of_one_name_are_told_apart() -> None:
    other = changed({"name": "made-up (2)"})
    assert names(compare(BASE, [BASE, other, BASE])) == ("made-up", "made-up (2)", "made-up (2) (2)", "made-up (3)")


def test_runs_of_one_name_are_named_by_their_first_changes() -> None:
    one, three = changed({"parallel": {"pp": 8}}), changed({"parallel": {"pp": 8, "tp": 2, "schedule": "1f1b"}})
    found = names(compare(BASE, [one, three, one]))
    assert found == ("made-up", "made-up: pp 8", "made-up: tp 2, pp 8, …", "made-up: pp 8 (2)")


def test_slivers_of_a_difference_stand_together() -> None:
    """What is below two thousandths of the largest, and what comes after the number that is asked for."""
    parts = [
        StepDifference(category=name, seconds=each)
        for name, each in (("a", 2.0), ("b", -1.0), ("c", 0.003), ("d", -0.001))
    ]
    assert largest_parts(parts, 8) == [("a", 2.0), ("b", -1.0), ("2 smaller", pytest.approx(0.002))]
    assert largest_parts(parts, 1) == [("a", 2.0), ("3 smaller", pytest.approx(-0.998))]
    assert largest_parts([], 8) == []


def test_of_another_model_the_name_is_told_and_not_its_dimensions() -> None:
    first = BASE.model_copy(update={"scenario": BASE.scenario | {"model": {"name": "a", "num_layers": 4}}})
    other = BASE.model_copy(update={"scenario": BASE.scenario | {"model": {"name": "b", "num_layers": 8}}})
    assert inputs(compare(first, [other]).others[0]) == (("model.name", "a", "b"),)
    deeper = BASE.model_copy(update={"scenario": BASE.scenario | {"model": {"name": "a", "num_layers": 8}}})
    assert inputs(compare(first, [deeper]).others[0]) == (("model.num_layers", "4", "8"),)


def test_values_that_round_to_one_text_are_written_out() -> None:
    close = changed({"prices": {"usd_per_gpu_hour": 2.00001}})
    assert inputs(compare(BASE, [close]).others[0]) == (("prices.usd_per_gpu_hour", "2.0", "2.00001"),)


def test_better_and_sure_are_told_by_figure() -> None:
    rows = {row.key: row for row in shown_results(compare(BASE, [faster(0.5)]).others[0])}
    assert (rows["step.step_s"].is_better, rows["step.step_s"].is_sure) == (True, True)
    slower = BASE.step.model_copy(update={"tokens_per_s_per_gpu": 1000.0, "bubble_s": 3.0})
    rows = {row.key: row for row in shown_results(compare(BASE, [BASE.model_copy(update={"step": slower})]).others[0])}
    assert rows["step.tokens_per_s_per_gpu"].is_better is False
    assert (rows["step.bubble_s"].is_better, rows["step.bubble_s"].is_sure) == (False, None)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 19])
def test_markdown_has_at_most_sixty_lines(number: int) -> None:
    values = {f"key{place}": place for place in range(60)}
    other = changed({**values, "name": HOSTILE}, 0.5, version="9.9.9", stack="x-transfer", stack_kind="transferred")
    text = document(compare(BASE, [other] * number))
    assert len(text.splitlines()) <= MAX_LINES
    assert "differ in kind" in text
    assert text.endswith("moesim 0.1.0, 9.9.9</sub>\n")


def test_markdown_tells_inputs_results_and_the_step() -> None:
    text = document(PLAN)
    assert "**Changed:** `parallel.pp` `16` → `8`; `parallel.schedule` `dualpipe` → `1f1b`" in text
    assert re.search(r"^\| step \| 20\.4 s .*\| 18\.4 s .*\| \*\*-10\.0 %\*\* \|$", text, re.MULTILINE)
    assert "Of it: grouped GEMM -790 ms, dense GEMM -410 ms" in text
    four = document(compare(BASE, [faster(0.9)] * 4))
    assert "| `made-up (5)` | 18.4 s **-10.0 %** | same | same | same | same |" in four


def test_texts_of_scenarios_stay_texts_in_markdown() -> None:
    text = document(compare(BASE, [changed({"name": HOSTILE, "parallel": {"schedule": HOSTILE}})]))
    outside = re.sub(r"(`+)[^`].*?\1", "", text)
    assert "<script>" not in outside
    assert "\x1b" not in text


def test_texts_of_scenarios_do_not_steer_the_terminal() -> None:
    assert "\x1b" not in text_of(compare(BASE, [changed({"name": HOSTILE, "parallel": {"schedule": HOSTILE}})]))
