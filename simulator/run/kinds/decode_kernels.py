"""Kernels of one decode step on one GPU by the rows that it has, as the stack's own kernels are asked for few rows.

Attention is by data parallelism and experts lie over the engine, or all of a dense model's GEMMs are cut by tensor
parallelism; attention over the cache, exchanges and sampling are counted elsewhere (decode.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hwprofiles.kernels.shape import KernelShape
from simulator.scenario.model import DenseFfn, GqaAttention, MlaAttention, ModelSpec, MoeFfn
from simulator.workload import counting as c
from simulator.workload.op import Op


@dataclass(frozen=True, slots=True)
class Shares:
    """How an engine divides the model. gemm_dtype: operands of the layers' GEMMs; tp: ranks that share a dense model's layers;
    ep: ranks over which experts lie.
    """

    gemm_dtype: str
    tp: int = 1
    ep: int = 1


def layer_shapes(model: ModelSpec, code: str, rows: int, shares: Shares) -> list[KernelShape]:
    """Kernels of a layer (d: dense FFN, m: experts) but for its routed experts. rows: tokens of the GPU's sequences."""
    ops = [*_attention(model, rows, shares)]
    if code == "d" and model.dense_ffn is not None:
        ops += _ffn(model.hidden_size, model.dense_ffn, model.dense_ffn.intermediate_size // shares.tp, rows, shares)
    elif model.moe is not None:
        ops += _beside_experts(model.hidden_size, model.moe, rows, shares)
    return [op.shape for op in ops]


def expert_shapes(model: ModelSpec, rows: int, shares: Shares) -> list[KernelShape]:
    """Kernels of a layer's routed experts on the GPU. rows: tokens of each GPU of the engine, that many of every one's.

    Experts that no row asks for are not read: of those of the GPU, 1 - (1 - top_k / experts)^(rows * ep) are.
    """
    moe, h = model.moe, model.hidden_size
    assert moe is not None
    held = -(-moe.num_routed_experts // shares.ep)
    missed = (1.0 - moe.top_k / moe.num_routed_experts) ** (rows * shares.ep)
    asked = max(1, round(held * (1.0 - missed)))
    m, width = rows * moe.top_k, moe.expert_intermediate_size
    ops = [
        *_cast(m, h, shares),
        c.grouped(c.fprop("up", shares.gemm_dtype, m, moe.num_up * width, h), asked),
        _activation(m, moe.num_up * width, width),
        *_cast(m, width, shares),
        c.grouped(c.fprop("down", shares.gemm_dtype, m, h, width), asked),
    ]
    return [op.shape for op in ops]


def head_shapes(model: ModelSpec, rows: int, shares: Shares) -> list[KernelShape]:
    """The last norm and the output head, in BF16."""
    head = c.fprop("head", "bf16", rows, -(-model.vocab_size // shares.tp), model.hidden_size)
    return [c.rmsnorm("norm", rows, model.hidden_size).shape, head.shape]


def draft_shapes(model: ModelSpec, rows: int, shares: Shares) -> list[KernelShape]:
    """What an MTP module has beside its layer and its pass through the head: two norms and the projection of both inputs."""
    h = model.hidden_size
    norm = c.rmsnorm("norm", rows, h).shape
    return [norm, norm, c.fprop("projection", "bf16", rows, h, 2 * h).shape]


def _attention(model: ModelSpec, rows: int, shares: Shares) -> Iterator[Op]:
    h, dtype, attention = model.hidden_size, shares.gemm_dtype, model.attention.cut(shares.tp)
    yield c.rmsnorm("norm", rows, h)
    yield from _cast(rows, h, shares)
    if isinstance(attention, MlaAttention):
        yield from _latent_attention(attention, h, rows, shares)
    elif isinstance(attention, GqaAttention):
        heads, kv_heads, size = attention.num_heads, attention.num_kv_heads, attention.head_dim
        yield c.fprop("qkv", dtype, rows, (heads + 2 * kv_heads) * size, h)
        yield c.rope("rope", rows * (heads + kv_heads) * size)
    yield from _cast(rows, attention.output_width, shares)
    yield c.fprop("o", dtype, rows, h, attention.output_width)


def _latent_attention(a: MlaAttention, h: int, rows: int, shares: Shares) -> Iterator[Op]:
    """Up to the core, and from its result in the latent space to the heads' values; what is absorbed stays in BF16."""
    dtype, query = shares.gemm_dtype, a.num_heads * a.query_head_dim
    if a.q_lora_rank:
        yield c.fprop("q_down", dtype, rows, a.q_lora_rank, h)
        yield c.rmsnorm("q_norm", rows, a.q_lora_rank)
        yield from _cast(rows, a.q_lora_rank, shares)
        yield c.fprop("q_up", dtype, rows, query, a.q_lora_rank)
    else:
        yield c.fprop("q", dtype, rows, query, h)
    yield c.fprop("kv_down", dtype, rows, a.kv_lora_rank + a.qk_rope_head_dim, h)
    yield c.rmsnorm("kv_norm", rows, a.kv_lora_rank)
    yield c.rope("rope", rows * (a.num_heads + 1) * a.qk_rope_head_dim)
    yield c.fprop("absorbed_k", "bf16", rows, a.num_heads * a.kv_lora_rank, a.qk_nope_head_dim)
    yield c.fprop("absorbed_v", "bf16", rows, a.num_heads * a.v_head_dim, a.kv_lora_rank)


def _beside_experts(h: int, moe: MoeFfn, rows: int, shares: Shares) -> Iterator[Op]:
    """Norm, router, and shared experts, which run as one FFN."""
    yield c.rmsnorm("norm", rows, h)
    yield c.fprop("router", "bf16", rows, moe.num_routed_experts, h)
    if moe.num_shared_experts:
        yield from _matrices(h, moe, moe.num_shared_experts * moe.expert_intermediate_size, rows, shares)


def _ffn(h: int, ffn: DenseFfn, width: int, rows: int, shares: Shares) -> Iterator[Op]:
    yield c.rmsnorm("norm", rows, h)
    yield from _matrices(h, ffn, width, rows, shares)


def _matrices(h: int, ffn: DenseFfn | MoeFfn, width: int, rows: int, shares: Shares) -> Iterator[Op]:
    yield from _cast(rows, h, shares)
    yield c.fprop("up", shares.gemm_dtype, rows, ffn.num_up * width, h)
    yield _activation(rows, ffn.num_up * width, width)
    yield from _cast(rows, width, shares)
    yield c.fprop("down", shares.gemm_dtype, rows, h, width)


def _activation(rows: int, read: int, written: int) -> Op:
    return c.moved("activation", "swiglu", "F", 2 * rows * read, 2 * rows * written, rows=rows, width=written)


def _cast(rows: int, width: int, shares: Shares) -> Iterator[Op]:
    """Of an operand in 8 or 4 bits."""
    if shares.gemm_dtype != "bf16":
        yield c.quantise("cast", rows, width)
