"""Predictions of layers and steps from a stack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import fsum
from typing import Any, Final

from hwprofiles.kernels.shape import LOOP
from hwprofiles.proof_cases.layer_cases import LayerCase
from hwprofiles.proof_cases.sizes import uneven
from hwprofiles.proof_cases.step_cases import StepCase
from simulator.results.step_result import StepResult
from simulator.step.graph import order_of_actions
from simulator.step.memory import rank_memories
from simulator.step.prepared import PreparedStep, memory_question, prepare
from simulator.step.step import simulate_step
from simulator.workload.modules import moesim_own
from simulator.workload.modules.moesim_fp8 import WEIGHT_CAST, WEIGHT_TURN, spread
from simulator.workload.modules.moesim_rows import spread_rows, with_rows
from simulator.workload.op import Op
from validation.measured_memory import OUTSIDE
from validation.proof.scenarios import layer_scenario, step_scenario

FFN: Final = ("ffn_", "shared_", "expert_", "router", "balance_", "routing_map", "row_weights", "permute", "unpermute")
"""Beginnings of the names of a feed-forward network's operators, its norm, sums and router included."""
OF_STEP: Final = (WEIGHT_CAST, WEIGHT_TURN)
"""Ends of the names of what is done once a step, before a layer alone is timed."""
OF_GRAPHS: Final = ("buffers.graph_pool", "buffers.graph_nodes")
"""Free memory in a graph's pool, and what the driver holds."""
LAYER_COLUMNS: Final[Mapping[str, str]] = {
    "name": "of the layer in hwprofiles/proof_cases/layer_cases.py", "phase": "F, I, B (I and W together), W",
    "seconds": "predicted", "launches": "functions that are called, or kernels",
}  # fmt: skip
STEP_COLUMNS: Final[Mapping[str, str]] = {
    "name": "of the steps in hwprofiles/proof_cases/step_cases.py", "forward_s": "of all micro-batches",
    "backward_s": "of all micro-batches", "optimizer_s": "with the weights' casts", "step_s": "of the step",
    "low_s": "end of its range", "high_s": "the other", "peak_bytes": "most memory that torch's allocator holds",
}  # fmt: skip


def layer_operators(step: PreparedStep, case: LayerCase) -> tuple[Op, ...]:
    """What the case runs of the one layer of a model, or of its head; experts' products with the spread of its rows."""
    units = {unit.kind: unit for unit in step.workload.stages[0].units}
    if case.kind == "head":
        return tuple(units["head"].ops())
    unit, is_ffn = units["moe" if case.kind == "moe" else "dense"], case.kind in ("moe", "dense")
    own = (
        op for op in unit.ops()
        if not op.name.startswith("embedding") and op.name.startswith(FFN) == is_ffn and not op.name.endswith(OF_STEP)
    )  # fmt: skip
    return tuple(each for op in own for each in (_as_loaded(op, case.rows) if case.rows else (op,)))


def _as_loaded(op: Op, counts: Sequence[int]) -> Iterator[Op]:
    """A product of experts with the spread of their rows, and what FP8 products need more for it."""
    rows_cv = uneven(tuple(counts))
    if op.shape.op != "grouped_gemm" or not rows_cv:
        yield with_rows(op, counts) if op.name.startswith("expert") else op
        return
    loaded = replace(op, shape=replace(op.shape, rows_cv=rows_cv))
    if op.shape.dtype == "fp8-row":
        yield from _spread_columns(op, loaded)
    elif (
        op.shape.library == LOOP and op.shape.variant != "wgrad" and not list(spread(op))
    ):  # or it stands there already
        yield from spread(loaded)
    yield loaded


def _spread_columns(op: Op, loaded: Op) -> Iterator[Op]:
    """Of rows quantised by columns: the input forward, the result's gradient in front of wgrad; what even rows need already."""
    name, width = {
        "fprop": (f"{op.name}_input", op.shape.k), "wgrad": (f"{op.name.removesuffix('_wgrad')}_grad", op.shape.m),
    }.get(op.shape.variant, ("", 0))  # fmt: skip
    if width and not list(spread_rows(name, op, width, op.phase)):
        yield from spread_rows(name, loaded, width, op.phase)


def in_pass(ops: Iterable[Op], phase: str) -> Iterator[Op]:
    """F, I, B (I and W together) or W: where one of both alone is run, kernels that serve both are others."""
    for op in ops:
        if phase == "W":
            yield from moesim_own.weights_alone(op)
        elif op.phase == phase or (phase == "B" and op.phase != "F"):
            yield moesim_own.input_alone(op) if phase == "I" else op


def operator_seconds(step: PreparedStep, op: Op) -> float:
    """One operator alone at the speed of a chip's first launches, the gaps behind its kernels included."""
    return step.kernels.unshared_seconds(op).seconds + op.shape.num_kernels * step.kernels.gap_s


def layer_rows(cases: Iterable[LayerCase], stack: str, node: str) -> Iterator[dict[str, Any]]:
    """A row a case and pass. Raises InputError."""
    for case in cases:
        step = prepare(layer_scenario(case, stack, node))
        ops = layer_operators(step, case)
        for phase in ("F", "I", "B", "W"):
            own = list(in_pass(ops, phase))
            yield {
                "name": case.name, "phase": phase, "seconds": fsum(operator_seconds(step, op) for op in own),
                "launches": sum(op.shape.num_kernels for op in own),
            }  # fmt: skip


def step_rows(cases: Iterable[StepCase], stack: str, node: str) -> Iterator[dict[str, Any]]:
    """A row a case. Raises InputError."""
    for case in cases:
        scenario = step_scenario(case, stack, node)
        result: StepResult = simulate_step(scenario)
        found = result.step
        (rank,) = found.by_rank
        yield {
            "name": case.name, "forward_s": rank.forward_s, "backward_s": rank.backward_s, "optimizer_s": rank.optimizer_s,
            "step_s": found.step_s, "low_s": found.interval.low, "high_s": found.interval.high,
            "peak_bytes": allocated(prepare(scenario)),
        }  # fmt: skip


def allocated(step: PreparedStep) -> int:
    """The fullest instant of what torch allocates: named tensors without the context, what the libraries hold, and what a graph
    keeps for itself.
    """
    (rank,) = rank_memories(memory_question(step), order_of_actions(step.scenario))
    return sum(size for name, size in rank.tensors.items() if name not in (*OUTSIDE, *OF_GRAPHS))
