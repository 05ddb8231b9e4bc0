"""Eager steps of Hugging Face transformers from their configurations: time within 12 %, allocated memory within 5 %."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hwprofiles.library_models import MODELS
from simulator import load_scenario
from validation import library_steps
from validation.case import load_case
from validation.compare import compare_case

FIRST = Path(library_steps.__file__).parent / "data/library_predictions.csv"
CASE = load_case("library-qwen3-moe-2.7b-h200")


@pytest.fixture(scope="module")
def errors() -> dict[str, float]:
    return {row.quantity: row.error_frac for row in compare_case(CASE)}


def test_the_traced_step_is_met(errors: dict[str, float]) -> None:
    assert abs(errors["step.step_s"]) <= 0.12


def test_its_allocated_memory_is_met(errors: dict[str, float]) -> None:
    assert abs(errors["memory.allocated_bytes"]) <= 0.05 and errors["model.num_parameters"] == 0


def test_every_model_was_predicted_or_refused_before_it_was_measured() -> None:
    with FIRST.open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {model.name for model in MODELS}
    assert all((float(row["step_s"]) > 0) != bool(row["refused"]) for row in rows.values())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_configurations_become_scenarios(model: library_steps.LibraryModel) -> None:
    found = library_steps.model_of(model)
    experts = "moe" in found
    assert experts == (model.config["model_type"] not in ("llama", "qwen3"))
    assert load_scenario(library_steps.scenario_of(model, "h100-x8")).kernels.modules == "transformers"
