"""Page 7: the report of what is asked for, previewed, and in every format the bytes that the command writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards.source import Source
from dashboards.work import report as work
from simulator import load_scenario
from simulator.cli.app import main
from simulator.report import items
from simulator.report.formats import FORMATS, file_name
from simulator.report.headline import figures
from simulator.results.document import to_json
from simulator.run.training_run import simulate_run
from tests.dashboards.inline import Inline
from tests.dashboards.pages import opened, texts

SMALL = {"preset": "mixtral-8x22b", "draws": "1", "batch": "128"}
OPTIONS = ("draws=1", "training.global_batch_size=128")


def test_the_page_offers_every_format_and_previews_section_by_section(inline_jobs: Inline) -> None:
    page = opened("report", **SMALL)
    assert not page.exception
    assert len(page.get("download_button")) == len(FORMATS)
    result = simulate_run(load_scenario("mixtral-8x22b", OPTIONS))
    shown = texts(page).replace("\\", "").replace("\u00a0", " ")
    for words in ("Does it fit?", "What would change it?", *(each.value for each in figures(result)[:3])):
        assert words in shown, words
    sections = {"time": 3, "memory": 1, "accuracy": 0}
    for key, charts in sections.items():
        page.button_group[0].set_value(key).run()
        assert not page.exception, key
        assert len(page.get("plotly_chart")) >= charts
        assert page.dataframe, key


def test_a_file_is_what_the_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("mixtral-8x22b", None, OPTIONS)
    result = simulate_run(source.load())
    document = to_json(result)
    again = iter((simulate_run,))  # simulated anew for the first format alone: that takes a while
    monkeypatch.setattr(items, "simulate_run", lambda scenario: next(again, lambda _: result)(scenario))
    for name in FORMATS:
        out = tmp_path / f"report{FORMATS[name].suffix}"
        assert main(["report", "mixtral-8x22b", *(f"--set={option}" for option in OPTIONS), "-o", str(out)]) == 0
        assert work.file(source, document, name) == out.read_bytes(), name


def test_a_scenario_that_is_none_has_problems_and_no_files(inline_jobs: Inline) -> None:
    page = opened("report", **{**SMALL, "pp": "13"})
    assert not page.exception
    assert page.error
    assert not page.get("download_button")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deepseek-v3", "moesim-deepseek-v3.md"),
        ("../../etc/passwd", "moesim-etc-passwd.md"),
        ("con\\aux:nul", "moesim-con-aux-nul.md"),
        ("…", "moesim-report.md"),
        ("a" * 300, f"moesim-{'a' * 60}.md"),
        ("<b>x</b>\r\n", "moesim-b-x-b.md"),
    ],
)
def test_a_file_s_name_is_safe(name: str, expected: str) -> None:
    assert file_name(name, ".md") == expected
