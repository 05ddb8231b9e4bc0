"""What if, how sure: phases with their intervals where there are several, and what moves the total."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from simulator.report import narrowing
from simulator.report.phase_section import table
from simulator.results.run_result import RunResult
from tests.dashboards.pages import texts
from tests.report.test_tornado import result, two


def shown(run: RunResult, is_first: bool = False) -> AppTest:
    """The part of the page for a result."""

    def part(
        run: object, is_first: bool
    ) -> None:  # its source is a script of its own: names of this file are not there
        from dashboards.widgets import sureness

        sureness.show(run, is_first=is_first)

    return AppTest.from_function(part, kwargs={"run": run, "is_first": is_first}, default_timeout=60.0).run()


def test_phases_stand_with_their_intervals_and_each_source_with_what_narrows_it() -> None:
    page = shown(two())
    assert not page.exception
    phases, sources = (frame.value for frame in page.dataframe)
    labels, rows = table(two())
    assert phases.values.tolist() == rows and list(phases.columns)[1:] == labels[1:]
    assert list(sources["What narrows it"]) == [narrowing.what_to_do(each.what) for each in narrowing.parts(two())[:3]]


@pytest.mark.parametrize("is_first", [True, False])
def test_one_phase_has_no_table_and_a_first_answer_no_picture(is_first: bool) -> None:
    page = shown(result(), is_first)
    assert len(page.dataframe) == (0 if is_first else 1)
    assert ("Follows with all draws." in texts(page)) == is_first
