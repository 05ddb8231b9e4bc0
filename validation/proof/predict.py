"""Predictions of layers and steps from a stack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import fsum
from typing import Any, Final

from hwprofiles.calibration.proof.layer_cases import LayerCase
from hwprofiles.calibration.proof.sizes import uneven
from hwprofiles.calibration.proof.step_cases import StepCase
from simulator import simulate_step
from simulator.step.prepared import PreparedStep, prepare
from simulator.workload.op import BLOCKS, BlockName, Op, Pass
from validation.proof.scenarios import layer_scenario, step_scenario

HALVES: Final[Mapping[str, tuple[BlockName, ...]]] = {
    "attention": ("attn_f", "attn_b", "attn_w"), "head": ("mlp_f_local", "mlp_b_local", "mlp_w"), "ffn": BLOCKS,
}  # fmt: skip
"""Half of a layer → blocks that may hold its operators."""
FFN: Final = ("ffn_", "shared_", "expert_", "router", "balance_", "routing_map", "row_weights", "permute", "unpermute")
"""Beginnings of the names of a feed-forward network's operators, its norm, sums and router included."""
PHASES: Final[tuple[Pass, ...]] = ("F", "I", "W")


def layer_operators(step: PreparedStep, case: LayerCase) -> tuple[Op, ...]:
    """What the case runs of the one layer of a model, or of its head."""
    units = {unit.kind: unit for unit in step.workload.stages[0].units}
    if case.kind == "head":
        return tuple(units["head"].ops())
    unit = units["moe" if case.kind == "moe" else "dense"]
    wants_ffn = case.kind in ("moe", "dense")
    return tuple(
        op for op in unit.ops() if not op.name.startswith("embedding") and op.name.startswith(FFN) == wants_ffn
    )  # fmt: skip


def layer_seconds(step: PreparedStep, case: LayerCase, ops: Iterable[Op]) -> dict[Pass, float]:
    """F, I and W, each kernel alone and at the speed of first launches, gaps between kernels as the stack says."""
    found: dict[Pass, list[float]] = {phase: [] for phase in PHASES}
    for op in ops:
        seconds = step.kernels.unshared_seconds(op).seconds + op.shape.num_kernels * step.kernels.gap_s
        found[op.phase].append(seconds)
    return {phase: fsum(each) for phase, each in found.items()}


def layer_rows(cases: Iterable[LayerCase], stack: str, node: str) -> Iterator[dict[str, Any]]:
    """A row a case and pass, B being I and W together. Raises InputError."""
    for case in cases:
        step = prepare(layer_scenario(case, stack, node))
        ops = layer_operators(step, case)
        seconds = layer_seconds(step, case, with_load(ops, case))
        both = {**seconds, "B": seconds["I"] + seconds["W"]}
        for phase, value in both.items():
            launches = sum(
                op.shape.num_kernels for op in ops if op.phase == phase or (phase == "B" and op.phase != "F")
            )
            yield {"name": case.name, "phase": phase, "seconds": value, "launches": launches}


def with_load(ops: Iterable[Op], case: LayerCase) -> tuple[Op, ...]:
    """The experts' products with the spread of the case's rows."""
    from dataclasses import replace

    cv = uneven(case.rows) if case.rows else 0.0
    return tuple(
        replace(op, shape=replace(op.shape, rows_cv=cv)) if op.shape.op == "grouped_gemm" and cv else op for op in ops
    )


def step_rows(cases: Iterable[StepCase], stack: str, node: str) -> Iterator[dict[str, Any]]:
    """A row a case. Raises InputError."""
    for case in cases:
        result = simulate_step(step_scenario(case, stack, node))
        yield {"name": case.name, "step_s": result, "peak_bytes": 0}
