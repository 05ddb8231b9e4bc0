"""What is said of the method's accuracy: errors of the speed, coverage, the worst and the nearest of the measured runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.report.accuracy import (
    Accuracy,
    AccuracyRow,
    accuracy_of,
    chosen,
    family,
    nearest,
    read_accuracy,
    speeds,
    worst,
)
from simulator.report.accuracy_text import figure, headline, like_words, shown
from validation.published.eligible import eligible


def row(
    case: str = "a", quantity: str = "step.tokens_per_s_per_gpu", predicted: float = 120.0, measured: float = 100.0,
    gpu: str = "h100", model: str = "Mixtral-8x7B", group: str = "published", stack: str = "s",
) -> AccuracyRow:  # fmt: skip
    return AccuracyRow(
        case, stack, "step", gpu, model, group, quantity, predicted, 0.9 * predicted, 1.1 * predicted, measured,
        predicted / measured - 1, "somewhere", "",
    )  # fmt: skip


def test_the_file_that_is_shipped_holds_cases_and_published_runs() -> None:
    rows = read_accuracy()
    assert {each.group for each in rows} == {"case", "published"}
    published = {each.case for each in rows if each.group == "published"}
    assert published <= eligible(), "rows that count"
    assert len(published) > 0.99 * len(eligible()), "but for those that give no speed"
    for each in rows:
        assert each.low <= each.predicted <= each.high
        assert each.error_frac == pytest.approx(each.predicted / each.measured - 1, rel=1e-3, abs=1e-5)
        assert each.source


def test_what_a_published_total_contains_stands_beside_it() -> None:
    (note,) = {each.note for each in read_accuracy() if each.quantity == "steady_state.gpu_hours"}
    assert all(words in note for words in ("no batch ramp", "no failures", "context extension", "post-training"))


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.csv"
    path.write_text("case,stack\n")
    with pytest.raises(ValueError, match="columns case, stack"):
        read_accuracy(path)


@pytest.mark.parametrize(
    ("quantity", "error"),
    [
        ("step.tokens_per_s_per_gpu", 0.25), ("step.tflops.noncausal", 0.25), ("step.mfu.bf16_dense_causal", 0.25),
        ("step.step_s", -0.2), ("steady_state.gpu_hours", -0.2), ("trace.pair_s", -0.2),
    ],
)  # fmt: skip
def test_errors_are_those_of_the_speed(quantity: str, error: float) -> None:
    """A predicted time of 125 % is a speed of 80 %."""
    assert row(quantity=quantity, predicted=125.0).speed_error_frac == pytest.approx(error)


def test_the_summary_is_that_of_its_rows() -> None:
    rows = [row(predicted=105.0), row(predicted=80.0), row(predicted=160.0)]
    found = accuracy_of(rows)
    assert found is not None
    assert (found.n, found.mape, found.median, found.bias, found.coverage) == pytest.approx(
        (3, (0.05 + 0.2 + 0.6) / 3, 0.2, (0.05 - 0.2 + 0.6) / 3, 1 / 3)
    )
    assert accuracy_of([]) is None


def test_a_run_counts_once_by_its_most_direct_figure() -> None:
    rows = [row(quantity=quantity) for quantity in ("step.tflops.causal", "step.step_s", "step.tokens_per_s_per_gpu")]
    rows += [row(quantity="trace.pair_s"), row(stack="t", quantity="step.mfu.bf16_dense_noncausal")]
    assert [(each.stack, each.quantity) for each in speeds(rows)] == [
        ("s", "step.step_s"), ("t", "step.mfu.bf16_dense_noncausal"),
    ]  # fmt: skip


def test_the_choice_is_by_gpu_family_and_group() -> None:
    rows = [row("a"), row("b", gpu="b200"), row("c", model="mixtral-8x22b"), row("d", group="case", model="Llama-3-8B")]
    assert [each.case for each in chosen(rows)] == ["a", "b", "c", "d"]
    assert [each.case for each in chosen(rows, gpus=["h100"], models=["mixtral"])] == ["a", "c"]
    assert [each.case for each in chosen(rows, group="case")] == ["d"]


def test_the_worst_are_the_farthest_off_either_way() -> None:
    """A third of the speed is worse than twice the speed."""
    rows = [row("twice", predicted=200.0), row("third", predicted=100 / 3), row("right", predicted=100.0)]
    assert [each.case for each in worst(rows, 2)] == ["third", "twice"]


def test_the_nearest_share_family_and_gpu_then_family_then_gpu() -> None:
    rows = [
        row("gpu", model="Llama-3-8B"), row("neither", gpu="b200", model="Llama-3-8B"), row("family", gpu="b200"), row("both"),
    ]  # fmt: skip
    assert [each.case for each in nearest(rows, "h100", "mixtral-8x22b")] == ["both", "family", "gpu"]


def test_of_those_alike_the_same_model_comes_first() -> None:
    rows = [row("other size", model="Mixtral-8x7B"), row("same", model="Mixtral-8x22B")]
    assert [each.case for each in nearest(rows, "h100", "mixtral-8x22b")] == ["same", "other size"]


def test_what_is_alike_is_told_by_how_much() -> None:
    rows = [
        row("a", predicted=110.0),
        row("b", predicted=130.0),
        row("c", gpu="b200", predicted=200.0),
        row("d", model="x"),
    ]
    words = like_words(rows, "h100", "mixtral-8x22b")
    assert words == (
        "Same GPU and family: 2 runs, speed off by 20 % on average, 50 % inside the 90 % interval; same family, other GPUs: "
        "1 run, speed off by 100 % on average, 0 % inside the 90 % interval; same GPU, other families: 1 run, speed off by "
        "20 % on average, 0 % inside the 90 % interval."
    )
    assert like_words([], "h100", "m") == ""


def test_families_are_first_words() -> None:
    assert {family(name) for name in ("DeepSeek-V3", "deepseek-v2-lite")} == {"deepseek"}
    assert family("GPT-OSS-120B") == "gpt"
    assert family("70B") == "70b"


@pytest.mark.parametrize(
    ("quantity", "value", "text"),
    [
        ("step.step_s", 19.1077, "19.1 s"), ("step.mfu.bf16_dense_causal", 0.4068, "40.7 %"),
        ("step.tokens_per_s_per_gpu", 1607.73, "1,608"), ("steady_state.gpu_hours", 2.557e6, "2.56 M"),
        ("steady_state.cost_usd", 5.114e6, "5.11 M USD"),
    ],
)  # fmt: skip
def test_a_figure_is_written_under_its_quantity(quantity: str, value: float, text: str) -> None:
    assert figure(quantity, value, value / 10) == text


def test_the_headline_says_how_far_off_and_how_far_to_trust_the_interval() -> None:
    size, trust = headline(Accuracy(228, 0.26, 0.17, 0.20, 0.74))
    assert "228 measured runs" in size
    assert "off by 26 % on average, in half of them by less than 17 %" in size
    assert size.endswith("predictions are 20 % too fast on average.")
    assert trust == "74 % of them lie inside our 90 % interval: trust the interval less than it says."
    size, trust = headline(Accuracy(8, 0.1, 0.1, -0.1, 0.9))
    assert size.endswith("10 % too slow on average.")
    assert trust.endswith("it holds what it says.")
    size, trust = headline(Accuracy(1, 0.01, 0.01, 0.01, 1.0))
    assert size.startswith("1 measured run was")
    assert size.endswith("neither too fast nor too slow on the whole.")
    assert trust.endswith("more than it says.")


def test_a_row_in_texts_has_the_digits_of_its_interval() -> None:
    found = shown(row(predicted=1234.2, measured=1000.0))
    assert (found.predicted, found.interval, found.measured, found.error) == (
        "1,234",
        "1,111 to 1,358",
        "1,000",
        "+23.4 %",
    )
    assert found.figure == "tokens/s/GPU"
