"""What a model is and does for a token, counted from its shape: parameters, model FLOP, and the rates that follow.

Model FLOP per trained token = 6 x (weights of every GEMM that a token passes: twice forward, four times backward; the
head included, the embedding is a look-up) + 3 x attention of every layer, where attention forward is 2 x seq_len x
num_heads x (head_dim_qk + head_dim_v), half of it with a causal mask. Recompute does not count, nor do norms, softmax
and other pointwise work. DeepSeek's published TFLOPS and MFU leave the MTP modules out (arXiv:2505.09343, tables 2
and 4, agree with this count to 0.3 %), so `mtp` is False unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwprofiles.units import TERA
from simulator.results.step_result import FlopPerToken, Mfu, ModelCounts, Tflops

if TYPE_CHECKING:
    from simulator.scenario.model import GqaAttention, MlaAttention, ModelSpec

FORWARD_AND_BACKWARD = 3
"""FLOP of a trained token over those of its forward pass: the backward pass has two GEMMs for each one."""
FLOP_PER_MULTIPLY_ADD = 2
SWIGLU_MATRICES = 3
"""Gate, up and down projection."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """Parameters: those of GEMMs, and the others (norms, router bias)."""

    gemm: int
    other: int = 0

    @property
    def total(self) -> int:
        return self.gemm + self.other


def count_parameters(model: ModelSpec) -> ModelCounts:
    """Parameters of the main model, those that one token activates (embedding and head counted), and those that only
    the MTP modules hold (embedding and head are the main model's).
    """
    embeddings = model.vocab_size * model.hidden_size * (1 if model.tied_embeddings else 2)
    shared = embeddings + model.hidden_size + model.num_dense_layers * _dense_layer(model).total
    num_modules = model.mtp.num_modules
    return ModelCounts(
        num_parameters=shared + model.num_moe_layers * _moe_layer(model, active=False).total,
        num_active_parameters=shared + model.num_moe_layers * _moe_layer(model, active=True).total,
        num_mtp_parameters=num_modules * (_mtp_joint(model).total + _last_layer(model, active=False).total),
    )


def model_flop_per_token(model: ModelSpec, seq_len: int, *, mtp: bool = False) -> FlopPerToken:
    """Model FLOP for one trained token of sequences of `seq_len` tokens, by convention of the attention mask.

    mtp: also count the MTP modules, each with its projection, layer and pass through the head.
    """
    head = model.vocab_size * model.hidden_size
    weights = head + model.num_dense_layers * _dense_layer(model).gemm
    weights += model.num_moe_layers * _moe_layer(model, active=True).gemm
    num_attention = model.num_layers
    if mtp:
        num_modules = model.mtp.num_modules
        weights += num_modules * (head + _mtp_joint(model).gemm + _last_layer(model, active=True).gemm)
        num_attention += num_modules
    gemm_flop = FORWARD_AND_BACKWARD * FLOP_PER_MULTIPLY_ADD * weights
    attention_flop = FORWARD_AND_BACKWARD * num_attention * _attention_forward_flop(model, seq_len)
    return FlopPerToken(causal=gemm_flop + attention_flop / 2, noncausal=float(gemm_flop + attention_flop))


def tflops(flop_per_token: FlopPerToken, tokens_per_s_per_gpu: float) -> Tflops:
    """Model TFLOP/s of one GPU."""
    rate = tokens_per_s_per_gpu / TERA
    return Tflops(causal=flop_per_token.causal * rate, noncausal=flop_per_token.noncausal * rate)


def mfu(flop_per_token: FlopPerToken, tokens_per_s_per_gpu: float, bf16_dense_flop_per_s: float) -> Mfu:
    """Model FLOP/s of one GPU over its dense BF16 peak (the GPU file's), whatever precision the step computes in."""
    share = tokens_per_s_per_gpu / bf16_dense_flop_per_s
    return Mfu(
        bf16_dense_causal=flop_per_token.causal * share,
        bf16_dense_noncausal=flop_per_token.noncausal * share,
    )


def tokens_per_s_per_gpu(tokens_per_step: int, step_s: float, num_gpus: int) -> float:
    """Throughput of one GPU: tokens of the step over its seconds and the GPUs."""
    return tokens_per_step / (step_s * num_gpus)


def _dense_layer(model: ModelSpec) -> _Weights:
    """Attention, SwiGLU and two norms; nothing where the model has no dense layer."""
    if model.dense_ffn is None:
        return _Weights(0)
    attention = _attention(model)
    ffn = SWIGLU_MATRICES * model.hidden_size * model.dense_ffn.intermediate_size
    return _Weights(attention.gemm + ffn, attention.other + 2 * model.hidden_size)


def _moe_layer(model: ModelSpec, *, active: bool) -> _Weights:
    """Attention, router, shared and routed experts, two norms; active: only the experts that one token uses."""
    moe = model.moe
    if moe is None:
        return _Weights(0)
    attention = _attention(model)
    expert = SWIGLU_MATRICES * model.hidden_size * moe.expert_intermediate_size
    num_experts = moe.num_shared_experts + (moe.top_k if active else moe.num_routed_experts)
    router = model.hidden_size * moe.num_routed_experts
    bias = moe.num_routed_experts if moe.router_bias else 0
    return _Weights(attention.gemm + router + num_experts * expert, attention.other + bias + 2 * model.hidden_size)


def _last_layer(model: ModelSpec, *, active: bool) -> _Weights:
    """The kind of layer that an MTP module holds: the kind of the model's last one."""
    return _dense_layer(model) if model.moe is None else _moe_layer(model, active=active)


def _mtp_joint(model: ModelSpec) -> _Weights:
    """An MTP module beside its layer: the projection of two hidden states to one, two norms and the final norm."""
    return _Weights(2 * model.hidden_size * model.hidden_size, 3 * model.hidden_size)


def _attention(model: ModelSpec) -> _Weights:
    attention = model.attention
    if attention.kind == "mla":
        return _mla(model.hidden_size, attention)
    return _gqa(model.hidden_size, attention)


def _mla(hidden: int, mla: MlaAttention) -> _Weights:
    """Multi-head latent attention (arXiv:2405.04434, 2.1): low-rank queries (q_lora_rank 0: direct queries) and
    keys/values.
    """
    head_dim_qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    key_value = hidden * (mla.kv_lora_rank + mla.qk_rope_head_dim)
    key_value += mla.kv_lora_rank * mla.num_heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    output = mla.num_heads * mla.v_head_dim * hidden
    queries, norms = hidden * mla.num_heads * head_dim_qk, mla.kv_lora_rank
    if mla.q_lora_rank > 0:
        queries = mla.q_lora_rank * (hidden + mla.num_heads * head_dim_qk)
        norms += mla.q_lora_rank
    return _Weights(queries + key_value + output, norms)


def _gqa(hidden: int, gqa: GqaAttention) -> _Weights:
    """Grouped-query attention without biases; qk_norm: one norm of a head's width each for queries and keys."""
    heads = 2 * gqa.num_heads + 2 * gqa.num_kv_heads
    return _Weights(hidden * heads * gqa.head_dim, 2 * gqa.head_dim if gqa.qk_norm else 0)


def _attention_forward_flop(model: ModelSpec, seq_len: int) -> int:
    """FLOP for one token and layer with every key of the sequence: scores, then the weighted sum of the values."""
    attention = model.attention
    if attention.kind == "mla":
        head_dims = attention.qk_nope_head_dim + attention.qk_rope_head_dim + attention.v_head_dim
    else:
        head_dims = 2 * attention.head_dim
    return FLOP_PER_MULTIPLY_ADD * seq_len * attention.num_heads * head_dims
