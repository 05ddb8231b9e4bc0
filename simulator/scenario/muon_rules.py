"""Rules of the Muon optimizer: whole matrices must be somewhere."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.scenario import derived
from simulator.scenario.plan import Muon
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

OPTIMIZER = "training.optimizer"


def is_muon(scenario: Scenario) -> bool:
    """Whether matrices are updated by Muon."""
    return scenario.training.optimizer == "muon"


def deals_whole_matrices(scenario: Scenario) -> bool:
    """Whether each matrix is updated by one of the data-parallel ranks, which all have its whole gradient."""
    plan = scenario.training.muon
    return is_muon(scenario) and plan.shards == "whole" and scenario.parallel.zero_stage > 0


def muon_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Contradictions of Muon with what is sharded or offloaded."""
    if not is_muon(scenario):
        return
    zero = scenario.parallel.zero_stage
    if zero == 3:
        text = "muon with zero_stage 3: an update needs whole matrices, and no rank has the gradient of one"
        stages = "1" if scenario.training.muon.shards == "whole" else "1 or 2"
        yield OPTIMIZER, f"{text}; use zero_stage: {stages}, or optimizer: adamw-fp32-moments"
    elif scenario.training.muon.shards == "whole" and zero == 2:
        text = "whole with zero_stage 2: a rank that updates a whole matrix needs its whole gradient"
        yield "training.muon.shards", f"{text}; use zero_stage: 1, or shards: gathered"
    elif scenario.training.muon.shards == "whole" and scenario.data_parallel.hsdp_group is not None:
        text = f"whole is not modelled with shard groups of {scenario.data_parallel.hsdp_group} ranks"
        yield "training.muon.shards", f"{text}; use hsdp_group: null, or shards: gathered"
    if scenario.offload.optimizer > 0:
        text = f"{scenario.offload.optimizer:g} with training.optimizer: muon: a host has no rate for its products of matrices"
        yield "offload.optimizer", f"{text}; use optimizer: 0 here, or training.optimizer: adamw-fp32-moments"


def muon_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Keys of Muon that have no meaning in the scenario."""
    plan = scenario.training.muon
    if not is_muon(scenario):
        if plan != Muon():
            yield "training.muon", f"has no meaning with training.optimizer: {scenario.training.optimizer}"
        return
    if plan.tensor_parallel != "duplicated" and scenario.parallel.tp == scenario.parallel.etp == 1:
        yield "training.muon.tensor_parallel", "has no meaning with tp 1: every rank has whole matrices"
    if plan.shards == "whole" and (scenario.parallel.zero_stage == 0 or not derived.has_several_holders(scenario)):
        yield "training.muon.shards", "has no meaning where no ranks share the optimizer's state"
