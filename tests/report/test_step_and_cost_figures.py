"""Tables and pictures of the step and the run: what they draw is what the result says, and adds up."""

from __future__ import annotations

import json
from math import fsum, isclose

import pytest

from simulator import load_scenario
from simulator.report import contents, facts, headline, numbers
from simulator.report.figures import cost as cost_figures
from simulator.report.figures import step as step_figures
from simulator.report.figures.literal import literal
from simulator.report.frames import cost as cost_frames
from simulator.report.frames import step as step_frames
from simulator.report.html.charts import as_script_data, chart, figure_of
from simulator.report.inputs import all_inputs, from_preset
from simulator.report.theme import PAGES
from tests.report.made import SMALL, small_item
from tests.report.test_console import RESULT, changed

STEP = RESULT.step


def test_categories_stand_end_to_end_and_fill_the_step() -> None:
    step = small_item().result.step
    frame = step_frames.categories(step)
    assert isclose(fsum(frame["seconds"]), step.step_s, rel_tol=1e-6)
    assert isclose(fsum(frame["share"]), 1.0, rel_tol=1e-6)
    ends = list(frame["begin_s"] + frame["seconds"])
    assert frame["begin_s"].iloc[0] == 0
    assert ends[:-1] == pytest.approx(list(frame["begin_s"])[1:])
    bars = step_figures.waterfall(step).data[0]
    assert list(bars.x)[:-1] == sorted(bars.x[:-1], reverse=True)
    assert list(bars.base)[1:-1] == pytest.approx([fsum(bars.x[: place + 1]) for place in range(len(bars.x) - 2)])
    assert (bars.base[-1], bars.x[-1]) == (0.0, step.step_s)


def test_the_parts_of_every_rank_stack_up_to_the_step() -> None:
    frame = step_frames.parts(STEP)
    sums = frame.groupby("pp_rank")["seconds"].sum()
    assert list(sums.index) == [rank.pp_rank for rank in STEP.by_rank]
    assert sums.to_numpy() == pytest.approx(STEP.step_s, rel=1e-6)
    figure = step_figures.parts_by_rank(STEP)
    assert fsum(trace.y[0] for trace in figure.data) == pytest.approx(STEP.step_s, rel=1e-6)
    assert [trace.name for trace in figure.data] == [facts.PART_WORDS[name] for name in dict.fromkeys(frame["part"])]


def test_what_binds_is_drawn_strongest_first() -> None:
    bars = step_figures.binding(STEP).data[0]
    assert list(bars.x) == sorted((each.seconds for each in STEP.binding), reverse=True)[: len(bars.x)]
    assert numbers.seconds(max(bars.x)) in step_figures.binding_alt(STEP)


def test_an_effect_is_a_share_of_the_hours() -> None:
    frame = cost_frames.effects(RESULT)
    row = frame.iloc[0]
    of = next(each for each in RESULT.assumptions if each.key == row["assumption"])
    assert of.effect_on_gpu_hours is not None
    assert row["low_frac"] * RESULT.totals.gpu_hours.value == pytest.approx(of.effect_on_gpu_hours.low)
    assert row["high_frac"] * RESULT.totals.gpu_hours.value == pytest.approx(of.effect_on_gpu_hours.high)
    sizes = [max(abs(low), abs(high)) for low, high in zip(frame["low_frac"], frame["high_frac"], strict=True)]
    assert sizes == sorted(sizes, reverse=True)
    assert [list(trace.x) for trace in cost_figures.effects(RESULT).data] == [
        list(frame["low_frac"][:8]), list(frame["high_frac"][:8]),
    ]  # fmt: skip


def test_the_ramp_is_drawn_through_the_simulated_sizes() -> None:
    phase = RESULT.phases[0]
    assert phase.ramp is not None
    drawn = {(x, y) for trace in cost_figures.ramp(phase).data for x, y in zip(trace.x, trace.y, strict=True)}
    assert drawn == {(point.global_batch_size, point.step_s) for point in phase.ramp.points}
    assert cost_frames.ramp(phase.model_copy(update={"ramp": None})).empty


def test_phases_are_drawn_with_their_hours() -> None:
    two = changed(phases=(RESULT.phases[0], RESULT.phases[0].model_copy(update={"name": "<b>", "gpu_hours": 5.0})))
    bars = cost_figures.phases(two).data[0]
    assert list(bars.x) == [RESULT.phases[0].gpu_hours, 5.0]
    assert bars.y[1] == "2. &lt;b&gt;"
    assert list(cost_frames.phases(two)["gpu_hours"]) == list(bars.x)


def test_a_total_at_full_batch_has_no_ramp_in_it() -> None:
    rows = {row[0]: row[1:] for row in contents.rows(RESULT)}
    assert rows["GPU-hours"] == ("2.75 M", "2.73 M")
    assert rows["the first phase's ramp of the batch"] == (contents.IN, contents.OUT)
    plain = changed(phases=tuple(phase.model_copy(update={"ramp": None}) for phase in RESULT.phases))
    found = {row[0]: row[1] for row in contents.rows(plain)}
    assert found["the first phase's ramp of the batch"] == "there is none"
    free = changed(totals=RESULT.totals.model_copy(update={"cost_usd": None}))
    assert "cost" not in {row[0] for row in contents.rows(free)}


def test_the_memory_s_range_is_the_fullest_rank_s_with_both_margins() -> None:
    used = RESULT.memory
    low, high = (
        numbers.amount_of_bytes(used.worst_stage.peak_bytes * (1 + end)) for end in (used.margin.low, used.margin.high)
    )
    assert headline.memory(RESULT).range == f"needs {low} to {high} of {numbers.amount_of_bytes(used.capacity_bytes)}"


def test_inputs_say_what_differs_from_the_nearest_preset() -> None:
    result = small_item().result
    found = from_preset(result)
    assert found is not None
    assert found.preset == "mixtral-8x22b"
    assert [row[0] for row in found.rows] == [option.partition("=")[0] for option in (SMALL[1], SMALL[0])]
    rows = {row.key: row for row in all_inputs(result)}
    assert not rows["draws"].is_default
    assert rows["seed"].is_default
    assert rows["mechanisms.imbalance"].is_default
    assert rows["parallel.pp"].value == str(load_scenario("mixtral-8x22b").parallel.pp)
    strange = result.model_copy(update={"scenario": {**result.scenario, "model": {"name": "x", "hidden_size": 3}}})
    assert from_preset(strange) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a<br>b", "a&lt;br&gt;b"),
        ("<a href='https://example.com'>x</a>", "&lt;a href='https://example.com'&gt;x&lt;/a&gt;"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("a\n\u202eb", "a��b"),
        ("x" * 60, "x" * 39 + "…"),
    ],
)
def test_a_label_is_shown_as_it_is(text: str, label: str) -> None:
    assert literal(text) == label


def test_a_dark_page_s_figure_comes_out_of_its_block_again() -> None:
    block = chart("k", "c", "alt", lambda mode: step_figures.waterfall(STEP, mode))
    for mode in ("light", "dark"):
        assert figure_of(block, mode) == step_figures.waterfall(STEP, mode)
        assert figure_of(block, mode).layout.font.color == PAGES[mode].text


def test_data_of_a_picture_cannot_end_their_script_element() -> None:
    texts = ["</script>", "<!--", "&amp;", "a\u2028b\u2029c"]
    shown = str(as_script_data(texts))
    assert not set("<>&\u2028\u2029") & set(shown)
    assert json.loads(shown) == texts
