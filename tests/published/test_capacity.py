"""Rows whose recipe drops what exceeds an expert's capacity: every expert is as full as the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from validation.published.row import read_rows
from validation.published.state import state

ROWS = {
    row.text("case_id"): row for row in read_rows(Path(__file__).parents[2] / "validation/data/published_cases.csv")
}


@pytest.mark.parametrize(("case_id", "factor"), [("DGXC-085", 1.0), ("DGXC-086", 1.0), ("DGXC-096", None)])
def test_grok_drops_and_pads_to_capacity(case_id: str, factor: float | None) -> None:
    """NeMo's script for it has MegatronTokenDropCallback, that for DeepSeek-V3 has not."""
    scenario = state(ROWS[case_id]).scenario
    assert scenario is not None
    assert (scenario.moe.capacity_factor, scenario.moe.pad_to_capacity) == (factor, factor is not None)
