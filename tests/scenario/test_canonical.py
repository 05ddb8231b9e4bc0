"""A scenario is a value: its canonical form loads back equal, its hash follows from nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.layers import preset_names


@pytest.mark.parametrize("name", preset_names())
def test_canonical_form_loads_back_equal(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    path = tmp_path / "resolved.json"
    path.write_text(json.dumps(scenario.canonical()))
    again = load_scenario(path)
    assert again == scenario
    assert again.scenario_sha256 == scenario.scenario_sha256
    assert again.defaults_used == ()
    assert load_scenario(scenario.canonical()) == scenario


def test_a_name_changes_the_name_and_the_hash_and_nothing_else() -> None:
    one, other = load_scenario("deepseek-v3"), load_scenario("deepseek-v3", ["name=another"])
    assert one.scenario_sha256 != other.scenario_sha256
    assert {**one.canonical(), "name": "another"} == other.canonical()


def test_spelling_does_not_change_the_hash(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.yaml"
    path.write_text(
        "schema_version: 1\nprices: {usd_per_gpu_hour: 2}  # an integer\nextends: deepseek-v3\n"
        "phases:\n  pretrain: {tokens: 14800000000000}\nseed: 0x0\n"
    )
    assert load_scenario(path).scenario_sha256 == load_scenario("deepseek-v3").scenario_sha256


def test_equal_scenarios_are_one_key() -> None:
    assert len({load_scenario("deepseek-v3"), load_scenario("deepseek-v3", ["seed=0"])}) == 1


@pytest.mark.parametrize("name", ["名前", "Ünïcödé – 1/2", "a" * 200, "=1+1", "<script>", "नाम\u200dक"])
def test_a_name_is_any_printable_text(name: str) -> None:
    document = {**load_scenario("deepseek-v3").canonical(), "name": name}
    assert load_scenario(document).name == name


def test_a_seed_is_any_number_that_fits() -> None:
    assert load_scenario("deepseek-v3", [f"seed={2**63 - 1}"]).seed == 2**63 - 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["bf16", "none"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
CANONICAL = load_scenario("deepseek-v3").canonical()


def _paths(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    children = value.items() if isinstance(value, dict) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([path for path in _paths(CANONICAL) if path]), VALUES)
def test_any_value_anywhere_is_a_scenario_or_bad_input(path: tuple[str, ...], value: object) -> None:
    document = json.loads(json.dumps(CANONICAL))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    try:
        scenario = load_scenario(document)
    except InputError as error:
        assert error.problems
        assert all(problem.message and "\n" not in str(problem) for problem in error.problems)
    else:
        assert load_scenario(scenario.canonical()) == scenario
