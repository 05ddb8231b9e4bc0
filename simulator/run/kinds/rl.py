"""Reinforcement learning: rollouts, rewards, reference and critic, updates; a line of GPU-hours each, with ranges.

The same GPUs generate and train by turns (R1, arXiv:2501.12948 v2, supplement B.1: models are moved to the host between its
modules). Of U updates, each of A = prompts * samples answers, R = U / (updates a rollout * inner epochs) rollouts serve:
    rollout prefill   each prompt once forward (its answers share the cache)
    rollout decode    R * generating (rollout.py) on all GPUs, those that wait for the longest answer included
    weights and memory   R * (from training to generating and back)
    rule reward       R * what checks keep the GPUs waiting
    model reward, reference, critic's values   the answers (with prompts) once forward, by a model as large as the policy
    update            U * ceil(sequences of A packed answers / global batch) steps of the phase's layout; critic: as many again
What is forward only runs as evaluation does. PPO has a critic, GRPO none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import Final

from hwprofiles.units import SECONDS_PER_HOUR
from simulator.run.kinds.decode import Decode
from simulator.run.kinds.evaluation import forward_hours
from simulator.run.kinds.kind_model import Values
from simulator.run.kinds.packing import Packed, pack
from simulator.run.kinds.rollout import Answers, generating_s, most_at_once
from simulator.scenario.phase_kinds import Rl
from simulator.scenario.scenario import Scenario

NOTES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rollout prefill": "each prompt read once, forward only; its answers share the cache",
        "rollout decode": "answers generated on all GPUs by a simple model of a decode step, until a rollout's longest ends",
        "weights and memory": "new weights to the engines, the training state to the host and back, once a rollout",
        "rule reward": "what checks by rules (compilers, tests) keep all GPUs waiting, once a rollout",
        "model reward": "a reward model as large as the policy reads its share of the answers, forward only",
        "reference": "a frozen copy of the policy reads every answer, forward only",
        "critic": "a model as large as the policy: values of every answer, forward only, and as many updates as the policy's",
        "update": "steps of the phase's layout on packed answers with their prompts; a batch that is not full takes as long",
    }
)
NOT_MODELLED: Final = (
    "reinforcement learning: answers generated beside training, or thrown away; log-probabilities that training computes again",
    "reinforcement learning: memory and layouts of reference, reward and critic models, which run as the update's step does",
)
OF_KEY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rl_prompts_per_step": "prompts_per_step", "rl_samples_per_prompt": "samples_per_prompt",
        "rl_steps_per_rollout": "steps_per_rollout", "rl_prompt_tokens": "prompt_tokens",
        "rl_response_tokens": "response_tokens", "rl_response_cv": "response_cv",
        "rl_max_response_tokens": "max_response_tokens", "rl_model_reward_share": "model_reward_share",
    }
)  # fmt: skip
"""Assumption → key of the section rl that states it instead."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """What the values of a phase come to. updates, rollouts; prompts and answers of a rollout; read_tokens: of all answers with
    their prompts, each read once; sequences: of an update.
    """

    updates: float
    rollouts: float
    prompts: float
    answers: Answers
    sequences: float
    read_tokens: float


def given_values(scenario: Scenario) -> dict[str, float]:
    """Assumptions that the (one) phase states itself: they are exact."""
    phase = scenario.phases[0]
    rl = phase.rl or Rl()
    stated = {key: getattr(rl, name) for key, name in OF_KEY.items()} | {"rl_steps": phase.steps}
    return {key: float(value) for key, value in stated.items() if value is not None}


def packed_answers(scenario: Scenario, values: Values) -> Packed:
    """Prompts with their answers in the update's sequences, the longest placed first."""
    answers = _answers(values, 1.0, 1.0)
    mean = answers.prompt + answers.tokens
    spread = max(0.0, answers.kept(2) - answers.tokens**2) ** 0.5
    return pack(mean, spread / mean, scenario.training.seq_len, "best_fit")


