"""Products of the torch model with what its formats put around them.

BF16: a weight's gradient is written in BF16 and cast to FP32. fp8-blockwise: operands are quantised by one kernel each of this
project, in tiles of 1x128 for fprop and dgrad, in tiles of 128 tokens and transposed for wgrad; the kept input is read back in
FP8; experts are a launch each of the library, behind which their results are joined. With this project's products too:
moesim_own.py. fp8-row: moesim_rows.py. Router and head stay in BF16.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from hwprofiles.kernels.shape import LOOP
from simulator.scenario.model import ModelSpec
from simulator.workload import counting as c
from simulator.workload.modules import moesim_own, moesim_rows
from simulator.workload.modules.chains import (
    BF16,
    FP32,
    OWN,
    TORCH,
    added,
    chain,
    narrowed,
    smalls,
    strided,
    summed,
    widened,
)
from simulator.workload.op import Op
from simulator.workload.recipe import Recipe

PLAIN: Final = ("router", "head")
"""Products that no recipe quantises."""
JOINED_INPUT: Final = {"kv_down": "q_down"}
"""Layer → the one that has quantised their common input."""
QUANTISED: Final = (29, 7)
"""Bytes of a weight in blocks of 128x128 by torch's functions, and launches: sizes (8), the largest of each block (4),
quotients (8), conversion (5) and what finds the scales."""
TURNED: Final = 2
"""Bytes of an FP8 weight copied transposed for dgrad."""
NETWORKS: Final = ("ffn_", "shared_", "expert_")
"""Beginnings of the names of feed-forward networks' layers."""
WEIGHT_CAST, WEIGHT_TURN = "_weight_cast", "_weight_turn"
"""Ends of the names of what is made of a weight once a step."""


