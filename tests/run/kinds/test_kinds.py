"""Hours of phases of other kinds: closed forms, laws, published sizes, and one error each for what cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.results.interval import Estimate
from simulator.run import kinds
from simulator.run.kinds.engines import engine_gpus
from simulator.run.kinds.kind_model import KindModel, drawn_values
from simulator.scenario.phase import Phase
from simulator.scenario.phase_assumptions import assumptions_of
from simulator.scenario.scenario import Scenario

STEP = Estimate(value=10.0, low=9.0, high=12.0)
V3 = load_scenario("deepseek-v3")
TOKENS_PER_STEP = 15_360 * 4096


def phase(**keys: Any) -> Phase:
    return Phase.model_validate({"name": "p", **keys})


def model(scenario: Scenario = V3, **keys: Any) -> KindModel:
    found = kinds.kind_model(scenario, phase(**keys))
    assert found is not None
    return found


def hours(found: KindModel, step_s: float = STEP.value, **values: float) -> dict[str, float]:
    return dict(found.lines({**found.values, **values}, step_s))


def on(num_gpus: int, batch: int = 256, **training: Any) -> Scenario:
    cluster = V3.cluster.model_copy(update={"num_gpus": num_gpus})
    changed = V3.training.model_copy(update={"global_batch_size": batch, **training})
    return V3.model_copy(update={"cluster": cluster, "training": changed})


def test_pretraining_is_its_steps_alone() -> None:
    plain = phase(tokens=1e9)
    assert kinds.kind_model(V3, plain) is None
    assert kinds.trained_scenario(V3, plain) is V3
    assert kinds.resolved_phase(V3, plain) is plain


# Fine-tuning


def test_sft_of_equal_instances_is_a_closed_form() -> None:
    """1.5 M instances of 1,365 tokens, twice: three fill a sequence of 4,096, of which one token is padding."""
    keys: dict[str, Any] = {"kind": "sft", "samples": 1.5e6, "epochs": 2.0}
    keys["sft"] = {"sample_tokens": 1365.0, "sample_cv": 0.0}
    found = model(V3, **keys)
    assert found.steps == math.ceil(3e6 / 3 / 15_360) == 66
    assert found.tokens == 3e6 * 1365
    assert hours(found) == {"update": 66 * 10.0 * 2048 / 3600}
    facts = found.facts(10.0)["update"]
    assert facts["padding_frac"] == pytest.approx(1 / 4096, abs=1e-3)
    assert facts["computed_tokens"] == pytest.approx(facts["trained_tokens"] / (1 - facts["padding_frac"]))
    assert kinds.resolved_phase(V3, phase(**keys)).steps == 66
    trained = kinds.trained_scenario(V3, phase(**keys)).training
    assert trained.padding_fraction == facts["padding_frac"]
    assert trained.packing.mean_tokens == 1365.0  # type: ignore[union-attr]


def test_instances_that_fill_sequences_train_whole_ones() -> None:
    trained = kinds.trained_scenario(V3, phase(kind="sft", samples=1e6, sft={"sample_tokens": 9e4, "sample_cv": 0.0}))
    assert (trained.training.packing, trained.training.padding_fraction) == ("none", 0.0)


@pytest.mark.parametrize(("key", "value"), [("tokens", 1e9), ("steps", 16)])
def test_sft_by_tokens_or_steps(key: str, value: float) -> None:
    found = model(V3, kind="sft", **{key: value})
    assert {"tokens": found.tokens, "steps": found.steps}[key] == pytest.approx(value)
    assert hours(found, sft_sample_tokens=5000.0) == hours(found)


def test_longer_instances_and_more_epochs_take_longer() -> None:
    once, twice = (hours(model(kind="sft", samples=1.5e6, epochs=epochs))["update"] for epochs in (1.0, 2.0))
    assert once < twice <= 2 * once
    found = model(kind="sft", samples=1.5e6)
    by_length = [hours(found, sft_sample_tokens=tokens)["update"] for tokens in (500.0, 1420.0, 5000.0)]
    assert by_length == sorted(set(by_length))


# Reinforcement learning


def test_lines_of_grpo_and_ppo() -> None:
    grpo, ppo = (hours(model(on(512), kind="rl", rl={"algorithm": name})) for name in ("grpo", "ppo"))
    assert set(ppo) - set(grpo) == {"critic"}
    assert {name: ppo[name] for name in grpo} == grpo
    assert ppo["critic"] == pytest.approx(grpo["update"] + grpo["reference"])
    without = hours(model(on(512), kind="rl", rl={"algorithm": "grpo", "reference": False}))
    assert set(grpo) - set(without) == {"reference"}


def test_an_update_is_whole_steps_of_the_phases_batch() -> None:
    """512 answers of 1,000 tokens with prompts of 24: 128 sequences of 4,096."""
    rl = {"prompt_tokens": 24.0, "response_tokens": 1000.0, "response_cv": 0.0}
    for batch, steps in ((128, 1), (64, 2), (1000, 1), (127, 2)):
        found = model(on(512, batch), kind="rl", steps=1600, rl=rl)
        assert hours(found)["update"] == pytest.approx(1600 * steps * 10.0 * 512 / 3600)
        assert found.facts(10.0)["update"]["filled_frac"] == pytest.approx(128 / (steps * batch))
    assert found.steps == 1600
    assert found.tokens == pytest.approx(1600 * 512 * 1024)


def test_answers_are_read_forward_at_a_share_of_the_step() -> None:
    rl = {"prompt_tokens": 24.0, "response_tokens": 1000.0, "response_cv": 0.0, "model_reward_share": 0.25}
    found = hours(model(on(512), kind="rl", steps=100, rl=rl), forward_share=0.5)
    reads = 100 * 512 * 1024 * (10.0 * 512 / (256 * 4096)) * 0.5 / 3600
    assert found["reference"] == pytest.approx(reads)
    assert found["model reward"] == pytest.approx(reads / 4)
    prompts = 100 * 32 * 24 * (10.0 * 512 / (256 * 4096)) * 0.5 / 3600
    assert found["rollout prefill"] == pytest.approx(prompts)


@pytest.mark.parametrize(
    ("key", "sign"),
    [
        ("rl_steps", 1), ("rl_prompts_per_step", 1), ("rl_samples_per_prompt", 1), ("rl_steps_per_rollout", -1),
        ("rl_prompt_tokens", 1), ("rl_response_tokens", 1), ("rl_max_response_tokens", 1), ("rl_model_reward_share", 1),
        ("rl_rule_reward_s", 1), ("rl_switch_s", 1), ("forward_share", 1), ("rollout_memory_frac", 0),
        ("rollout_cache_bandwidth_frac", 0), ("rollout_attention_flop_frac", -1), ("rollout_link_frac", -1),
        ("rollout_exchange_s", 1), ("rollout_engine_s", 1), ("rollout_expert_rows_frac", 1), ("rollout_mtp_acceptance", -1),
        ("rl_response_cv", None),
    ],
)  # fmt: skip
def test_a_larger_assumption_moves_the_hours_as_it_should(key: str, sign: int | None) -> None:
    """Where a rollout fills no memory; the latent cache is bound by arithmetic. A spread that is cut off has either sign."""
    found = model(on(512), kind="rl")
    each = assumptions_of("rl")[key]
    low, high = (math.fsum(hours(found, **{key: end}).values()) for end in (each.low, each.high))
    assert {1: low < high, -1: low > high, 0: low == high, None: low != high}[sign]


def test_every_assumption_of_rl_has_a_declared_sign() -> None:
    marks = test_a_larger_assumption_moves_the_hours_as_it_should.pytestmark  # type: ignore[attr-defined]
    assert {key for key, _ in marks[0].args[1]} == set(assumptions_of("rl"))


# Evaluation


def test_evaluation_is_a_share_of_a_step() -> None:
    found = model(kind="evaluation", tokens=float(TOKENS_PER_STEP))
    assert found.is_whole
    assert hours(found, forward_share=0.3) == {"evaluation": pytest.approx(0.3 * 10.0 * 2048 / 3600)}


@pytest.mark.parametrize(("every", "times"), [(None, 1), (10, 10), (30, 3), (200, 0)])
def test_evaluations_during_a_phase(every: int | None, times: int) -> None:
    evaluation: Mapping[str, Any] = {"tokens": 1e6, "every_steps": every}
    found = model(steps=100, evaluation=evaluation)
    assert not found.is_whole
    assert found.facts(10.0).get("evaluation", {"tokens": 0.0})["tokens"] == times * 1e6


# Ranges


def test_lines_lie_in_their_ranges_and_the_total_is_drawn_together() -> None:
    found = model(on(512), kind="rl", rl={"algorithm": "ppo"})
    parts, total = found.parts(STEP), found.total(STEP)
    assert total.value == pytest.approx(math.fsum(part.gpu_hours.value for part in parts))
    for part in parts:
        assert part.gpu_hours.low < part.gpu_hours.value < part.gpu_hours.high
        assert part.decides in (*found.assumptions, "step") and part.note
    assert total.low < total.value < total.high


def test_what_the_phase_states_is_exact_and_a_wider_range_widens() -> None:
    stated = model(on(512), kind="rl", steps=1700)
    assumed = model(on(512), kind="rl")
    assert stated.assumptions["rl_steps"].low == stated.assumptions["rl_steps"].high == 1700
    assert hours(stated) == hours(assumed)
    narrow, wide = stated.total(STEP), assumed.total(STEP)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_draw_lies_in_its_range_and_is_the_same_in_every_phase() -> None:
    each = assumptions_of("rl")["rl_steps"]
    drawn = drawn_values(0, each)
    assert (min(drawn), max(drawn)) == (each.low, each.high)
    assert sorted(drawn)[len(drawn) // 2] == pytest.approx(each.value, rel=0.02)
    assert drawn == drawn_values(0, each) != drawn_values(1, each)


# What cannot be


@pytest.mark.parametrize(
    ("num_gpus", "rollout", "says"),
    [
        (512, {"gpus_per_engine": 100}, "100 GPUs do not divide the cluster's 512, or are more than the routed experts allow"),
        (512, {"gpus_per_engine": 512}, "or are more than the routed experts allow; allowed 1, 2, 4"),
        (512, {"gpus_per_engine": 8}, "no room for the cache of one sequence; take 16 GPUs or more"),
    ],
)  # fmt: skip
def test_an_engine_that_cannot_be_is_one_error(num_gpus: int, rollout: Mapping[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        model(on(num_gpus), kind="rl", rl={"rollout": rollout})
    (problem,) = caught.value.problems
    assert problem.field == "phases.p.rl.rollout.gpus_per_engine"
    assert says in problem.message


@pytest.mark.parametrize("kind", ["sft", "rl"])
def test_packing_that_a_phase_states_beside_its_kind_is_refused(kind: str) -> None:
    stated = phase(kind=kind, steps=10, training={"padding_fraction": 0.1})
    with pytest.raises(InputError, match="follows from the phase's") as caught:
        kinds.kind_model(on(512), stated)
    assert [each.field for each in caught.value.problems] == ["phases.p.training.padding_fraction"]


def test_drafting_without_a_module_is_refused() -> None:
    dense = load_scenario("llama-3.1-70b")
    with pytest.raises(InputError, match="the model has no MTP module"):
        model(dense, kind="rl", rl={"rollout": {"mtp": True}})


def test_engines_by_the_rule() -> None:
    """Two routed experts a GPU; a dense model's weights in half of their memory: 141 GB in four times 42."""
    for scenario, gpus in ((on(512), 128), (on(96), 96), (on(192), 96), (load_scenario("llama-3.1-70b"), 4)):
        alone = scenario.model_copy(update={"phases": (phase(kind="rl"),)})
        assert engine_gpus(alone) == gpus
