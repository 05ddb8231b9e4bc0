"""The report answers its questions in order, fits the terminal, is plain where it must be, says what was computed."""

import io
import re
from pathlib import Path
from typing import Any

import pytest

from simulator.report import numbers
from simulator.report.console import print_run
from simulator.report.layout import BAR_WIDTH, bars, grid
from simulator.report.terminal import DEFAULT_WIDTH, MAX_WIDTH, MIN_WIDTH, columns_of
from simulator.results.document import to_document
from simulator.results.interval import Estimate, Interval
from simulator.results.run_result import BaseStack, RunResult, from_json
from simulator.results.step_result import AssumptionRow

RESULT = from_json((Path(__file__).parents[1] / "results" / "data" / "made_up_run.json").read_text())
WIDTHS = (60, 80, 100, 140)
SECTIONS = (
    "Memory",
    "Step",
    "Throughput",
    "What binds",
    "Collectives",
    "Run",
    "Assumptions that matter most",
    "Where the step time comes from",
    "Not modelled",
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report(result: RunResult = RESULT, width: int = DEFAULT_WIDTH) -> str:
    out = io.StringIO()
    print_run(result, out, width)
    return out.getvalue()


def changed(**sections: Any) -> RunResult:
    return RESULT.model_copy(update=sections)


def test_the_sections_stand_in_the_order_of_the_questions() -> None:
    lines = report().splitlines()
    places = [lines.index(title) for title in SECTIONS]
    assert places == sorted(places)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, report(width=width).splitlines())) <= width


@pytest.mark.parametrize(("asked", "given"), [(20, MIN_WIDTH), (1000, MAX_WIDTH)])
def test_widths_that_nobody_reads_are_bounded(asked: int, given: int) -> None:
    assert report(width=asked) == report(width=given)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_table_keeps_its_labels_at_every_width(width: int) -> None:
    lines = [line.split() for line in report(width=width).splitlines()]
    words = {word for line in lines for word in line}
    names = [each.category for each in sorted(RESULT.step.by_category, key=lambda each: -each.seconds)[:8]]
    labels = (
        "forward",
        "backward",
        "weights",
        "bubble",
        "optimizer",
        "step",
        "causal",
        "non-causal",
        "measured",
        "USD",
    )
    assert {word for name in (*names, *labels) for word in name.split()} <= words
    assert {"overlap.gemm.ratio", "routing.expert_skew_cv"} <= {line[0] for line in lines if line}
    assert "…" not in report(width=width).replace(", …", "")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_parts_of_a_rank_stand_under_its_name(width: int) -> None:
    """Every figure beside its own label: the table is turned where it is too wide."""
    ranks = {"rank 0": RESULT.step.parts.edge, "middle": RESULT.step.parts.middle, "mean": RESULT.step.parts.mean}
    assert len({part.model_dump_json() for part in ranks.values()}) == 3, "ranks that differ"
    text = report(width=width)
    table = text[text.index("in s ") :].splitlines()[:9]
    for label, part in ranks.items():
        expected = [f"{getattr(part, name):.2f}" for name in ("forward_s", "backward_s", "weight_s", "bubble_s")]
        if table[1].startswith(f"{'':2}rank 0"):
            row = next(line for line in table if line.strip().startswith(label))
            found = re.findall(r"\d+\.\d+", row)
            assert [found[place] for place in (0, 1, 2, 4)] == expected, label
        else:
            column = ["rank 0", "middle", "mean"].index(label)
            rows = [next(line for line in table if line.strip().startswith(w)) for w in TURNED]
            assert [re.findall(r"\d+\.\d+", row)[column] for row in rows] == expected, label


TURNED = ("forward", "backward", "weights", "bubble")


def test_it_is_one_screen_and_a_half_at_most() -> None:
    assert len(report().splitlines()) <= 90


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
    assert text.index("overlap.gemm.ratio") < text.index("routing.expert_skew_cv")


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
    assert b"15,360 x 4,096" in raw.getvalue()
    assert b"?" not in raw.getvalue()


def test_what_does_not_fit_says_by_how_much() -> None:
    memory = RESULT.memory.model_copy(update={"usable_bytes": 60 * 10**9, "fits": False, "verdict": "does not fit"})
    assert "does not fit, 6.50 GB (10.8 %) too much" in report(changed(memory=memory))


