"""Rows whose recipe drops what exceeds an expert's capacity: every expert is as full as the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from validation.published.row import read_rows
from validation.published.state import state

ROWS = {
    row.text("case_id"): row for row in read_rows(Path(__file__).parents[2] / "validation/data/published_cases.csv")
}


@pytest.mark.parametrize(
    ("case_id", "factor"), [("DGXC-085", 1.0), ("DGXC-086", 1.0), ("DGXC-096", 1.0), ("DGXC-100", None)]
)
def test_grok_and_deepseek_drop_and_pad_to_capacity(case_id: str, factor: float | None) -> None:
    """NeMo 7a8f1cc: its script and that of DeepSeek-V3 have MegatronTokenDropCallback, that of Llama 4 has not."""
    scenario = state(ROWS[case_id]).scenario
    assert scenario is not None
    assert (scenario.moe.capacity_factor, scenario.moe.pad_to_capacity) == (factor, factor is not None)
