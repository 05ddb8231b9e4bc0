"""Made-up predictions beside made-up figures: signs, ranges and what a summary counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.assembly.chunks import Segment
from simulator.assembly.template import Template
from validation.case import Case, Group, Quantity
from validation.compare import Row, compare_case, lookup, summary
from validation.trace_pair import makespan

GROUP = Group(model="m", gpu="g", framework="f", release="r", precision="p", num_gpus=8)


def row(predicted: float, measured: float, quantity: str = "step.step_s", reading: str = "edge", **ends: float) -> Row:
    low, high = ends.get("low", predicted), ends.get("high", predicted)
    return Row("c", "s", GROUP, quantity, reading, predicted, low, high, measured, "made up")


def test_an_error_is_positive_where_more_is_predicted() -> None:
    assert row(1.1, 1.0).error_frac == pytest.approx(0.1)
    assert row(0.8, 1.0).error_frac == pytest.approx(-0.2)


def test_a_summary_is_over_times_read_on_the_edge_rank() -> None:
    """Mean and median size 0.2 and 0.2, bias (0.1 - 0.2 - 0.3) / 3; one of three intervals holds the measured figure."""
    rows = [
        row(1.1, 1.0, low=0.9, high=1.2),
        row(0.8, 1.0, "step.parts.edge.forward_s", low=0.7, high=0.9),
        row(0.7, 1.0, "step.parts.edge.bubble_s", low=0.6, high=0.8),
        row(9.0, 1.0, "step.parts.mean.bubble_s", "mean"),
        row(9.0, 1.0, "step.mfu.bf16_dense_causal"),
    ]
    stats = summary(rows)
    assert (stats["n"], stats["eligible"]) == (5, 3)
    assert (stats["mape"], stats["median"], stats["p90"]) == pytest.approx((0.2, 0.2, 0.3))
    assert stats["bias"] == pytest.approx(-0.4 / 3)
    assert stats["coverage_90"] == pytest.approx(1 / 3)
    assert stats["by_group"] == [{"stack": "s", "step_error_frac": pytest.approx(0.1)}]


def test_each_stack_has_its_own_error_of_the_step() -> None:
    rows = [replace(row(1.0 + error, 1.0), stack=stack) for stack, error in (("one", 0.1), ("other", -0.2))]
    assert summary(rows)["by_group"] == [
        {"stack": "one", "step_error_frac": pytest.approx(0.1)},
        {"stack": "other", "step_error_frac": pytest.approx(-0.2)},
    ]


def test_the_median_is_the_middle_size_and_the_bias_keeps_the_signs() -> None:
    """Sizes 0.1, 0.2 and 0.6: median 0.2, mean 0.3; with their signs, +0.1 - 0.2 - 0.6, the mean is -0.7 / 3."""
    stats = summary([row(1.1, 1.0), row(0.8, 1.0), row(0.4, 1.0)])
    assert (stats["mape"], stats["median"], stats["bias"]) == pytest.approx((0.3, 0.2, -0.7 / 3))


def test_nothing_to_summarise_has_no_errors() -> None:
    stats = summary([row(1.0, 1.0, "step.mfu.bf16_dense_causal")])
    assert stats == {"n": 1, "eligible": 0, "by_group": []}


def test_ranges_are_the_step_s_and_inverted_for_rates() -> None:
    """A real case of a small dense model: seconds scale with the step's interval, rates with its inverse, counts not."""
    names = ("step.step_s", "step.optimizer_s", "step.tokens_per_s_per_gpu", "step.mfu.bf16_dense_causal")
    counts = ("model.num_parameters", "step.model_flop_per_token.causal")
    quantities = tuple(Quantity(quantity=name, measured=1.0, source="made up") for name in (*names, *counts))
    case = Case(
        case_id="c", scenario="llama-3.1-70b", stacks=("h100-transfer",), group=GROUP, quantities=quantities
    )  # fmt: skip
    by_name = {found.quantity: found for found in compare_case(case)}
    step = by_name["step.step_s"]
    low, high = step.low / step.predicted, step.high / step.predicted
    assert low < 1.0 < high
    for name in names[1:]:
        ends = (by_name[name].low / by_name[name].predicted, by_name[name].high / by_name[name].predicted)
        assert ends == pytest.approx((low, high) if name.endswith("optimizer_s") else (1.0 / high, 1.0 / low)), name
    for name in counts:
        assert by_name[name].low == by_name[name].predicted == by_name[name].high


def test_a_path_is_looked_up_key_by_key() -> None:
    assert lookup({"a": {"b": 3}}, "a.b") == 3.0
    with pytest.raises(KeyError):
        lookup({"a": {"b": 3}}, "a.c")


def test_the_pair_alone_is_its_longest_path() -> None:
    """Two kernels of one stream follow each other (1 + 2 s); a message beside them waits for the first (1 + 5 s)."""
    t = Template()

    def put(stream: int, seconds: float, preds: list[int]) -> int:
        return t.put("op", Segment(seconds, seconds / 2, seconds * 2), stream, preds, "", "F", 0)[0]

    first = put(0, 1.0, [])
    put(0, 2.0, [])
    assert makespan(t) == 3.0
    put(1, 5.0, [first])
    assert (makespan(t), makespan(t, "low"), makespan(t, "high")) == (6.0, 3.0, 12.0)
    put(0, 0.5, [])
    assert makespan(t) == 6.0, "what is placed last may end before the message"
