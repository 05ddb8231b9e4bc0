"""What users read of the presets changes only with a commit that says why (`python -m tests.expected`)."""

from __future__ import annotations

import json

import pytest

from tests.expected.figures import FILE, PRESETS, figures_of

ROUNDING = 1e-9
"""Relative: sums in another order on another machine."""


@pytest.mark.parametrize("preset", PRESETS)
def test_figures_are_the_committed_ones(preset: str) -> None:
    committed, found = json.loads(FILE.read_text())[preset], figures_of(preset)
    assert sorted(found) == sorted(committed)
    wrong = {
        name: (committed[name], value)
        for name, value in found.items()
        if value != pytest.approx(committed[name], rel=ROUNDING, abs=ROUNDING * found["step_s"])
    }
    assert wrong == {}


def test_every_preset_is_committed() -> None:
    assert sorted(json.loads(FILE.read_text())) == sorted(PRESETS)
