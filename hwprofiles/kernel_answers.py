"""Seconds of single kernels on a stack, in a burst or for hours: what `moesim kernels` answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hwprofiles.catalog import load_gpu
from hwprofiles.kernel_list import ANSWERS, SIZES, Asked, Clock
from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.gemm import gemm_size
from hwprofiles.kernels.gemm_formula import moved_bytes as gemm_bytes
from hwprofiles.kernels.parameters import MissingKernelError, Range
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.power.constants import PowerConstants, power_constants
from hwprofiles.power.model import Load, solve
from hwprofiles.power.states import speed_when_measured
from hwprofiles.schema import Gpu
from hwprofiles.stack_records import Stack

ELEMENT_BYTES: Final = 2.0
"""Of an attention core's queries, keys, values and results."""


@dataclass(frozen=True)
class KernelAnswers:
    """Answers for one stack."""

    stack: Stack
    gpu: Gpu = field(init=False)
    power: PowerConstants = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gpu", load_gpu(self.stack.gpu))
        object.__setattr__(self, "power", power_constants(self.stack, self.gpu))

    def row(self, asked: Asked) -> dict[str, Any]:
        """The row's own columns, and seconds, low, high and basis, or the error."""
        own = {column: _value(column, text) for column, text in asked.cells.items()}
        try:
            cost = self.cost(asked.shape, asked.clock)
        except MissingKernelError as error:
            return {**own, "error": str(error)}
        return {**own, "seconds": cost.seconds, "low": cost.low, "high": cost.high, "basis": cost.basis}

    def cost(self, shape: KernelShape, clock: Clock = "burst") -> KernelCost:
        """One call alone on the GPU. Raises MissingKernelError: the stack has nothing of it, or the GPU lacks the format."""
        cost = kernel_seconds(shape, self.stack, self.gpu, "alone")
        factor = self._factor(cost, shape, clock)
        return cost if factor == 1.0 else cost.scaled(Range(factor, factor, factor))

    def _factor(self, cost: KernelCost, shape: KernelShape, clock: Clock) -> float:
        """Seconds asked for over those in the state of the measurement; 1 of what a short benchmark measured.

        A chip that runs this kernel alone for long has the speed at which its power meets the limit of its board.
        """
        state = cost.state or self.stack.provenance.state
        if shape.bound == "memory" or (clock == "burst" and state != "sustained") or not cost.seconds:
            return 1.0
        power, usual = self.power, self.power.chip(self.power.usual_w)
        flop_j, byte_j = power.flop_j(shape, shape.flop or shape.flop_of_sizes), power.byte_j(moved_bytes(shape))
        speed = speed_when_measured(cost.seconds, state, flop_j, byte_j, usual, power.value("loop_share"))
        if clock == "burst":
            return speed
        load = Load(cost.seconds * speed, 0.0, flop_j, byte_j)
        return max(1.0, speed / solve(load, power.chip(power.tdp_w)))


def moved_bytes(shape: KernelShape) -> float:
    """Bytes of operands and results, each once."""
    if shape.bound == "gemm":
        return gemm_bytes(gemm_size(shape))
    if shape.bound == "attention":
        queries, keys = shape.batch * shape.seq * shape.heads, shape.batch * shape.seq * (shape.kv_heads or shape.heads)
        one_way = (queries + keys) * (shape.head_dim_qk + shape.head_dim_v) * ELEMENT_BYTES
        return one_way if shape.op == "attention_fwd" else 2.0 * one_way
    return float(shape.bytes)


def answered_rows(stack: Stack, rows: tuple[Asked, ...]) -> Iterator[dict[str, Any]]:
    """An answer a row, in the rows' order."""
    answers = KernelAnswers(stack)
    return (answers.row(row) for row in rows)


def csv_cells(row: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """A row's cells as they stood in the file, with the answer's."""
    return {**asked.cells, **{name: row.get(name, "") for name in ANSWERS}}


def _value(column: str, text: str) -> Any:
    """A cell as JSON has it: sizes as numbers, causal as a truth value, an empty one as null."""
    if not text:
        return None
    if column in SIZES:
        return int(float(text))
    return text.lower() == "true" if column == "causal" else text
