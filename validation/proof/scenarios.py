"""A measured case as a scenario of one GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hwprofiles.hosts.own import has_own
from hwprofiles.hosts.torch_model import key
from hwprofiles.kernels.shape import OWN_GEMMS
from hwprofiles.proof_cases.layer_cases import LayerCase
from hwprofiles.proof_cases.sizes import OWN
from hwprofiles.proof_cases.step_cases import StepCase
from hwprofiles.stack_choice import load_stack
from simulator import load_scenario
from simulator.scenario.scenario import Scenario

FRAMEWORK: Final = "moesim-torch@2026-11"
NOTHING_BETWEEN: Final = {"value": 0.0, "low": 0.0, "high": 0.0}
"""Seconds between two steps: nothing is read, logged or loaded there."""


def layer_scenario(case: LayerCase, stack: str, node: str) -> Scenario:
    """A model of the case's one layer. Raises InputError: the stack, or what it cannot run."""
    values = _scenario(case.name, case.values, case.recipe, case.tokens, case.sequences, stack, node)
    return load_scenario({**values, **_kernels(case)})


def step_scenario(case: StepCase, stack: str, node: str) -> Scenario:
    """One step. Raises as layer_scenario."""
    values = _scenario(
        case.name, case.values, case.recipe, case.tokens, case.sequences * case.micro_batches, stack, node
    )
    values |= {**_kernels(case), "training": {**values["training"], "micro_batch_size": case.sequences}}
    if case.recompute:
        values["recompute"] = {"granularity": "selective", "modules": list(case.recompute)}
    host: dict[str, Any] = {"cuda_graph": "full_iteration"} if case.issue == "graph" else {}
    found = load_scenario({**values, "host": host} if host else values)
    parameters = load_stack(found.stack).parameters
    if not has_own(parameters):
        return found
    waited = parameters.get(key(case.recipe, "waited", "f"))
    if waited and case.issue == "eager":  # a step begins when the one before has ended
        values["assumptions"] = {"host_other_s": {each: getattr(waited, each) for each in ("value", "low", "high")}}
    return load_scenario(
        {**values, "host": {**host, "costs": "stack"}}
    )  # of the machine that the stack was measured on


def _kernels(case: LayerCase | StepCase) -> dict[str, Any]:
    """The section, where products are not the library's."""
    return {"kernels": {"gemm": OWN_GEMMS}} if case.products == "own" and case.recipe == OWN else {}


def _scenario(
    name: str, model: Mapping[str, Any], recipe: str, tokens: int, sequences: int, stack: str, node: str
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "schema_version": 1, "name": name, "model": dict(model), "cluster": {"node": node, "num_gpus": 1}, "stack": stack,
        "parallel": {"pp": 1, "ep": 1, "zero_stage": 0},
        "training": {"seq_len": tokens, "global_batch_size": sequences, "micro_batch_size": sequences},
        "precision": {"recipe": recipe}, "framework": FRAMEWORK, "draws": 1,
        "assumptions": {"host_other_s": NOTHING_BETWEEN},
    }  # fmt: skip
    if "moe" in model:
        values["moe"] = {"balance": "forced", "host_sync": "none"}  # loads are forced: nothing is read back
    return values
