"""Every model and preset of the catalogue loads, is named after its file, and has the parameters that are published."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.check import check_scenario
from simulator.errors import InputError
from simulator.scenario import derived
from simulator.scenario.layers import preset_names
from simulator.scenario.model_catalog import load_model, model_names
from simulator.workload.model_counts import count_parameters

# Published totals and activated parameters, in billions: model cards and technical reports.
PUBLISHED = {
    "deepseek-v2": (236, 21),
    "deepseek-v2-lite": (15.7, 2.4),
    "deepseek-v3": (671, 37),
    "gpt-oss-120b": (116.83, 5.13),
    "kimi-k2": (1026, 32),
    "llama-3.1-405b": (405.9, 405.9),
    "llama-3.1-70b": (70.6, 70.6),
    "llama-3.1-8b": (8.03, 8.03),
    "llama-4-maverick": (400, 17),
    "mixtral-8x22b": (141, 39),
    "mixtral-8x7b": (46.7, 12.9),
    "qwen3-235b-a22b": (235, 22),
    "qwen3-30b-a3b": (30.5, 3.3),
}
LEFT_OUT_BILLION = 0.3
"""Largest embedding that a published count of activated parameters leaves out, and rounding."""


def test_no_model_is_without_a_published_size() -> None:
    assert set(model_names()) == set(PUBLISHED)


@pytest.mark.parametrize("name", model_names())
def test_model_has_its_published_parameters(name: str) -> None:
    model = load_model(name)
    counts = count_parameters(model)
    total, active = PUBLISHED[name]
    assert model.name == name
    assert model.source
    assert counts.num_parameters / 1e9 == pytest.approx(total, rel=0.005)
    embedding = model.vocab_size * model.hidden_size / 1e9
    assert active - LEFT_OUT_BILLION <= counts.num_active_parameters / 1e9 <= active + embedding + LEFT_OUT_BILLION


@pytest.mark.parametrize("name", preset_names())
def test_preset_loads_without_objection(name: str) -> None:
    scenario = load_scenario(name)
    check_scenario(scenario)
    assert scenario.name == name
    assert scenario.warnings == ()


def test_deepseek_v3_plan() -> None:
    scenario = load_scenario("deepseek-v3")
    assert (derived.dp(scenario), derived.edp(scenario), derived.num_stages(scenario)) == (128, 2, 16)
    assert derived.num_micro_batches(scenario) == 120
    assert derived.num_micro_batches(scenario, 3072) == 24
    assert derived.is_grad_reduce_overlapped(scenario)
    assert derived.overlaps_pairs(scenario)


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean mixtral-8x22b"):
        load_model("mixtral-8x22")
