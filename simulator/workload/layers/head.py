"""Code L of a layout: the output head with its loss. Heads run in BF16.

Under tensor parallelism a rank has its share of the vocabulary: its logits of all tokens, whose maximum, sum of exponentials
and target are reduced over the ranks (Megatron-LM core/tensor_parallel/cross_entropy.py, three FP32 numbers a token). Or all
logits are gathered, and every rank takes the whole loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from simulator.scenario.model import ModelSpec
from simulator.workload import counting as c
from simulator.workload.layers import tensor_parallel as tp
from simulator.workload.layers.part import PARTS, Params, Part, Shard, Vocabulary
from simulator.workload.op import Collective, Op, Unit, Work
from simulator.workload.recipe import Loss, Recipe
from simulator.workload.saved import ActivationRecipe, BlockBuilder, bf16
from simulator.workload.tensors import BlockMemory, Tensor, tensor_bytes

Moved: TypeAlias = tuple[int, int, int]
LOSS_REDUCTIONS = ("logits_max", "target_logit", "sum_exp")
"""One FP32 number a token each."""
PASSES: Final[Mapping[Loss, tuple[Moved, Moved]]] = {
    "fused": ((2, 2, 1), (2, 2, 1)),
    "compiled": ((2 + 2 * 4, 3 * 4, 3), (4, 4 + 2, 2)),
    "unfused": ((2 + 5 * 4, 4 * 4, 6), (4 + 4, 4 + 2, 2)),
}
"""Bytes of a logit read and written, and kernels, forward and backward. fused: BF16 logits in, their gradient out. unfused:
conversion to FP32, maximum, difference, exponential, sum, division, each a pass over FP32 logits (Megatron-LM
core/tensor_parallel/cross_entropy.py, calculate_logits_max to calculate_cross_entropy_loss); backward the probabilities times
the loss's gradient (calculate_gradients), converted to BF16. compiled: core/fusions/fused_cross_entropy.py (23e00ed), of each
function one kernel that reads its input once and writes what it returns: FP32 logits with their maximum; exponentials with
their sum; quotients. Backward one that writes the product in place and in BF16, and the target's.
"""


def forward(hidden: int, vocab: int, r: Recipe) -> Iterator[Work]:
    """Final norm, logits, loss; in chunks of tokens with the head's gradients behind each.

    vocab: columns of the rank.
    """
    t = r.tokens
    yield c.rmsnorm("final_norm", r.sequence_tokens, hidden)
    yield from tp.gather_input("head", hidden, r, dtype="bf16", chunked=False)
    if r.head_chunk is None:
        yield from _logits_and_loss("", t, hidden, vocab, r)
        return
    for i, first in enumerate(range(0, t, r.head_chunk)):
        tokens = min(r.head_chunk, t - first)
        yield from _logits_and_loss(f"_{i}", tokens, hidden, vocab, r)
        for each in _gradients(f"_{i}", tokens, hidden, vocab, r):
            yield replace(each, phase="F")


def _logits_and_loss(chunk: str, t: int, hidden: int, vocab: int, r: Recipe) -> Iterator[Work]:
    """Of t tokens. chunk: ends the names."""
    yield c.fprop(f"head{chunk}", "bf16", t, vocab, hidden)
    columns = _loss_columns(vocab, r)
    if columns != vocab:
        yield Collective(f"logits_gather{chunk}", "all_gather", "tp", 2 * t * columns, "F")
    read, written, kernels = PASSES[r.loss][0]
    yield c.moved(f"loss{chunk}", "cross_entropy", "F", read * t * columns, written * t * columns, kernels=kernels)
    if r.tp > 1 and columns == vocab:
        for name in LOSS_REDUCTIONS:
            yield Collective(f"{name}_reduce{chunk}", "all_reduce", "tp", 4 * t, "F")


def _logits_grad(chunk: str, t: int, vocab: int, r: Recipe) -> Iterator[Op]:
    columns = _loss_columns(vocab, r)
    read, written, kernels = PASSES[r.loss][1]
    yield c.moved(
        f"loss_bwd{chunk}", "cross_entropy_bwd", "I", read * t * columns, written * t * columns, kernels=kernels
    )
    if columns != vocab:
        yield c.copy(f"logits_grad_slice{chunk}", t * vocab, t * vocab, "I")


def _gradients(chunk: str, t: int, hidden: int, vocab: int, r: Recipe) -> Iterator[Op]:
    """Of a chunk's logits, hidden state and matrix: the matrix's is read and written once a chunk."""
    yield from _logits_grad(chunk, t, vocab, r)
    yield c.dgrad(f"head_dgrad{chunk}", "bf16", t, vocab, hidden)
    yield c.wgrad(f"head_wgrad{chunk}", "bf16", t, vocab, hidden)


def backward_input(hidden: int, vocab: int, r: Recipe) -> Iterator[Work]:
    """Gradient of the logits, then of the hidden state; of chunks that is there, but for its sum over the ranks."""
    if r.head_chunk is None:
        yield from _logits_grad("", r.tokens, vocab, r)
        yield from tp.gather_input_again("head", hidden, r, dtype="bf16")
        yield c.dgrad("head_dgrad", "bf16", r.tokens, vocab, hidden)
        yield from tp.reduce_input_grad("head", hidden, r)
    else:
        for each in tp.reduce_input_grad("head", hidden, r):
            yield replace(each, beside="") if isinstance(each, Collective) else each
    yield c.rmsnorm_bwd("final_norm_bwd", r.sequence_tokens, hidden)


def _loss_columns(vocab: int, r: Recipe | ActivationRecipe) -> int:
    """Logits of a token that a rank takes the loss of. vocab: columns of the rank."""
    return vocab * r.tp if r.gathers_logits else vocab


def backward_weight(hidden: int, vocab: int, r: Recipe) -> Iterator[Op]:
    """Gradient of the head, where the forward has not computed it."""
    if r.head_chunk is None:
        yield c.wgrad("head_wgrad", "bf16", r.tokens, vocab, hidden)


def head_unit(model: ModelSpec, name: str, r: Recipe) -> Unit:
    """One pass through the head and its loss."""
    h, v = model.hidden_size, model.vocab_size // r.tp
    return Unit(
        name, "head",
        {
            "mlp_f_local": tuple(forward(h, v, r)),
            "mlp_b_local": tuple(backward_input(h, v, r)),
            "mlp_w": tuple(backward_weight(h, v, r)),
        },
    )  # fmt: skip


def params(model: ModelSpec, shard: Shard) -> Params:
    """Final norm and matrix; a tied head computes with the embedding's."""
    norm, matrix = model.norm_params, model.vocab_size // shard.tp * model.hidden_size
    return Params(dense=norm + (0 if model.tied_embeddings else matrix), gemm=matrix, replicated=norm)


