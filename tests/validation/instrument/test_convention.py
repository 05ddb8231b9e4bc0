"""FLOP that a table counts: the model's, or what is computed again too."""

from __future__ import annotations

import pytest

from hwprofiles.units import TERA
from simulator.results.step_result import FlopPerToken
from simulator.workload.model_counts import model_flop_per_token
from tests.validation.instrument.test_prediction import SMALL
from validation.instrument.convention import counted_over_model
from validation.instrument.prediction import outcome
from validation.published.eligible import CASES
from validation.published.row import Row, read_rows
from validation.published.state import state

TABLE = SMALL | {"tflops_per_gpu": "100", "recompute": "full", "notes": "TFLOPS COUNT recomputation (hardware FLOPs)"}


def test_a_figure_that_counts_recomputation_is_compared_with_all_passes() -> None:
    """A layer's four passes for three, the logits' three (arXiv:2104.04473 equation 3)."""
    scenario = state(Row(TABLE)).scenario
    assert scenario is not None
    logits = 6 * 1024 * 1024
    flop = FlopPerToken(causal=3.0 * logits, noncausal=4.0 * logits)
    counted = counted_over_model(Row(TABLE), "tflops_per_gpu", scenario, flop, None)
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
    assert counted_over_model(row, column, scenario, FlopPerToken(causal=3e9, noncausal=4e9), None) == 1.0


@pytest.mark.parametrize(
    ("release", "share"),
    [
        ("megatron-bridge@26.06", 0.75), ("megatron-core@modelzoo", 0.75), ("megatron-core@0.9", 0.75),
        ("megatron-core@0.8", 1.0), ("nemo@24.07", 1.0), (None, 1.0),
    ],
)  # fmt: skip
def test_newer_megatron_counts_half_of_attention(release: str | None, share: float) -> None:
    row = Row(SMALL | {"tflops_per_gpu": "100"})
    scenario = state(row).scenario
    assert scenario is not None
    flop = FlopPerToken(causal=3e9, noncausal=4e9)
    assert counted_over_model(row, "tflops_per_gpu", scenario, flop, release) == share
    assert counted_over_model(row, "step_time_s", scenario, flop, release) == 1.0


@pytest.mark.parametrize(
    ("case_id", "release"),
    [
        ("MBRIDGE-266", "megatron-bridge@25.09"), ("MBRIDGE-149", "megatron-bridge@26.04"),
        ("MOEZOO-001", "megatron-core@modelzoo"), ("NEMO2407-004", "nemo@24.07"), ("NEMO2407-008", "nemo@24.07"),
    ],
)  # fmt: skip
def test_the_convention_is_what_rows_that_print_both_speeds_say(case_id: str, release: str) -> None:
    """FLOP a token out of a row's TFLOP/s and tokens/s, against the model's."""
    row = next(row for row in read_rows(CASES) if row.text("case_id") == case_id)
    found = state(row)
    assert found.scenario is not None
    assert found.framework == release
    gpus, tflops = row.number("n_gpus"), row.number("tflops_per_gpu")
    step_s, tokens = row.number("step_time_s"), row.number("gbs")
    assert gpus and tflops and tokens
    speed = row.number("tokens_per_s_per_gpu") or tokens * (row.number("seq") or 0.0) / gpus / (step_s or 1.0)
    flop = model_flop_per_token(found.scenario.model, found.scenario.training.seq_len)
    told = FlopPerToken(causal=flop.causal, noncausal=flop.noncausal)
    counted = told.noncausal * counted_over_model(row, "tflops_per_gpu", found.scenario, told, release)
    assert tflops * TERA / speed == pytest.approx(counted, rel=0.02)
