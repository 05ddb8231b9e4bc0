"""A rehearsal without a GPU of what is timed on one: every recipe runs a step of the same model, and they agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwprofiles.calibration import step_times

PARTS = {"step", "attention", "dense_ffn", "moe_ffn", "moe_layer", "norm"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("times") / "times.json"
    assert step_times.main(["--small", "-o", str(out)]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_every_part_is_timed_in_every_recipe(measured: Any) -> None:
    assert {(row["recipe"], row["part"]) for row in measured["rows"]} == {
        (recipe, part) for recipe in step_times.RECIPES for part in PARTS
    }
    for row in measured["rows"]:
        for what in ("forward", "backward"):
            assert 0 < row[f"{what}_low_s"] <= row[f"{what}_s"] <= row[f"{what}_high_s"]


def test_the_recipes_train_the_same_model(measured: Any) -> None:
    """FP8's three bits of mantissa: losses within a thousandth, gradients within a tenth, and not the very same."""
    for compared in measured["compared"][1:]:
        assert 0 < compared["loss_rel"] < 1e-3
        assert 1e-3 < compared["gradient_rel"] < 0.1


def test_without_a_gpu_the_slice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert step_times.main(["-o", str(tmp_path / "times.json")]) == 2
