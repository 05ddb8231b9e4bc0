"""The engine that generates a scenario's answers: how many GPUs it takes by the written rule, and whether the model fits it.

Rule where the scenario says nothing: the largest number of GPUs that divides the cluster and leaves at least two routed
experts on each (open-infra-index, day 6: DeepSeek decodes with two a GPU); of a dense model the fewest that divide cluster and
heads and hold its weights in half of their memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hwprofiles.kernels.parameters import MissingKernelError
from hwprofiles.stack_choice import load_stack
from simulator.errors import InputError, Problem
from simulator.run.kinds.decode import Decode, Formats, decode_of, engine_weights
from simulator.run.kinds.decode_kernels import Shares
from simulator.scenario.hardware import gpu_of, node_of
from simulator.scenario.phase_kinds import Rl, Rollout
from simulator.scenario.recipes import RECIPES
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import allowed, divisors

EXPERTS_PER_GPU: Final = 2
MOST_OF_MEMORY: Final = 0.5
"""Share of an engine's memory that a dense model's weights take at most."""
KEY: Final = "rl.rollout.gpus_per_engine"


def engine_of(scenario: Scenario) -> Decode:
    """The engine of the (one) phase. Raises InputError: its size, a model that fits none, kernels that the stack lacks."""
    rollout = _rollout(scenario)
    formats = formats_of(scenario)
    gpus = rollout.gpus_per_engine or engine_gpus(scenario)
    problem = _size_problem(scenario, gpus)
    if problem is not None:
        raise InputError([_problem(scenario, KEY, problem)])
    mtp = scenario.model.mtp.num_modules > 0 if rollout.mtp is None else rollout.mtp
    if mtp and not scenario.model.mtp.num_modules:
        raise InputError(
            [_problem(scenario, "rl.rollout.mtp", "the model has no MTP module; write false, or leave it out")]
        )
    try:
        return decode_of(
            scenario.model, gpus, node_of(scenario), gpu_of(scenario), load_stack(scenario.stack), formats, mtp=mtp
        )
    except MissingKernelError as error:
        raise InputError([_problem(scenario, "rl.rollout", str(error))]) from None


def formats_of(scenario: Scenario) -> Formats:
    """Formats of weights, operands, messages and cache: those of training, and of the cache what the phase says."""
    return Formats(
        gemm=RECIPES[scenario.precision.recipe].gemm_dtype, dispatch=scenario.moe.dispatch_dtype,
        combine=scenario.moe.combine_dtype, cache=_rollout(scenario).kv_dtype,
    )  # fmt: skip


def memory_problem(scenario: Scenario, engine: Decode, most: float) -> Problem | None:
    """Why no sequence fits beside the weights. most: sequences that a GPU holds at a time."""
    if most * engine.gpus >= 1.0:
        return None
    larger = next((gpus for gpus in _sizes(scenario) if gpus > engine.gpus), None)
    text = f"the weights leave an engine of {engine.gpus} GPUs no room for the cache of one sequence"
    instead = f"; take {larger} GPUs or more" if larger else "; take more GPUs, or rl.rollout.kv_dtype: fp8"
    return _problem(scenario, KEY, text + instead)


def _rollout(scenario: Scenario) -> Rollout:
    return (scenario.phases[0].rl or Rl()).rollout


def engine_gpus(scenario: Scenario) -> int:
    """GPUs of an engine by the rule."""
    sizes, model = list(_sizes(scenario)), scenario.model
    if model.moe is not None:
        most = max(1, model.moe.num_routed_experts // EXPERTS_PER_GPU)
        return max(size for size in sizes if size <= most)
    gpu = gpu_of(scenario)
    room = MOST_OF_MEMORY * gpu.memory_bytes
    fitting = (
        size for size in sizes if engine_weights(model, Shares(formats_of(scenario).gemm, tp=size), mtp=False) <= room
    )
    return next(fitting, sizes[-1])


def _sizes(scenario: Scenario) -> Iterator[int]:
    """Numbers of GPUs that an engine can have, ascending."""
    model = scenario.model
    for size in divisors(scenario.cluster.num_gpus):
        if model.moe is not None:
            if size <= model.moe.num_routed_experts:
                yield size
        elif model.attention.num_heads % size == 0:
            yield size


def _size_problem(scenario: Scenario, gpus: int) -> str | None:
    sizes = list(_sizes(scenario))
    if gpus in sizes:
        return None
    what = "routed experts" if scenario.model.moe is not None else "heads of attention"
    text = f"{gpus} GPUs do not divide the cluster's {scenario.cluster.num_gpus}, or are more than the {what} allow"
    return f"{text}; {allowed(sizes)}"


def _problem(scenario: Scenario, key: str, text: str) -> Problem:
    field = f"phases.{scenario.phases[0].name}.{key}"
    return Problem(scenario.where(field), field, text)
