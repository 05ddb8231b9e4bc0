"""What moves the total, drawn: ends are those of the ranges, the joint interval is the total's, and every report has it."""

from __future__ import annotations

import pytest

from simulator.report.figures import tornado as figures
from simulator.report.formats import FORMATS, ReportItem
from simulator.report.frames import cost as frames
from simulator.report.markdown import MAX_LINES
from simulator.report.phase_section import table
from simulator.results.interval import Interval
from simulator.results.run_result import PhaseResult, RunResult
from simulator.results.step_result import RangePart
from tests.report.test_console import RESULT, changed

PARTS = (
    RangePart(what="run.unrecorded", low=-0.13, high=0.15, at_low=-0.13, at_high=0.15),
    RangePart(what="routing_concentration", low=-0.01, high=0.03, at_low=0.03, at_high=-0.01),
    RangePart(what="<b>", low=0.0, high=0.02),
    RangePart(what="gemm", low=-1e-4, high=1e-4, at_low=-1e-4, at_high=1e-4),
)


def result(*phases: PhaseResult) -> RunResult:
    """With these parts of its interval, and phases where they are given."""
    totals = RESULT.totals.model_copy(update={"ranges": PARTS})
    return changed(totals=totals, **({"phases": phases} if phases else {}))


def two() -> RunResult:
    """Two phases, the second with an interval of its own."""
    first = RESULT.phases[0]
    wall = Interval(low=first.wall_s * 0.5, high=first.wall_s * 2.0)
    return result(first, first.model_copy(update={"name": "<b>", "wall_interval": wall, "gpu_hours": 1000.0}))


def test_a_source_has_a_bar_at_each_end_and_what_is_printed_as_nothing_has_none() -> None:
    frame = frames.ranges(result())
    assert list(frame["what"]) == ["run.unrecorded", "routing_concentration", "<b>"]
    assert list(frame["at_low_frac"]) == [-0.13, 0.03, 0.0] and list(frame["at_high_frac"]) == [0.15, -0.01, 0.02]
    joint, low, high = figures.tornado(result()).data
    assert list(low.x) == list(frame["at_low_frac"]) and list(high.x) == list(frame["at_high_frac"])
    assert list(low.y) == ["run.unrecorded", "routing_concentration", "&lt;b&gt;"]
    total = RESULT.totals.gpu_hours
    assert joint.base[0] == pytest.approx(total.low / total.value - 1.0)
    assert joint.base[0] + joint.x[0] == pytest.approx(total.high / total.value - 1.0)


def test_the_words_say_the_same() -> None:
    alt = figures.tornado_alt(result())
    assert (
        "how far runs of the same inputs are apart -13.0 % at its low end and +15.0 % at its high end"
        in alt.replace("\N{MINUS SIGN}", "-")
    )


def test_ranges_of_the_step_stand_for_a_total_that_tells_none() -> None:
    step = RESULT.step.model_copy(update={"ranges": PARTS[:1]})
    plain = changed(step=step, totals=RESULT.totals.model_copy(update={"ranges": None}))
    assert list(frames.ranges(plain)["what"]) == ["run.unrecorded"]


def test_an_older_document_has_no_section() -> None:
    older = changed(
        step=RESULT.step.model_copy(update={"ranges": None}), totals=RESULT.totals.model_copy(update={"ranges": None})
    )
    assert frames.ranges(older).empty
    assert 'id="ranges"' not in FORMATS["html"].render([ReportItem(older, None)]).decode()


def test_html_and_markdown_tell_phases_with_intervals_and_what_moves_the_total() -> None:
    item = ReportItem(two(), None)
    page = FORMATS["html"].render([item]).decode()
    assert 'id="ranges-tornado-plot"' in page and "&lt;b&gt;" in page and "(0.50 to 2.00 K)" in page
    many = two().model_copy(update={"phases": two().phases * 5})
    assert len(FORMATS["md"].render([ReportItem(many, None)]).decode().splitlines()) <= MAX_LINES
    text = FORMATS["md"].render([item]).decode()
    assert "2 phases" in text and "0.50 to 2.00 K" in text and "all phases" in text
    assert "1. How far runs of the same inputs are apart" in text


def test_the_table_of_phases_has_a_cell_under_every_header() -> None:
    labels, rows = table(two())
    assert len(rows) == 3 and {len(row) for row in rows} == {len(labels)}
    assert rows[1][labels.index("90 % interval")] == "0.50 to 2.00 K"
