"""Report: A preview and a download of the report in every format."""

from __future__ import annotations

from typing import Final

import streamlit as st

from dashboards import jobs
from dashboards.answers import Answer
from dashboards.source import Source
from dashboards.widgets.answering import answered, refine
from dashboards.widgets.asked import asked_under
from dashboards.widgets.blocks import show_block
from dashboards.widgets.metrics import Metric, metrics
from dashboards.widgets.problems import as_text
from dashboards.widgets.waiting import value_of
from dashboards.work import report as work
from simulator.report.formats import FORMATS, ReportFormat, file_name
from simulator.report.headline import figures
from simulator.report.html.blocks import Page
from simulator.results.document import to_json
from simulator.results.run_result import RunResult

NUM_FIGURES: Final = 5
FILE_WAIT_S: Final = 120.0
SECTION: Final = "report-section"
WORDS: Final = {
    "html": "one page with pictures: opens offline, prints",
    "xlsx": "a workbook whose totals are formulas",
    "csv": "every figure, a line each",
    "md": "short, for a pull request",
    "json": "the result document, for programs",
}


def show() -> None:
    """Lay the page out."""
    asked = asked_under("Report")
    if asked is None:
        return
    source, _ = asked
    answer = answered(source)
    if answer is None:
        return
    if not answer.is_whole or answer.result is None:
        _show_first(answer)
        refine([answer], "Simulating the run")
        return
    result, document = answer.result, to_json(answer.result)
    st.subheader("Download", divider="gray")
    for column, name in zip(st.columns(len(FORMATS)), sorted(FORMATS, key=_place), strict=True):
        with column:
            _download(FORMATS[name], source, result, document)
    st.subheader("Preview", divider="gray")
    page = value_of(jobs.of(work.preview, source, document), "Making the report")
    if isinstance(page, Page):
        _preview(page)


def _show_first(answer: Answer) -> None:
    """The first figures, while the whole run is simulated."""
    if answer.result is not None and answer.is_first:
        st.caption(f"First answer from {answer.draws} of {answer.all_draws} draws, refining: the files hold all draws.")
        shown = figures(answer.result)
        metrics([Metric(each.label, each.value, help=each.range) for each in shown[:NUM_FIGURES]])


def _place(name: str) -> int:
    return list(WORDS).index(name) if name in WORDS else len(WORDS)


def _download(made: ReportFormat, source: Source, result: RunResult, document: str) -> None:
    """A button whose file a worker makes when it is clicked."""

    def content() -> bytes:
        job = jobs.of(work.file, source, document, made.name)
        job.wait(FILE_WAIT_S)
        if job.state != "done":
            raise RuntimeError(f"the {made.name} report was not made")
        return bytes(job.value)

    st.download_button(
        made.name.upper() if made.name != "md" else "Markdown",
        content,
        file_name=file_name(str(result.scenario.get("name", "")), made.suffix),
        mime=made.media_type,
        on_click="ignore",
        key=f"download-{made.name}",
        width="stretch",
    )
    st.caption(as_text(WORDS.get(made.name, "")))


def _preview(page: Page) -> None:
    """One section of the HTML report at a time."""
    sections = {each.key: each for chapter in page.chapters for each in chapter.sections}
    chosen = st.pills(
        "Section of the HTML report", list(sections), default=next(iter(sections)), key=SECTION,
        format_func=lambda key: sections[key].title, label_visibility="collapsed",
    )  # fmt: skip
    for block in sections[chosen if chosen in sections else next(iter(sections))].blocks:
        show_block(block)
