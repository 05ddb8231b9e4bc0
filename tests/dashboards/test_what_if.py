"""What if: figures are the command line's, each control sets its key, what cannot be is explained and mended."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from dashboards.keys import BY_NAME
from dashboards.pool import Inline
from simulator import load_scenario, simulate_run
from simulator.report import headline
from tests.dashboards.pages import opened, texts

SMALL = {"preset": "mixtral-8x22b", "draws": "1", "batch": "32", "pp": "2", "gpus": "16", "tokens": "1e9"}
OVERRIDES = [
    f"{BY_NAME[name].path}={text}".replace("{first}", "pretrain") for name, text in SMALL.items() if name != "preset"
]


def figures(page: AppTest) -> dict[str, str]:
    return {each.label: each.value for each in page.metric}


def plain(text: str) -> str:
    return text.replace("\\", "")


def test_figures_are_those_of_the_command_line(inline_jobs: Inline) -> None:
    page = opened(**SMALL)
    assert not page.exception
    expected = headline.figures(simulate_run(load_scenario("mixtral-8x22b", OVERRIDES)))
    shown = {plain(label): plain(value) for label, value in figures(page).items()}
    assert shown == {each.label: each.value for each in expected if each.key != "memory"}
    said = plain(texts(page))
    for each in expected:
        assert each.range in said
    verdict = next(each for each in expected if each.key == "memory")
    alerts = [plain(each.value) for kind in (page.success, page.warning, page.error) for each in kind]
    assert any(verdict.note in alert and verdict.value.capitalize() in alert for alert in alerts)
