"""Assumptions stand once, with a range; a scenario's own value replaces one and is taken as exact unless it has a range."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprofiles.stack_choice import load_stack
from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.assumptions import read_assumptions, resolve_assumptions

KEY = "routing_concentration"


def test_every_assumption_has_a_range_a_unit_a_source_and_a_reason() -> None:
    for key, entry in read_assumptions().items():
        assert entry.key == key
        assert entry.low <= entry.value <= entry.high
        assert entry.unit
        assert entry.source.where
        assert entry.reason


def test_those_of_the_stack_stand_beside_those_of_the_scenario() -> None:
    scenario = load_scenario("deepseek-v3")
    stack = load_stack(scenario.stack)
    assert set(resolve_assumptions(scenario, stack)) == set(read_assumptions()) | set(stack.assumptions)


def test_a_value_replaces_value_and_range() -> None:
    scenario = load_scenario("deepseek-v3", [f"assumptions.{KEY}=100"])
    entry = resolve_assumptions(scenario, load_stack(scenario.stack))[KEY]
    assert (entry.value, entry.low, entry.high) == (100, 100, 100)
    assert entry.unit == read_assumptions()[KEY].unit
    assert "scenario" in str(entry.source)


@pytest.mark.parametrize("text", ["{value: 100, low: 50, high: 200}", "{value: 100.0, low: 50.0, high: 200.0}"])
def test_a_range_is_kept(text: str) -> None:
    scenario = load_scenario("deepseek-v3", [f"assumptions.{KEY}={text}"])
    entry = resolve_assumptions(scenario, load_stack(scenario.stack))[KEY]
    assert (entry.value, entry.low, entry.high) == (100, 50, 200)


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("lone_chunk_full_sms", "5", "5 is out of range; allowed 0 to 1 (fraction); stated is 1 (0 to 1)"),
        ("gpu_speed_cv", "1e9", "1e+09 is out of range; allowed 0 to 0.2 (coefficient of variation of speed)"),
        ("memory_fragmentation_frac", "1.5", "1.5 is out of range; allowed 0 to 1 (fraction); stated is 0.053"),
        (
            "routing_concentration",
            "0",
            "0 is out of range; allowed 1 to 1e+06 (concentration); stated is 156 (49 to 320)",
        ),
        ("routing_concentration", "{value: 5, low: 0, high: 6}", "0 is out of range; allowed 1 to 1e+06"),
        ("expert_popularity_cv", "{value: 5, low: 4, high: 60}", "60 is out of range; allowed 0 to 10"),
        ("pp_boundary_wait", "0.5", "0.5 is out of range; allowed 0 or 1 (switch); stated is 1 (0 to 1)"),
        ("notify_floor_s", "2", "2 is out of range; allowed 0 to 1 (s)"),
    ],
)
def test_a_value_beyond_its_unit_is_refused(key: str, text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3", [f"assumptions.{key}={text}"])
    assert str(caught.value).startswith(f"overrides[0]: assumptions.{key}: {says}")


def test_unknown_and_negative_overrides_are_named_together() -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3", ["assumptions.routing_concentratio=3", "assumptions.persistent_expert_cv=-1"])
    assert [problem.where for problem in caught.value.problems] == ["overrides[0]", "overrides[1]"]
    assert f"did you mean {KEY}?" in str(caught.value)


ENTRY = "{key: a, value: 1, low: 0, high: 2, unit: coefficient of variation, source: here, reason: because}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "a list"),
        (f"assumptions: [{ENTRY}, {ENTRY}]", "twice"),
        (f"assumptions: [{ENTRY.replace('high: 2', 'high: 0.5')}]", "low <= value <= high"),
        (f"assumptions: [{ENTRY.replace(', reason: because', '')}]", "reason"),
        (f"assumptions: [{ENTRY.replace('value: 1', 'value: x')}]", "value"),
        ("assumptions: {a: 1}", "assumptions"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "assumptions.yaml"
    path.write_text(text + "\n")
    with pytest.raises(InputError, match=problem) as caught:
        read_assumptions(path)
    assert str(caught.value).startswith("assumptions.yaml:1")
