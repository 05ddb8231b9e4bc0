"""The weights that are cast once a step, behind the optimizer; `gathered` has those that are cast at each use."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.scenario import derived
from simulator.scenario.hardware import operand_copies
from simulator.scenario.scenario import Scenario
from simulator.workload.casts.choice import casts_of
from simulator.workload.casts.joint import JointCasts
from simulator.workload.counting import moved
from simulator.workload.model_state import stage_params
from simulator.workload.op import Op, StageWorkload
from simulator.workload.tensors import tensor_bytes, weight_bytes

BF16_BYTES = tensor_bytes("bf16", 1)


def weight_casts(scenario: Scenario, stage: StageWorkload) -> Iterator[Op]:
    """BF16 weights of a rank to the copies that GEMMs read.

    Where casts are not joined all held parameters are read and one copy is written. Where the layers hold no BF16 weights, a
    scale of the whole tensor lets the optimizer write the first copy itself.
    """
    rule, casts = derived.recipe(scenario), casts_of(scenario)
    if not rule.is_quantised or derived.casts_weights_each_use(scenario):
        return
    if not isinstance(casts, JointCasts):
        held = stage.dense_params + stage.expert_params
        yield moved("weight_quantise", "quantise", "W", BF16_BYTES * held, held)
        return
    params, copies = stage_params(stage), operand_copies(scenario)
    count = params.dense_quantised + params.expert_quantised
    written = weight_bytes(rule.gemm_dtype, count)
    if not rule.has_direction and scenario.precision.primary_weights == "quantised":
        if copies > 1:
            yield moved("weight_turned", "transpose", "W", written, written)
        return
    if casts.reads_amax:
        yield moved("weight_amax", "amax", "W", BF16_BYTES * count, 0)
    kernel = "quantise" if copies == 1 else "quantise_joint"
    yield moved("weight_quantise", kernel, "W", BF16_BYTES * count, copies * written)