def test_between_the_ends_of_the_margin_a_plan_is_marginal() -> None:
    text = " ".join(report(changed(memory=RESULT.memory.model_copy(update={"verdict": "marginal"}))).split())
    assert "marginal, 12.5 GB (15.8 %) to spare" in text
    assert "it needs 65.8 GB to 83.1 GB of the device's 84.9 GB" in text


def test_a_step_without_a_range_says_so() -> None:
    step = RESULT.step.model_copy(update={"interval": RESULT.step.interval.exact(RESULT.step.step_s)})
    text = report(changed(step=step))
    assert "20.4 s (20.4 to 20.4)" in text
    assert "no width" in text


def test_nothing_is_said_of_what_was_not_computed() -> None:
    step = RESULT.step.model_copy(update={"exposed_comm_s": None, "binding": (), "by_category": (), "collectives": ()})
    totals = RESULT.totals.model_copy(update={"cost_usd": None})
    steady = RESULT.steady_state.model_copy(update={"cost_usd": None})
    phases = tuple(phase.model_copy(update={"ramp": None, "cost_usd": None}) for phase in RESULT.phases)
    scenario = RESULT.scenario | {"prices": None}
    assert "2.00 USD per GPU-hour" in report()
    text = report(
        changed(
            step=step,
            totals=totals,
            steady_state=steady,
            phases=phases,
            scenario=scenario,
            price=None,
            assumptions=(),
            not_modelled=(),
        )
    )
    for words in (
        "exposed communication",
        "What binds",
        "Collectives",
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


def test_the_headline_interval_is_the_documents() -> None:
    """Both ends, as they are written and as they are printed."""
    interval = to_document(RESULT)["step"]["interval"]
    assert interval == {"low": RESULT.step.interval.low, "high": RESULT.step.interval.high}
    line = next(line for line in report().splitlines() if "90 % interval in brackets" in line)
    found = re.findall(r"\d+\.\d+", line)[:3]
    assert found == [f"{value:.1f}" for value in (RESULT.step.step_s, interval["low"], interval["high"])]


@pytest.mark.parametrize("width", [8, 15, 24])
def test_a_bar_is_as_long_as_its_share_of_the_longest(width: int) -> None:
    shares = [0.02, 0.5, 0.1, 0.25]
    drawn = [bar.plain for bar in bars(shares, width)]
    assert drawn[1] == "█" * width
    assert drawn[3] == numbers.bar(0.5, width)
    for share, bar in zip(shares, drawn, strict=True):
        assert eighths(bar) == pytest.approx(share / 0.5 * width * 8, abs=0.5)


def eighths(bar: str) -> int:
    """Length of a bar in eighths of a letter."""
    return sum(8 if letter == "█" else " ▏▎▍▌▋▊▉".index(letter) for letter in bar)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_bars_of_the_report_are_to_scale(width: int) -> None:
    lines = report(width=width).partition("by category")[2].splitlines()
    ranked = sorted(RESULT.step.by_category, key=lambda each: -each.seconds)
    found = {
        each.category: next(line for line in lines if line.strip().startswith(f"{each.category} "))
        for each in ranked[:8]
    }
    drawn = {name: eighths(re.sub("[^█▏▎▍▌▋▊▉]", "", line)) for name, line in found.items()}
    longest = drawn[ranked[0].category]
    assert longest == 8 * BAR_WIDTH or width < 80
    for each in ranked[:8]:
        assert drawn[each.category] == pytest.approx(longest * each.seconds / ranked[0].seconds, abs=0.51)


def test_a_grid_that_is_too_wide_is_turned() -> None:
    headers, rows = ("in s", "one", "two"), [("a", "1", "2"), ("b", "3", "4")]

    def cells(width: int) -> list[list[str]]:
        return [list(map(str, column.cells)) for column in grid(width, headers, rows, ("", "")).columns]

    assert cells(14) == [["a", "b"], ["1", "3"], ["2", "4"]]
    assert cells(13) == [["one", "two"], ["1", "2"], ["3", "4"]]


def test_a_pipe_is_as_wide_as_columns_says(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    for given, expected in (("70", 70), ("", DEFAULT_WIDTH), ("wide", DEFAULT_WIDTH), ("0", DEFAULT_WIDTH)):
        monkeypatch.setenv("COLUMNS", given)
        assert columns_of(out) == expected
    monkeypatch.setenv("COLUMNS", "70")
    print_run(RESULT, out)
    assert out.getvalue() == report(width=70)


def test_a_ramp_that_the_phase_never_leaves_is_told_as_it_is() -> None:
    phase = RESULT.phases[0]
    assert phase.ramp is not None
    short = phase.model_copy(
        update={"ramp": phase.ramp.model_copy(update={"tokens": 1e11, "last_global_batch_size": 5888})}
    )
    text = " ".join(report(changed(phases=(short,))).split())
    assert "batch 3,072 to 5,888 over 100 B tokens" in text
    assert "the full batch of 15,360, whose step is above, is never run" in text
    assert "never run" not in " ".join(report().split())


def test_a_scenario_without_a_run_length_shows_its_step_and_how_to_give_one() -> None:
    phase = RESULT.phases[0].model_copy(update={"ramp": None, "steps": 1.0, "tokens": 6.3e7})
    totals = RESULT.totals.model_copy(update={"gpu_hours": Estimate(value=11.62, low=10.75, high=12.91)})
    text = report(changed(phases=(phase,), totals=totals))
    row = next(line for line in text.splitlines() if line.strip().startswith("one step"))
    assert "11.6 10.8 to 12.9" in " ".join(row.split())
    assert "--set 'phases=[{name: pretrain, tokens: 1e12}]'" in text
    assert "one step" not in report()


def test_only_assumptions_that_move_something_are_shown_and_the_others_counted() -> None:
    def row(key: str, high: float | None) -> AssumptionRow:
        effect = None if high is None else Interval(low=0.0, high=high)
        return AssumptionRow(key=key, value=1, low=0, high=2, source="x", effect_on_gpu_hours=effect)

    hours = RESULT.totals.gpu_hours.value
    rows = (row("strong", 0.1 * hours), row("hardly", 1e-6 * hours), row("still", 0.0), row("untold", None))
    text = " ".join(report(changed(assumptions=rows)).split())
    assert "strong 1 0 to 2 0.0 % to +10.0 %" in text
    assert "hardly 1" not in text
    assert "still 1" not in text
    assert "1 has no computed effect (untold): --set assumptions.KEY=VALUE shows it · 2 move nothing here" in text


def test_what_binds_says_that_its_seconds_are_a_what_if() -> None:
    lines = report().splitlines()
    assert "what the step would gain if this alone were free" in lines[lines.index("What binds") + 1]


def test_a_stack_of_another_kind_than_the_base_is_said_in_the_heading() -> None:
    base = BaseStack(scenario="deepseek-v3", stack="h800-deepseek-2024", stack_kind="measured")
    text = " ".join(
        report(changed(base=base, stack="h200-transfer", stack_kind="transferred")).split("Memory")[0].split()
    )
    assert (
        "stack h200-transfer, transferred: the datasheet and efficiencies pooled from GPUs of its family, else" in text
    )
    assert "(its GPU's default is h200-public)" in text
    assert "default is" not in report(changed(stack="h200-public", stack_kind="public"))
    assert "default is" not in report(changed(stack="of-another-release"))
    assert "deepseek-v3, which rests on h800-deepseek-2024, measured: they differ in kind, not only in hardware" in text
    assert "differ in kind" not in report(changed(base=base))


def test_the_heading_names_model_machines_and_fabric_and_what_was_dropped() -> None:
    dropped = ("moe.max_nodes_per_token 4, chosen for another model",)
    heading = report(changed(dropped=dropped)).split("Memory")[0]
    cluster, model = RESULT.scenario["cluster"], RESULT.scenario["model"]
    assert isinstance(cluster, dict) and isinstance(model, dict)
    assert f"model {model['name']}, " in heading
    assert f"GPUs in {cluster['node']} on {cluster['fabric']}" in heading
    assert "dropped: moe.max_nodes_per_token 4, chosen for another model" in heading
    assert "dropped" not in report()
