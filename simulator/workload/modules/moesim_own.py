"""This project's FP8 kernels in the torch model (kernels.modules: moesim-torch with kernels.gemm: moesim).

A gradient's two forms are of one kernel, a weight's too. A SwiGLU network whose width is whole tiles is one function
(hwprofiles/calibration/numerics/gated.py): the activation writes FP8, its gradient FP8 both ways; of experts, tokens are
quantised on their way into the experts' order, and results are summed by token on their way back. Backward it makes the
activation's gradient both ways even where weights are frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hwprofiles.kernels.shape import OWN_STREAMS
from simulator.scenario.model import FfnKind, ModelSpec
from simulator.workload import counting as c
from simulator.workload.modules.chains import BF16, FP32, TORCH, chain, small
from simulator.workload.modules.place import Place, activation_width
from simulator.workload.op import Op, Pass

DTYPE: Final = "fp8-block"
IN_FP8: Final = 1 + FP32 / c.FP8_BLOCK
"""Bytes of a number in FP8 with its share of a tile's scale."""
WEIGHT: Final = FP32 + 2
"""Bytes of a weight read in FP32 and written in FP8 twice, the second time transposed."""
OF_FP8, BOTH_WAYS, CAST, OF_WEIGHTS = "of-fp8", "both", "cast", "weight"
"""Variants: transposed of FP8; the activation's gradient in FP8 both ways; rows quantised on their way; weights, both forms."""
SOURCES: Final = "_sources"
"""End of the names of what finds the tokens of an expert's rows for a weight's gradient."""
_JOINT, _TURN = "quantise_joint", "quantise_transpose"


def is_gated(model: ModelSpec, own_gemms: bool, name: str) -> bool:
    """Whether the network to which an operator of that name belongs is one function (numerics/gated.py, can_gate).

    own_gemms: products are this project's.
    """
    kind: FfnKind | None = model.dense_ffn if name.startswith("ffn") else model.moe
    if not own_gemms or kind is None:
        return False
    is_swiglu = kind.activation == "swiglu" and not kind.bias and getattr(kind, "clamp", None) is None
    return is_swiglu and activation_width(model, name) % c.FP8_BLOCK == 0


def by_rows(name: str, rows: int, width: int, phase: Pass) -> Op:
    """BF16 to tiles of 1x128."""
    return _stream(name, "quantise", phase, BF16 + IN_FP8, rows, width)


def both_ways(name: str, rows: int, width: int, phase: Pass) -> Op:
    """The same, and tiles of 128 rows transposed, of one reading."""
    return _stream(name, _JOINT, phase, BF16 + 2 * IN_FP8, rows, width)


def by_columns(name: str, rows: int, width: int, phase: Pass, *, of_fp8: bool = False) -> Op:
    """Tiles of 128 rows transposed, of BF16 or of FP8."""
    each, variant = (2 * IN_FP8, OF_FP8) if of_fp8 else (BF16 + IN_FP8, "")
    return _stream(name, _TURN, phase, each, rows, width, variant)


def weight(name: str, numbers: int, share: float) -> Op:
    """A weight of so many numbers in both forms, in a share of the micro-batches: when a step first reads it."""
    return chain(
        name, "quantise", "F", WEIGHT * numbers * share, elements=round(numbers * share), library=OWN_STREAMS,
        variant=OF_WEIGHTS, dtype=DTYPE,
    )  # fmt: skip


def weight_scales(name: str, numbers: int, share: float) -> Op:
    """Scales of its blocks for dgrad: transposed by a copy."""
    return small(name, "I", 2 * FP32 * numbers * share / c.FP8_BLOCK**2, 1)


def activated(op: Op, place: Place) -> Op:
    """SwiGLU to FP8."""
    width, rows = place.activation(op.name)
    made = _stream(op.name, "swiglu", op.phase, 2 * BF16 + IN_FP8, rows, width)
    return replace(made, routed=op.name.startswith("expert"))


def activated_back(op: Op, place: Place) -> Iterator[Op]:
    """Its gradient to FP8 both ways; of experts the rows' weights get theirs, summed over parts of 128 numbers."""
    width, rows = place.activation(op.name)
    made = _stream(op.name, "swiglu_bwd", "I", 3 * BF16 + 4 * IN_FP8, rows, width, BOTH_WAYS)
    is_routed = op.name.startswith("expert")
    yield replace(made, routed=is_routed)
    if is_routed:
        parts = width // c.FP8_BLOCK
        yield chain(
            "row_weights_sum", "reduce_columns", "I", FP32 * rows * (parts + 1), elements=rows * parts, library=TORCH,
            dtype="fp32", width=rows,
        )  # fmt: skip


def to_experts(op: Op, place: Place) -> Iterator[Op]:
    """Tokens, each read once, quantised into the experts' order; forward their places are found first."""
    if op.phase == "F":
        for idx, each in enumerate((8, 24, 16)):  # numbers counted; spread by the order; divided by the tokens' rows
            yield small(f"row_places_{idx}", op.phase, each * place.rows, 1)
    size = BF16 * place.hidden + IN_FP8 * place.rows * place.model.hidden_size
    yield chain(
        op.name, "permute", op.phase, size, elements=place.hidden, library=OWN_STREAMS, variant=CAST, dtype=DTYPE,
        routed=True, width=place.model.hidden_size,
    )  # fmt: skip


def from_experts(op: Op, place: Place) -> Op:
    """Rows summed by token, in FP32."""
    size = BF16 * (place.rows * place.model.hidden_size + place.hidden)
    return chain(
        op.name, "unpermute", op.phase, size, elements=place.rows * place.model.hidden_size, library=OWN_STREAMS,
        dtype=DTYPE, routed=True, width=place.model.hidden_size,
    )  # fmt: skip


def tokens_turned(layer: str, rows: int, width: int) -> Iterator[Op]:
    """The results' gradient of experts, transposed in their order out of the tokens': whose each row is, then the kernel."""
    for idx, size in enumerate((9, 16, 24, 8, 25)):  # compared, held at 0, looked up, a number made, chosen
        yield small(f"{layer}{SOURCES}_{idx}", "W", size * rows if idx != 3 else size, 1)
    yield by_columns(f"{layer}_grad_turn", rows, width, "W")


def input_alone(op: Op) -> Op:
    """What is run in its place where weights are frozen."""
    if op.shape.library == OWN_STREAMS and op.shape.op == _JOINT:
        return by_rows(op.name, op.shape.m, op.shape.n, op.phase)
    return op


def weights_alone(op: Op) -> Iterator[Op]:
    """What is run in its place where only weights get gradients: of rows in the experts' order, which are given."""
    if op.phase == "W":
        if SOURCES not in op.name:
            yield op
    elif op.shape.library == OWN_STREAMS and (op.shape.op == _JOINT or op.shape.variant == BOTH_WAYS):
        twice = 2 if op.shape.variant == BOTH_WAYS else 1
        yield by_columns(f"{op.name}_turn", op.shape.m, twice * op.shape.n, "W")


def _stream(name: str, kernel: str, phase: Pass, each: float, rows: int, width: int, variant: str = "") -> Op:
    """each: bytes of one of rows * width numbers."""
    return chain(
        name, kernel, phase, each * rows * width, elements=rows * width, library=OWN_STREAMS, variant=variant, dtype=DTYPE,
        width=width,
    )  # fmt: skip