@dataclass(frozen=True, slots=True)
class Linears:
    """share: as of place.Place."""

    model: ModelSpec
    recipe: Recipe
    share: float

    def of(self, op: Op, stem: str) -> Iterator[Op]:
        """A product and the kernels of its own operands and result, in the passes in which they run."""
        variant = op.shape.variant
        layer = stem.removesuffix(f"_{variant}")
        is_quantised = op.shape.dtype != "bf16"
        if op.shape.dtype == "fp8-row":
            yield from self._row_wgrad(op, layer) if variant == "wgrad" else self._rows(op, layer)
        elif is_quantised and self.recipe.own_gemms:
            yield from self._own_wgrad(op, layer) if variant == "wgrad" else self._own(op, layer)
        elif variant == "wgrad":
            yield from self._fp8_wgrad(op, layer) if is_quantised else self._wgrad(op, layer)
        elif is_quantised:
            yield from self._fp8(op, layer)
        elif layer == "router":
            yield _written(op, "fp32")
            if variant == "dgrad":
                yield narrowed("router_input_grad", op.shape.m * op.shape.n, "I")
        else:
            if op.shape.groups > 1 and variant == "fprop":  # where each expert's rows end: a running sum, in 32 bits
                yield from smalls(f"{op.name}_ends", op.phase, 32 * op.shape.groups, 3)
            yield op
        if variant == "fprop" and layer in ("ffn_down", "mlp_down"):
            yield added("ffn_residual", op.shape.m * op.shape.n, op.phase)
        if layer == "expert_down" and variant == "fprop":
            yield added("ffn_residual", self.recipe.tokens * self.model.hidden_size, op.phase)

    def _wgrad(self, op: Op, layer: str) -> Iterator[Op]:
        numbers = op.shape.m * op.shape.n * op.shape.groups
        if layer == "router":
            yield replace(_written(op, "fp32"), phase="W")
            yield narrowed("router_grad_narrow", numbers, "W")
        else:
            yield _written(op, "bf16")
        yield widened(f"{layer}_grad_cast", numbers, "W")
        yield from summed(f"{layer}_grad_sum", numbers, self.share)

    def _fp8(self, op: Op, layer: str) -> Iterator[Op]:
        """fprop or dgrad: the left operand in tiles, then the product."""
        shape, is_grouped = op.shape, op.shape.groups > 1
        yield from self._weight(op, layer)
        if not (shape.variant == "fprop" and layer in JOINED_INPUT):
            yield moesim_own.by_rows(f"{op.name}_quantise", shape.m, shape.k, op.phase)
        if not is_grouped:
            yield op
            return
        yield from spread(op)
        scales = FP32 * shape.m * shape.k // c.FP8_BLOCK
        yield chain(f"{op.name}_scales", "copy", op.phase, 2 * scales, kernels=shape.groups, library=OWN, dtype="fp32")
        yield _in_loop(op)
        yield chain(f"{op.name}_join", "copy", op.phase, 2 * BF16 * shape.m * shape.n, elements=shape.m * shape.n)

    def _weight(self, op: Op, layer: str) -> Iterator[Op]:
        """The weight in FP8 by torch's functions, when a step's first micro-batch reads it: in blocks, and turned for dgrad; by
        rows and by columns, these turned, at once.
        """
        shape, first = op.shape, 1.0 - self.recipe.accumulated
        if op.name.endswith("_recompute"):
            return
        if self.recipe.own_gemms:
            if shape.variant == "fprop":
                yield moesim_own.weight(f"{layer}{WEIGHT_CAST}", shape.n * shape.k * shape.groups, first)
            else:
                yield moesim_own.weight_scales(f"{layer}{WEIGHT_TURN}", shape.n * shape.k * shape.groups, first)
            return
        numbers, is_by_rows = shape.n * shape.k * shape.groups, shape.dtype == "fp8-row"
        if shape.variant == "fprop":
            size, launches = moesim_rows.WEIGHT if is_by_rows else QUANTISED
            yield chain(
                f"{layer}{WEIGHT_CAST}", "quantise", op.phase, size * numbers * first, kernels=max(1, round(launches * first)),
                library=TORCH, variant="weight", dtype=shape.dtype,
            )  # fmt: skip
        if (shape.variant == "fprop") == is_by_rows:
            yield chain(
                f"{layer}{WEIGHT_TURN}", "transpose", op.phase, TURNED * numbers * first, elements=round(numbers * first),
                library=TORCH, dtype="fp8",
            )  # fmt: skip

    def _fp8_wgrad(self, op: Op, layer: str) -> Iterator[Op]:
        shape, numbers = op.shape, op.shape.m * op.shape.n * op.shape.groups
        if self._is_kept(layer):
            yield moesim_own.by_rows(f"{layer}_quantise_again", shape.k, shape.n, "W")
        if layer not in JOINED_INPUT:
            yield moesim_own.by_columns(f"{layer}_input_turn", shape.k, shape.n, "W", of_fp8=True)
        yield moesim_own.by_columns(f"{layer}_grad_turn", shape.k, shape.m, "W")
        written = _written(op, "fp32")
        yield _in_loop(written) if shape.groups > 1 else written
        if shape.groups > 1:
            yield chain(
                f"{layer}_grad_copy", "copy", "W", 2 * FP32 * numbers, kernels=shape.groups, library=OWN, dtype="fp32"
            )
        yield from summed(f"{layer}_grad_sum", numbers, self.share)

    def _own(self, op: Op, layer: str) -> Iterator[Op]:
        """fprop or dgrad by this project's kernels: a gradient is quantised both ways at once; within a network that is one
        function the activation makes the operands of what is behind it, and the permutation those of experts.
        """
        shape, is_gated = op.shape, self._is_gated(layer)
        yield from self._weight(op, layer)
        name = f"{op.name}_quantise"
        if shape.variant == "fprop":
            if layer not in JOINED_INPUT and not (is_gated and (layer.endswith("_down") or layer == "expert_up")):
                yield moesim_own.by_rows(name, shape.m, shape.k, op.phase)
        elif not (is_gated and (layer.endswith("_up") or layer == "expert_down")):
            yield moesim_own.both_ways(name, shape.m, shape.k, op.phase)
        yield op

    def _own_wgrad(self, op: Op, layer: str) -> Iterator[Op]:
        """The first micro-batch's is written, the others' are added to it."""
        shape, is_gated = op.shape, self._is_gated(layer)
        if self._is_kept(layer) and not is_gated:
            yield moesim_own.by_rows(f"{layer}_quantise_again", shape.k, shape.n, "W")
        if layer not in JOINED_INPUT:
            yield moesim_own.by_columns(f"{layer}_input_turn", shape.k, shape.n, "W", of_fp8=True)
        if is_gated and layer == "expert_down":
            yield from moesim_own.tokens_turned(layer, shape.k, shape.m)
        yield op if self.share else _written(op, "fp32")

    def _is_gated(self, layer: str) -> bool:
        return layer.startswith(NETWORKS) and moesim_own.is_gated(self.model, self.recipe.own_gemms, layer)

    def _rows(self, op: Op, layer: str) -> Iterator[Op]:
        """fprop or dgrad by rows; forward the input by columns too, which is kept for wgrad, unless it is kept as it was."""
        shape, is_joined = op.shape, op.shape.variant == "fprop" and layer in JOINED_INPUT
        yield from self._weight(op, layer)
        if not is_joined:
            yield moesim_rows.by_rows(f"{op.name}_quantise", shape.m * shape.k, op.phase)
        if shape.variant == "fprop" and not is_joined and not self._is_kept(layer):
            yield from moesim_rows.spread_rows(f"{layer}_input", op, shape.k, op.phase)
            yield from moesim_rows.by_columns(f"{layer}_input", op, shape.k, op.phase)
        yield op

    def _row_wgrad(self, op: Op, layer: str) -> Iterator[Op]:
        shape = op.shape
        if self._is_kept(layer):
            yield moesim_rows.by_rows(f"{layer}_quantise_again", shape.k * shape.n, "W")
            yield from moesim_rows.spread_rows(f"{layer}_input", op, shape.n, "W")
            yield from moesim_rows.by_columns(f"{layer}_input", op, shape.n, "W")
        yield from moesim_rows.gradient(op, layer)
        yield from self._wgrad(op, layer)

    def _is_kept(self, layer: str) -> bool:
        """Whether a product keeps its input as it came, and quantises it again for wgrad."""
        return layer == "o" or ("swiglu" in self.recipe.recompute and layer.endswith("_down"))


def spread(op: Op) -> Iterator[Op]:
    """Of a product of experts the left operand where their rows are no multiples of 4: zeros, and the rows copied into them."""
    if op.shape.rows_cv or (op.shape.m // op.shape.groups) % 4:
        numbers = op.shape.m * op.shape.k
        yield chain(f"{op.name}_zeros", "fill", op.phase, numbers, dtype="fp8")
        yield strided(f"{op.name}_spread", numbers, op.phase, kernels=3)


def _in_loop(op: Op) -> Op:
    """A launch for each group."""
    return replace(op, shape=replace(op.shape, library=LOOP, num_kernels=op.shape.groups))


def _written(op: Op, result: str) -> Op:
    """The product, whose result is written and not added to anything."""
    shape = op.shape
    size = {"bf16": BF16, "fp32": FP32}[result] * shape.m * shape.n * (shape.groups if shape.variant == "wgrad" else 1)
    read = op.bytes_read
    if shape.variant == "wgrad":  # what every other software adds to, in FP32
        read -= FP32 * shape.m * shape.n * shape.groups
    return replace(
        op, shape=replace(shape, result=result, bytes=read + size), bytes_read=read, bytes_written=size
    )  # fmt: skip
