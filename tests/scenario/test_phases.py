"""Phases that train otherwise than the scenario around them: merging, the difference that they keep, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulator import load_scenario
from simulator.check import check_scenario
from simulator.errors import InputError
from simulator.scenario.phase_scenarios import is_to_plan, own_scenarios, phase_scenario
from simulator.scenario.scenario import Scenario

CONTEXT = {"name": "context", "steps": 10, "seq_len": 8192, "global_batch_size": 64}
SMALL: dict[str, Any] = {
    "name": "small",
    "model": "qwen3-30b-a3b",
    "cluster": {"node": "h100-x8", "num_gpus": 64},
    "parallel": {"pp": 2, "ep": 8, "layers_per_stage": [24, 24]},
    "training": {"global_batch_size": 128},
    "precision": "fp8-blockwise",
}


def small(*phases: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {**SMALL, **keys, "phases": [{"name": "pretrain", "tokens": 1e9}, *phases]}


def load(*phases: dict[str, Any], options: tuple[str, ...] = ()) -> Scenario:
    return load_scenario(small(*phases), options)


def problems(*phases: dict[str, Any], options: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InputError) as raised:
        load(*phases, options=options)
    return [f"{each.field}: {each.message}" for each in raised.value.problems]


def test_a_phase_that_says_nothing_of_its_own_trains_the_scenario() -> None:
    scenario = load({"name": "more", "steps": 5, "parallel": None, "seq_len": None})
    assert own_scenarios(scenario) == (scenario, scenario)
    assert "parallel" not in scenario.canonical()["phases"][1]


def test_a_phase_trains_the_scenario_with_its_own_keys() -> None:
    scenario = load({**CONTEXT, "parallel": {"pp": 4}})
    trained = phase_scenario(scenario, 1)
    alone = small(parallel={"pp": 4, "ep": 8}, training={"global_batch_size": 64, "seq_len": 8192})
    assert trained == load_scenario({**alone, "phases": [{"name": "context", "steps": 10}]})
    assert phase_scenario(scenario, 0).training == scenario.training
    assert scenario.parallel.layers_per_stage == (24, 24)  # chosen for two stages: the phase has four
    assert trained.parallel.layers_per_stage is None


@pytest.mark.parametrize(
    "keys",
    [
        {"parallel": {"pp": 4}},
        {"parallel": {"pp": 1, "schedule": "1f1b"}},
        {"parallel": {"pp": 4, "layers_per_stage": [12, 12, 12, 12]}},
        {"precision": "bf16"},
        {"precision": "bf16", "recompute": "full"},
        {"recompute": {"granularity": "selective", "modules": ["attention"]}},
        {"cluster": {"node": "h200-x8"}},
        {"cluster": {"num_gpus": 128}, "prices": {"usd_per_gpu_hour": 3}},
        {"model": "mixtral-8x7b", "parallel": {"layers_per_stage": None}},
        {"model": {"num_layers": 24}, "parallel": {"layers_per_stage": [12, 12]}},
        {"training": {"packing": {"mean_tokens": 900, "cv": 1}}},
        {"moe": {"balance": {"load_imbalance": 1.3}}},
        {"framework": "megatron-core@0.9"},
    ],
    ids=lambda keys: "-".join(keys),
)
def test_the_canonical_form_gives_the_same_scenarios_again(keys: dict[str, Any]) -> None:
    scenario = load({**CONTEXT, **keys})
    again = load_scenario(scenario.canonical())
    assert again == scenario
    copy = scenario.model_copy()  # a copy has no files behind it
    assert phase_scenario(scenario, 1) == phase_scenario(again, 1) == phase_scenario(copy, 1)
    assert phase_scenario(scenario, 1) != scenario


def test_a_copy_with_other_keys_has_other_phases() -> None:
    scenario = load(CONTEXT)
    assert phase_scenario(scenario, 1).draws == 32
    assert phase_scenario(scenario.model_copy(update={"draws": 3}), 1).draws == 3
    assert phase_scenario(scenario, 1).draws == 32


def test_an_option_changes_a_key_of_a_phase_and_drops_what_was_chosen_for_the_old_one() -> None:
    phase = {**CONTEXT, "parallel": {"pp": 4, "layers_per_stage": [12, 12, 12, 12]}}
    scenario = load(phase, options=("phases.context.parallel.pp=8", "phases.context.seq_len=16384"))
    trained = phase_scenario(scenario, 1)
    assert (trained.parallel.pp, trained.parallel.layers_per_stage, trained.training.seq_len) == (8, None, 16384)
    assert scenario.parallel.pp == 2
    assert any("phases.context.parallel.pp: is changed" in line for line in scenario.warnings)


def test_the_last_of_a_shortcut_and_its_long_form_wins() -> None:
    scenario = load(CONTEXT, options=("phases.context.training.seq_len=16384",))
    assert phase_scenario(scenario, 1).training.seq_len == 16384


def test_problems_name_the_phase_and_its_key_once() -> None:
    assert problems({**CONTEXT, "global_batch_size": 65}) == [
        "phases.context.global_batch_size: 65 sequences do not divide by dp 32 * micro_batch_size 1 = 32; next valid 64, 96"
    ]
    found = problems({**CONTEXT, "parallel": {"pp": 7}})
    assert [line.partition(":")[0] for line in found] == ["phases.context.parallel.pp"]
    found = problems({**CONTEXT, "training": {"seq_len": 4096}})
    assert found == ["phases.context.seq_len: 8192, and training.seq_len 4096 in the same phase; leave one out"]
    found = problems({**CONTEXT, "draws": 4})
    assert found == ["phases.context.draws: is of the whole run, not of a phase; write it beside `phases`"]
    assert problems({**CONTEXT, "paralel": {"pp": 4}})[0].startswith("phases.context.paralel: unknown key")
    assert problems({**CONTEXT, "parallel": {"p": 4}})[0].startswith("phases.context.parallel.p: unknown key")


def test_what_is_wrong_with_the_scenario_is_not_said_again_of_its_phases() -> None:
    found = problems(CONTEXT, options=("parallel.ep=7",))
    assert len(found) == 1 and found[0].startswith("parallel.ep: ")


def test_a_layout_that_is_to_be_found_stays_the_word_and_cannot_be_simulated() -> None:
    scenario = load({**CONTEXT, "global_batch_size": 63, "parallel": "auto"})  # no rule of layouts is asked of it
    assert [is_to_plan(each) for each in own_scenarios(scenario)] == [False, True]
    assert scenario.canonical()["phases"][1]["parallel"] == "auto"
    again = load_scenario(scenario.canonical())
    assert again == scenario and is_to_plan(phase_scenario(again, 1))
    trained = phase_scenario(scenario, 1)
    with pytest.raises(InputError, match=r"parallel: auto is no layout that can be simulated"):
        check_scenario(trained)
    stated = trained.model_copy(update={"parallel": trained.parallel.model_copy(update={"pp": 4})})
    assert stated.canonical()["parallel"]["pp"] == 4


def test_an_option_below_auto_ends_the_search_with_the_scenarios_other_keys() -> None:
    scenario = load({**CONTEXT, "parallel": "auto"}, options=("phases.context.parallel.pp=4",))
    trained = phase_scenario(scenario, 1)
    assert not is_to_plan(trained)
    assert (trained.parallel.pp, trained.parallel.ep, trained.parallel.layers_per_stage) == (4, 8, None)


def test_another_node_is_warned_of_its_price_though_the_layout_is_open() -> None:
    phase = {**CONTEXT, "parallel": "auto", "cluster": {"node": "h200-x8"}}
    scenario = load_scenario({**small(phase), "prices": {"usd_per_gpu_hour": 2}})
    assert any("is the price of the GPU h100" in line for line in scenario.warnings)


def test_a_whole_run_may_leave_its_layout_open() -> None:
    scenario = load_scenario(small(CONTEXT), ["parallel=auto"])
    assert scenario.canonical()["parallel"] == "auto" and all(map(is_to_plan, own_scenarios(scenario)))
    assert load_scenario(scenario.canonical()) == scenario


@pytest.mark.parametrize("phases", ["5", "null", "[]", "[3]"])
def test_phases_that_are_none_are_refused_whatever_stood_there(phases: str) -> None:
    assert problems(CONTEXT, options=(f"phases={phases}",))


def test_positions_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "schema_version: 1\nextends: deepseek-v3\nphases:\n  - name: pretrain\n    steps: 1\n  - name: context\n"
        "    steps: 1\n    seq_len: 32768\n    parallel:\n      ep: 7\n"
    )
    with pytest.raises(InputError) as raised:
        load_scenario(file)
    assert [(each.where, each.field) for each in raised.value.problems] == [
        (f"{file}:10", "phases.context.parallel.ep")
    ]
    with pytest.raises(InputError) as raised:
        load_scenario(file, ["phases.context.parallel.ep=64", "phases.context.global_batch_size=1000"])
    assert [(each.where, each.field) for each in raised.value.problems] == [
        ("overrides[1]", "phases.context.global_batch_size")
    ]
