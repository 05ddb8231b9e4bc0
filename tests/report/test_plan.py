"""What is said and drawn of a plan: every size in the table, the front as a line, each of its marks in words."""

from __future__ import annotations

from simulator.report import plan_words
from simulator.report.figures.plan import front_alt, front_figure, has_front
from simulator.report.frames.plan import sizes_shown
from simulator.results.plan_table import PlanResult, PlanRow

ROWS = (
    PlanRow(num_gpus=8, fits=False, why="no layout fits on 8 GPUs"),
    PlanRow(
        num_gpus=64, fits=True, layout="ep8", margin_bytes=5e9, step_s=10.0, days=100.0, cost_usd=3e5, binds="kernels"
    ),
    PlanRow(num_gpus=128, fits=True, layout="ep16", margin_bytes=6e9, step_s=5.5, days=55.0, cost_usd=3.3e5),
    PlanRow(num_gpus=256, fits=True, layout="ep16 pp2", margin_bytes=7e9, step_s=6.0, days=60.0, cost_usd=7.2e5),
)
RESULT = PlanResult(scenario="mine", rows=ROWS, smallest_that_fits=48, front=(1, 2), chosen=1, rule="the cheapest")


def test_a_row_a_size_with_its_mark() -> None:
    frame = sizes_shown(RESULT)
    assert list(frame["GPUs"]) == ["8", "64", "128", "256"]
    assert list(frame[" "]) == ["", "taken", "front", ""]
    assert frame["what binds"][0] == "no layout fits on 8 GPUs"
    assert list(frame.loc[1])[2:7] == ["yes, 5.00 GB", "10.0 s", "–", "100", "300 K"]


def test_the_smallest_cluster_is_named_whether_it_was_planned_or_not() -> None:
    assert plan_words.smallest(RESULT) == "48 GPUs are the smallest cluster that fits"
    planned = RESULT.model_copy(update={"smallest_that_fits": 64})
    assert plan_words.smallest(planned) == "64 GPUs are the smallest cluster that fits: ep8, 5.00 GB a GPU free"


def test_the_front_is_a_line_and_what_is_beaten_stands_beside_it() -> None:
    front, beaten = front_figure(RESULT).data
    assert list(front.x) == [100.0, 55.0] and list(front.y) == [3e5, 3.3e5] and front.mode.startswith("lines")
    assert list(beaten.x) == [60.0] and beaten.mode.startswith("markers")
    assert front.marker.size[0] > front.marker.size[1], "the one that is taken"
    assert "64 GPUs: 100 days, 300 K USD, ep8; 128 GPUs" in front_alt(RESULT)
    assert has_front(RESULT)


def test_without_days_there_is_nothing_to_draw() -> None:
    rows = tuple(row.model_copy(update={"days": None, "cost_usd": None}) for row in ROWS)
    bare = RESULT.model_copy(update={"rows": rows})
    assert not has_front(bare)
    assert "tokens/s" in plan_words.taken(bare)