def vocabulary(model: ModelSpec) -> frozenset[Vocabulary]:
    """The matrix of the head."""
    return frozenset(("embedding",) if model.tied_embeddings else ("head",))


def head_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """Final norm, logits and loss."""
    h, s, vocab = model.hidden_size, r.sequence_tokens, model.vocab_size // r.tp
    block = BlockBuilder("head", r)
    block.keep("head.input", "bf16", s * h)
    columns = _loss_columns(vocab, r)
    if r.head_chunk is None:
        _keep_logits(block, s * h, columns)
    else:
        _compute_chunks(block, h, columns, r.head_chunk)
    if r.makes_weight_gradients:
        (block.backward if r.head_chunk is None else block.forward).append(bf16("head.weight_grad", vocab * h))
    block.backward.append(bf16("head.norm_out_grad", s * h))
    return block.build()


def _keep_logits(block: BlockBuilder, normed: int, columns: int) -> None:
    """Logits of the micro-batch until the weight gradient. normed: elements of the final norm's output; columns: the loss's."""
    r = block.recipe
    t = r.tokens
    block.operand("head.norm_out", normed, recomputed="rmsnorm" in r.recompute, dtype="bf16")
    logits = Tensor("head.logits", tensor_bytes("bf16", t * columns), "W")
    (block.outputs if r.keeps_outputs else block.saved).append(logits)
    if not r.is_loss_fused:
        block.keep("head.probabilities", "fp32", t * columns)
        # Megatron-LM converts the logits to FP32 before its loss (vocab_parallel_cross_entropy on logits.float()).
        block.forward.append(Tensor("head.logits_fp32", tensor_bytes("fp32", t * columns)))
        block.backward.append(bf16("head.logits_grad", t * columns))
        if r.is_eager:
            block.backward.append(Tensor("head.logits_grad_fp32", tensor_bytes("fp32", t * columns)))


def _compute_chunks(block: BlockBuilder, hidden: int, columns: int, chunk: int) -> None:
    """Logits of a chunk while it is computed; the input's gradient, of all tokens, until the backward."""
    r = block.recipe
    tokens = min(chunk, r.tokens)
    block.keep("head.input_grad", "bf16", r.tokens * hidden)
    block.forward += [bf16("head.norm_out", r.tokens * hidden), bf16("head.logits", tokens * columns)]
    if not r.is_loss_fused:
        block.forward += [
            Tensor(f"head.{name}", tensor_bytes("fp32", tokens * columns)) for name in ("logits_fp32", "probabilities")
        ]
        block.forward.append(bf16("head.logits_grad", tokens * columns))


HEAD = PARTS.add(
    "L",
    Part(
        params, lambda model, r: (head_unit(model, "head", r),),
        lambda model, r: (head_block(model, r),), vocabulary, holds=frozenset(("head",)),
    ),
)  # fmt: skip