def amounts(scenario: Scenario, values: Values, num_gpus: int, packed: Packed) -> Amounts:
    """num_gpus: that generate. packed: how answers fill sequences at the stated values."""
    epochs = (scenario.phases[0].rl or Rl()).inner_epochs
    updates, of_update = values["rl_steps"], values["rl_prompts_per_step"] * values["rl_samples_per_prompt"]
    rollouts = updates / (values["rl_steps_per_rollout"] * epochs)
    of_rollout = of_update * values["rl_steps_per_rollout"]
    answers = _answers(values, of_rollout / num_gpus, of_rollout)
    sample = answers.prompt + answers.tokens
    kept = sample * (1.0 - packed.cut_frac)
    return Amounts(
        updates=updates,
        rollouts=rollouts,
        prompts=values["rl_prompts_per_step"] * values["rl_steps_per_rollout"],
        answers=answers,
        sequences=of_update * kept / (packed.seq_len * (1.0 - packed.padding_frac)),
        read_tokens=rollouts * of_rollout * sample,
    )


def lines(scenario: Scenario, engine: Decode, packed: Packed, values: Values, step_s: float) -> dict[str, float]:
    """Line → GPU-hours. step_s: of a step of the phase."""
    rl, gpus = scenario.phases[0].rl or Rl(), scenario.cluster.num_gpus
    work = amounts(scenario, values, gpus, packed)
    an_hour = gpus / SECONDS_PER_HOUR
    reads = forward_hours(scenario, work.read_tokens, values, step_s)
    generating = generating_s(engine, values, work.answers, rl.rollout.max_batch_per_gpu)
    update = work.updates * steps_of_update(scenario, work) * step_s * an_hour
    prompts = work.rollouts * work.prompts * work.answers.prompt
    share = values["rl_model_reward_share"]
    found = {
        "rollout prefill": forward_hours(scenario, prompts, values, step_s),
        "rollout decode": work.rollouts * generating * an_hour,
        "weights and memory": work.rollouts * values["rl_switch_s"] * an_hour,
        "rule reward": work.rollouts * values["rl_rule_reward_s"] * an_hour if share < 1.0 else 0.0,
        "model reward": share * reads,
        "reference": reads if rl.reference else 0.0,
        "critic": reads + update if rl.algorithm == "ppo" else 0.0,
        "update": update,
    }
    absent = {"reference": not rl.reference, "critic": rl.algorithm != "ppo"}
    return {name: hours for name, hours in found.items() if not absent.get(name)}


def steps_of_update(scenario: Scenario, work: Amounts) -> int:
    """Steps of the phase's global batch that one update takes."""
    return max(1, ceil(work.sequences / scenario.training.global_batch_size))


def facts(
    scenario: Scenario, engine: Decode, packed: Packed, values: Values, step_s: float
) -> Mapping[str, Mapping[str, float]]:
    """Figures behind the lines at the stated values."""
    rl, gpus = scenario.phases[0].rl or Rl(), scenario.cluster.num_gpus
    work = amounts(scenario, values, gpus, packed)
    limit = rl.rollout.max_batch_per_gpu
    most = most_at_once(engine, values, work.answers, limit)
    generating = generating_s(engine, values, work.answers, limit)
    batch, context = min(most, work.answers.number), work.answers.prompt + work.answers.tokens / 2.0
    filled = work.sequences / (steps_of_update(scenario, work) * scenario.training.global_batch_size)
    return {
        "rollout decode": {
            "gpus_per_engine": float(engine.gpus), "weight_bytes_per_gpu": engine.weight_bytes,
            "cache_bytes_per_token": engine.cache_bytes_per_token, "sequences_per_gpu": batch, "most_sequences_per_gpu": most,
            "decode_step_s": engine.step_s(values, batch, context), "rollout_s": generating, "rollouts": work.rollouts,
            "answers": work.answers.number_of_all,
            "tokens_per_s_per_gpu": work.answers.number * work.answers.tokens / generating,
        },
        "update": {
            "updates": work.updates, "sequences": work.sequences, "steps_of_update": float(steps_of_update(scenario, work)),
            "filled_frac": filled, "padding_frac": packed.padding_frac, "cut_frac": packed.cut_frac, "step_s": step_s,
        },
    }  # fmt: skip


def _answers(values: Values, number: float, number_of_all: float) -> Answers:
    return Answers(
        number=number, number_of_all=number_of_all, mean=values["rl_response_tokens"], cv=values["rl_response_cv"],
        longest=values["rl_max_response_tokens"], prompt=values["rl_prompt_tokens"],
    )  # fmt: skip
