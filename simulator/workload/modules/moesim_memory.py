"""What the torch model's functions have in memory while a block is at work, beside what every software keeps and works on.

Its chains compute in FP32; a product writes a weight's gradient in BF16, beside which stands the FP32 one that it is cast to,
and which is added to the sum of the micro-batches before, where there are any. One instant of a block counts, the fullest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from simulator.scenario.model import ModelSpec
from simulator.workload.modules import moesim_own
from simulator.workload.modules.chains import BF16, FP32
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import BlockMemory, Tensor, total_bytes

ACTIVATION: Final = 2 * FP32
"""Bytes of a number of the activation's output, forward: the gate, its silu."""
ACTIVATION_BWD: Final = 4 * FP32 + BF16
"""Gate, sigmoid, value, slope, and the output's gradient; of routed experts that times the row's weight in FP32 beside them."""
BY_ROWS: Final = 2 * FP32
"""Of a number that fp8-row quantises by columns: its scale, spread to its row, and the quotient."""
LOSS_ROWS: Final = 1024
"""Tokens of a piece of the loss."""
STAYS: Final = "residual_grad"
"""What a block works on from its first function to its last."""


def with_torch_functions(
    blocks: Iterable[BlockMemory], model: ModelSpec, r: ActivationRecipe
) -> tuple[BlockMemory, ...]:
    """The blocks of a part with what its functions have more than a block's other instants."""
    return tuple(_with(block, model, r) for block in blocks)


def _with(block: BlockMemory, model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    forward, backward = _of_block(block.name, model, r)
    more = forward - total_bytes(block.working_forward)
    more_back = backward - total_bytes(each for each in block.working_backward if STAYS not in each.name)
    return replace(
        block,
        working_forward=(*block.working_forward, Tensor(f"{block.name}.functions", max(0, more))),
        working_backward=(*block.working_backward, Tensor(f"{block.name}.functions_bwd", max(0, more_back))),
    )


def _of_block(name: str, model: ModelSpec, r: ActivationRecipe) -> tuple[int, int]:
    """Bytes forward and backward."""
    if name == "moe_ffn":
        moe = model.moe
        assert moe is not None
        if _is_gated(model, r, "expert"):
            forward, back = _gated(r.tokens * moe.top_k, model.hidden_size, moe.expert_intermediate_size)
            return forward, back + BF16 * r.tokens * model.hidden_size  # the input's gradient by token
        numbers = r.tokens * moe.top_k * moe.expert_intermediate_size
        weights = moe.num_routed_experts * moe.num_up * moe.expert_intermediate_size * model.hidden_size
        rows, up = r.tokens * moe.top_k, moe.num_up * moe.expert_intermediate_size
        forward, back = (_quantised(rows * max(model.hidden_size, width), r) for width in (0, up))
        return max(ACTIVATION * numbers, forward), max((ACTIVATION_BWD + FP32) * numbers, _casts(weights, r), back)
    if name == "dense_ffn":
        dense = model.dense_ffn
        assert dense is not None
        if _is_gated(model, r, "ffn"):
            return _gated(r.tokens, model.hidden_size, dense.intermediate_size)
        numbers = r.tokens * dense.intermediate_size
        weights = dense.num_up * dense.intermediate_size * model.hidden_size
        back = _quantised(r.tokens * dense.num_up * dense.intermediate_size, r)
        return ACTIVATION * numbers, max(ACTIVATION_BWD * numbers, _casts(weights, r), back)
    if name == "head":
        logits, piece = r.tokens * model.vocab_size, min(LOSS_ROWS, r.tokens) * model.vocab_size
        weights = _casts(model.vocab_size * model.hidden_size, replace(r, act_dtype="bf16"))
        return 3 * FP32 * piece, BF16 * logits + max(2 * FP32 * piece, weights)
    return 0, 0


def _is_gated(model: ModelSpec, r: ActivationRecipe, name: str) -> bool:
    return moesim_own.is_gated(model, r.own_gemms and r.act_dtype != "bf16", name)


def _gated(rows: int, hidden: int, width: int) -> tuple[int, int]:
    """Of a network that is one function: its result; at the end of its backward, all operands that it made: the result's
    gradient and the input both ways (of the input, transposed alone), the product's gradient, the activation's both ways, and
    the input's gradient.
    """
    back = hidden * (3 * moesim_own.IN_FP8 + BF16) + width * (BF16 + 4 * moesim_own.IN_FP8)
    return BF16 * rows * hidden, round(rows * back)


def _quantised(numbers: int, r: ActivationRecipe) -> int:
    """Of an operand that fp8-row quantises."""
    return BY_ROWS * numbers if r.act_dtype == "fp8-row" else 0


def _casts(weights: int, r: ActivationRecipe) -> int:
    """Of a weight's gradient: the BF16 one that is cast; with a sum of earlier micro-batches the FP32 one that is added to it.
    Products of fp8-blockwise write FP32.
    """
    written = BF16 if r.act_dtype in ("bf16", "fp8-row") else 0
    return weights * (written + (FP32 if r.accumulates else 0))
