"""Every kind of phase has its own keys; what another kind has, and adapters, are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hwprofiles.stack_choice import load_stack
from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.assumptions import kind_assumptions, read_assumptions, resolve_assumptions
from simulator.scenario.phase_assumptions import assumptions_of, phase_assumptions
from simulator.scenario.phase_kinds import KindKeys, kind_problems


def problems(
    *, tokens: float | None = None, steps: int | None = None, ramp: bool = False, **keys: Any
) -> dict[str, str]:
    return dict(kind_problems(KindKeys.model_validate(keys), tokens=tokens, steps=steps, has_ramp=ramp))


@pytest.mark.parametrize(
    "keys",
    [
        {"kind": "sft", "samples": 1.5e6, "epochs": 2}, {"kind": "sft", "steps": 100}, {"kind": "rl"},
        {"kind": "rl", "steps": 9},
        {"kind": "evaluation", "tokens": 1e6}, {"kind": "pretrain", "tokens": 1e9, "evaluation": {"tokens": 1e6}},
        {"kind": "rl", "rl": {"algorithm": "ppo", "response_tokens": 700}, "evaluation": {"tokens": 1e6, "every_steps": 5}},
    ],
)  # fmt: skip
def test_a_kind_has_its_keys(keys: dict[str, Any]) -> None:
    length = {key: keys.pop(key, None) for key in ("tokens", "steps")}
    assert not problems(**length, **keys)


@pytest.mark.parametrize(
    ("keys", "field", "says"),
    [
        ({"samples": 5.0, "tokens": 1e9}, "samples", "is of phases of kind sft; this is pretrain: write kind: sft"),
        ({"kind": "sft", "samples": 5.0, "rl": {"algorithm": "ppo"}}, "rl", "is of phases of kind rl; this is sft"),
        ({"kind": "sft"}, "samples", "exactly one of samples, tokens and steps says how long sft is (none given)"),
        ({"kind": "sft", "samples": 5.0, "steps": 7}, "samples", "(samples, steps given)"),
        ({"kind": "sft", "steps": 7, "epochs": 2.0}, "epochs", "is of samples; steps says how long the phase is"),
        ({"kind": "rl", "tokens": 7.0}, "tokens", "give steps (updates), or neither"),
        ({"kind": "evaluation", "steps": 7}, "tokens", "says tokens, and no steps"),
        ({"kind": "evaluation", "tokens": 7.0, "evaluation": {"tokens": 1e6}}, "evaluation", "the phase is one itself"),
        ({"kind": "sft", "samples": 5.0, "ramp": True}, "batch_ramp", "only phases of kind pretrain have one; this is sft"),
    ],
)  # fmt: skip
def test_what_another_kind_has_is_refused_once(keys: dict[str, Any], field: str, says: str) -> None:
    found = problems(**keys)
    assert set(found) == {field}
    assert says in found[field]


@pytest.mark.parametrize("text", ["method=lora", "lora={rank: 16}"])
def test_adapters_are_refused_with_the_reason(text: str) -> None:
    phases = 'phases=[{"name": "sft", "kind": "sft", "samples": 1000}]'
    with pytest.raises(InputError, match="small matrices beside frozen weights") as caught:
        load_scenario("deepseek-v3", [phases.replace("1000}", f"1000, sft: {{{text.replace('=', ': ')}}}}}")])
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].field == f"phases.sft.sft.{text.partition('=')[0]}"


@pytest.mark.parametrize(
    "keys",
    [
        {"samples": 0.0}, {"samples": float("inf")}, {"epochs": 0.0}, {"sft": {"sample_cv": -0.1}},
        {"sft": {"packing": "worst"}},
        {"rl": {"samples_per_prompt": 0}}, {"rl": {"model_reward_share": 1.1}}, {"rl": {"algorithm": "dpo"}},
        {"rl": {"rollout": {"gpus_per_engine": 0}}}, {"evaluation": {}}, {"kind": "distill"}, {"sft": {"sampel_tokens": 3.0}},
    ],
)  # fmt: skip
def test_values_outside_bounds_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        KindKeys.model_validate(keys)
    assert caught.value.error_count() == 1


def test_every_assumption_of_a_kind_is_complete_and_of_no_step() -> None:
    assert not set(phase_assumptions()) & set(read_assumptions())
    for key, entry in phase_assumptions().items():
        assert entry.low < entry.high, key
        assert entry.source.where and entry.reason
    assert set(assumptions_of("evaluation")) == {"forward_share"}
    assert not assumptions_of("pretrain")


def test_a_scenario_overrides_an_assumption_of_a_kind_by_its_key() -> None:
    scenario = load_scenario("deepseek-v3", ["assumptions.rl_steps={value: 500, low: 400, high: 900}"])
    entry = kind_assumptions(scenario, "rl")["rl_steps"]
    assert (entry.value, entry.low, entry.high) == (500, 400, 900)
    assert "rl_steps" not in resolve_assumptions(scenario, load_stack(scenario.stack))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rl_stepz=5", "did you mean rl_steps?"),
        ("rl_steps=0", "0 is out of range; allowed 1 to 1e+06 (steps)"),
    ],
)
def test_an_unknown_key_or_value_is_refused_as_any_other(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3", [f"assumptions.{text}"])
    assert says in str(caught.value)
