"""The report answers its questions in order, fits the terminal, is plain where it must be, says what was computed."""

import io
from pathlib import Path
from typing import Any

import pytest

from simulator.report.console import MAX_WIDTH, print_run
from simulator.results.run_result import RunResult, from_json

RESULT = from_json((Path(__file__).parents[1] / "results" / "data" / "made_up_run.json").read_text())
SECTIONS = (
    "Memory",
    "Step",
    "Throughput",
    "What binds",
    "Run",
    "Assumptions that matter most",
    "Where the step time comes from",
    "Not modelled",
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report(result: RunResult = RESULT, width: int = MAX_WIDTH) -> str:
    out = io.StringIO()
    print_run(result, out, width)
    return out.getvalue()


def changed(**sections: Any) -> RunResult:
    return RESULT.model_copy(update=sections)


def test_the_sections_stand_in_the_order_of_the_questions() -> None:
    lines = report().splitlines()
    places = [lines.index(title) for title in SECTIONS]
    assert places == sorted(places)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, report(width=width).splitlines())) <= min(width, MAX_WIDTH)


def test_it_is_one_screen_and_a_half_at_most() -> None:
    assert len(report().splitlines()) <= 72


def test_the_numbers_of_the_document_are_there() -> None:
    text = report()
    for words in (
        "fits, 12.5 GB (15.8 %) to spare: 66.5 GB of 79.0 GB usable on the fullest rank, 2",
        "20.4 s (18.9 to 22.7)",
        "1,506 tokens/s/GPU",
        "38.1 %",
        "42.8 %",
        "MTP left out of both",
        "184 K GPU-hours per trillion tokens",
        "at 2.00 USD per GPU-hour",
        "no failures, checkpoints",
        "batch 3,072 to 15,360 over 469 B tokens",
    ):
        assert words in " ".join(text.split()), words


def test_strongest_first() -> None:
    text = report()
    assert text.index("FP8 grouped GEMMs") < text.index("pipeline bubble ") < text.index("dense layers paired")
    assert text.index("overlap.gemm.ratio") < text.index("routing.expert_skew_cv") < text.index("host.launch_s")


def test_plain_text_into_a_pipe_and_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in report()
    out = Terminal()
    print_run(RESULT, out, 100)
    assert "\x1b[1;36m" in out.getvalue()


def test_no_color_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    print_run(RESULT, out, 100)
    assert not any(f"\x1b[{colour}m" in out.getvalue() for colour in ("36", "1;36", "32", "1;32", "31"))


def test_an_output_that_knows_only_ascii_gets_ascii() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    print_run(RESULT, out, 100)
    out.flush()
    assert b"####" in raw.getvalue()
    assert b"4.50 us" in raw.getvalue()
    assert b"?" not in raw.getvalue()


def test_what_does_not_fit_says_by_how_much() -> None:
    memory = RESULT.memory.model_copy(update={"usable_bytes": 60 * 10**9, "fits": False})
    assert "does not fit, 6.50 GB (10.8 %) too much" in report(changed(memory=memory))


def test_a_step_without_a_range_says_so() -> None:
    step = RESULT.step.model_copy(update={"interval": RESULT.step.interval.exact(RESULT.step.step_s)})
    text = report(changed(step=step))
    assert "20.4 s (20.4 to 20.4)" in text
    assert "no width" in text


def test_nothing_is_said_of_what_was_not_computed() -> None:
    step = RESULT.step.model_copy(update={"exposed_comm_s": None, "binding": (), "by_category": ()})
    totals = RESULT.totals.model_copy(update={"cost_usd": None})
    steady = RESULT.steady_state.model_copy(update={"cost_usd": None})
    phases = tuple(phase.model_copy(update={"ramp": None, "cost_usd": None}) for phase in RESULT.phases)
    scenario = RESULT.scenario | {"prices": None}
    text = report(
        changed(
            step=step,
            totals=totals,
            steady_state=steady,
            phases=phases,
            scenario=scenario,
            assumptions=(),
            not_modelled=(),
        )
    )
    for words in (
        "exposed communication",
        "What binds",
        "by category",
        "USD",
        "ramp",
        "Assumptions",
        "Not modelled",
        "None",
    ):
        assert words not in text


def test_a_model_without_mtp_does_not_speak_of_it() -> None:
    assert "MTP" not in report(changed(model=RESULT.model.model_copy(update={"num_mtp_parameters": 0})))


def test_names_are_text_and_never_steer_the_terminal() -> None:
    text = report(changed(scenario=RESULT.scenario | {"name": "[red]x[/red] \x1b[2J :smile: 训练"}))
    assert "[red]x[/red] " in text
    assert ":smile: 训练" in text
    assert "\x1b" not in text


def test_a_short_step_is_shown_in_milliseconds() -> None:
    step = RESULT.step.model_copy(update={"step_s": 0.5, "interval": RESULT.step.interval.exact(0.5)})
    assert "in ms" in report(changed(step=step))
