"""Evaluation: tokens that pass through the model forward only, on the layout of the phase's step.

GPU-seconds of a token forward = step seconds * GPUs / tokens of the step * share of a forward pass (assumption forward_share).
"""

from __future__ import annotations

from collections.abc import Mapping

from hwprofiles.units import SECONDS_PER_HOUR
from simulator.scenario.scenario import Scenario

EVALUATION = "evaluation"
NOTE = "tokens read forward only, at the step's rate and a forward pass's share of it"


def forward_hours(scenario: Scenario, tokens: float, values: Mapping[str, float], step_s: float) -> float:
    """GPU-hours in which the model of the scenario reads so many tokens."""
    training = scenario.training
    a_token = step_s * scenario.cluster.num_gpus / (training.global_batch_size * training.seq_len)
    return tokens * a_token * values["forward_share"] / SECONDS_PER_HOUR


def evaluated_tokens(scenario: Scenario, steps: float) -> float:
    """Tokens that are evaluated during the (one) phase of so many steps, or behind it."""
    phase = scenario.phases[0]
    if phase.kind == "evaluation":
        return phase.tokens or 0.0
    if phase.evaluation is None:
        return 0.0
    every = phase.evaluation.every_steps
    return phase.evaluation.tokens * (1 if every is None else steps // every)
