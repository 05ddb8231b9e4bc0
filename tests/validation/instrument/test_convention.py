"""FLOP that a table counts: the model's, or what is computed again too."""

from __future__ import annotations

import pytest

from tests.validation.instrument.test_prediction import SMALL
from validation.instrument.convention import counted_over_model
from validation.instrument.prediction import outcome
from validation.published.row import Row
from validation.published.state import state

TABLE = SMALL | {"tflops_per_gpu": "100", "recompute": "full", "notes": "TFLOPS COUNT recomputation (hardware FLOPs)"}


def test_a_figure_that_counts_recomputation_is_compared_with_all_passes() -> None:
    """A layer's four passes for three, the logits' three (arXiv:2104.04473 equation 3)."""
    scenario = state(Row(TABLE)).scenario
    assert scenario is not None
    logits = 6 * 1024 * 1024
    counted = counted_over_model(Row(TABLE), "tflops_per_gpu", scenario, 4.0 * logits)
    assert counted == pytest.approx((4 * 3 / 3 + 1) / 4)
    again, model = (outcome(Row(TABLE | {"notes": notes})).figure for notes in (TABLE["notes"], ""))
    assert again is not None and model is not None
    assert 1.2 < again.predicted / model.predicted < 4 / 3
    assert again.low / model.low == pytest.approx(again.predicted / model.predicted)
    assert again.high / model.high == pytest.approx(again.predicted / model.predicted)
    assert again.step_s == model.step_s


@pytest.mark.parametrize(
    "cells",
    [{"recompute": ""}, {"notes": "recomputation is not counted"}, {"step_time_s": "2.0"}],
)
def test_other_figures_are_the_models(cells: dict[str, str]) -> None:
    row = Row(TABLE | cells)
    scenario = state(row).scenario
    assert scenario is not None
    column = "step_time_s" if "step_time_s" in cells else "tflops_per_gpu"
    assert counted_over_model(row, column, scenario, 4e9) == 1.0
