"""Embedding, output head with its loss, and the extra of a multi-token-prediction module. Heads run in BF16."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.workload import counting as c
from simulator.workload.layers.linear import dgrad_with_operands
from simulator.workload.op import Op
from simulator.workload.recipe import Recipe


def embedding_forward(hidden: int, r: Recipe) -> Iterator[Op]:
    """Looks up one row a token."""
    yield c.moved("embedding", "embedding", "F", 2 * r.tokens * hidden, 2 * r.tokens * hidden)


def embedding_backward(hidden: int, r: Recipe) -> Iterator[Op]:
    """Adds the gradient to one FP32 row a token."""
    yield c.moved("embedding_wgrad", "embedding_bwd", "W", 6 * r.tokens * hidden, 4 * r.tokens * hidden)


def head_forward(hidden: int, vocab: int, r: Recipe) -> Iterator[Op]:
    """Final norm, logits, fused cross-entropy: the loss reads the logits and leaves their gradient's input in place."""
    t = r.tokens
    yield c.rmsnorm("final_norm", t, hidden)
    yield c.fprop("head", "bf16", t, vocab, hidden)
    yield c.moved("loss", "cross_entropy", "F", 2 * t * vocab, 2 * t * vocab, rows=t)


def head_backward_input(hidden: int, vocab: int, r: Recipe) -> Iterator[Op]:
    """Gradient of the logits, then of the hidden state."""
    t = r.tokens
    yield c.moved("loss_bwd", "cross_entropy_bwd", "I", 2 * t * vocab, 2 * t * vocab, rows=t)
    yield c.dgrad("head_dgrad", "bf16", t, vocab, hidden)
    yield c.rmsnorm_bwd("final_norm_bwd", t, hidden)


def head_backward_weight(hidden: int, vocab: int, r: Recipe) -> Iterator[Op]:
    """Gradient of the head."""
    yield c.wgrad("head_wgrad", "bf16", r.tokens, vocab, hidden)


def mtp_forward(hidden: int, r: Recipe) -> Iterator[Op]:
    """Multi-token prediction: embedding of the next token, two norms, concatenation, projection 2h → h."""
    t = r.tokens
    yield from embedding_forward(hidden, r)
    yield c.rmsnorm("mtp_hidden_norm", t, hidden)
    yield c.rmsnorm("mtp_embedding_norm", t, hidden)
    yield c.copy("mtp_concat", 2 * t * hidden, 2 * t * hidden)
    if r.is_fp8:
        yield c.quantise("mtp_proj_quantise", t, 2 * hidden)
    yield c.fprop("mtp_proj", r.gemm_dtype, t, hidden, 2 * hidden)


def mtp_backward_input(hidden: int, r: Recipe) -> Iterator[Op]:
    """Input gradient of the same."""
    t = r.tokens
    yield from dgrad_with_operands(r, "mtp_proj", hidden, 2 * hidden)
    yield c.copy("mtp_split", 2 * t * hidden, 2 * t * hidden, "I")
    yield c.rmsnorm_bwd("mtp_hidden_norm_bwd", t, hidden)
    yield c.rmsnorm_bwd("mtp_embedding_norm_bwd", t, hidden)


def mtp_backward_weight(hidden: int, r: Recipe) -> Iterator[Op]:
    """Gradient of the projection and of the embedding row."""
    yield c.wgrad("mtp_proj_wgrad", r.gemm_dtype, r.tokens, hidden, 2 * hidden)
    yield from embedding_backward(hidden, r)


def mtp_params(hidden: int) -> int:
    """Projection and three norms (of the hidden state, of the embedding, before the head)."""
    return 2 * hidden * hidden + 3 * hidden
