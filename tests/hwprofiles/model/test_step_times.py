"""A rehearsal without a GPU of what is timed on one: every recipe runs a step of the same model, and they agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hwprofiles.calibration import step_times
from hwprofiles.calibration.model.config import Layer, ModelConfig, Moe
from hwprofiles.calibration.model.optimizer import AdamW
from hwprofiles.yaml_file import read_yaml
from simulator.scenario.model_catalog import MODELS

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


def test_the_slice_has_the_widths_of_deepseek_v3() -> None:
    """Fewer layers, experts and tokens to choose from: nothing else."""
    whole = ModelConfig.of(read_yaml(MODELS / "deepseek-v3.yaml").data)
    dense, experts = step_times.SLICE.layers
    assert dense == whole.layers[0] and (step_times.SLICE.hidden_size, step_times.SLICE.num_mtp) == (
        whole.hidden_size,
        1,
    )
    assert isinstance(experts.ffn, Moe)
    routed = replace(experts.ffn, num_experts=256, weight_scale=1.0)
    assert Layer(experts.attention, routed) == whole.layers[-1]


def test_a_timed_step_moves_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[bool] = []
    step = AdamW.step

    def watched(optimizer: AdamW, rate: float | None = None) -> None:
        before = [weight.detach().clone() for weight in optimizer.parameters]
        step(optimizer, rate)
        moved.append(all(not torch.equal(*pair) for pair in zip(before, optimizer.parameters, strict=True)))

    monkeypatch.setattr(AdamW, "step", watched)
    step_times.measure("float32", step_times.SMALL, 16, torch.device("cpu"), 2)
    assert moved == [True] * (step_times.WARM_UP + 2)


def test_a_file_that_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_times, "measure", lambda *asked: pytest.fail("it measured"))
    assert step_times.main(["--small", "-o", str(tmp_path / "none" / "times.json")]) == 2
    assert "times.json" in capsys.readouterr().err


def test_without_a_gpu_the_slice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert step_times.main(["-o", str(tmp_path / "times.json")]) == 2
