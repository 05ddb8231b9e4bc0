"""What each block keeps of one micro-batch between its forward and its backward, by named tensor.

Rules (kernels and formats as in deepseek-ai/profile-data train.json and DeepSeek-V3 report 3.2.3 and 3.3.3):
- a linear layer keeps its input for the weight gradient, once, in the recipe's format; a recomputed input is not
  kept, but exists from I to W, as the output gradients do (between I and W only if the schedule parts them);
- a norm keeps its input, attention its output and log-sum-exp, SwiGLU its input (the product is an operand of the down
  projection); the weights of the routed experts' outputs are applied in SwiGLU, so that the rows that go back are not
  kept;
- under FP8 the FFN's input is kept in FP8 (the dispatched payload serves the shared experts too), the norm recomputed
  or not.

Letters: t tokens of the rank, s tokens in sequence-parallel regions (t / tp), h hidden size, f FFN width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from simulator.scenario.model import GqaAttention, MlaAttention, ModelSpec, MoeFfn
from simulator.workload.tensors import BlockMemory, Tensor, tensor_bytes, total_bytes


@dataclass(frozen=True, slots=True)
class ActivationRecipe:
    """Sizes and number formats of one rank's micro-batch.

    tokens: of one micro-batch on the rank (context parallelism divided out). shards_sequence: sequence parallelism.
    act_dtype: operands of the layers' GEMMs; dispatch_dtype, attn_out_dtype, swiglu_in_dtype, head_dtype: of what the
    name says. recompute: modules computed again in the backward ("layer": everything but a layer's input).
    is_loss_fused: the loss overwrites the logits by their gradient; else FP32 probabilities are kept beside them.
    chunk_tokens: head and loss run chunk by chunk and leave only the gradient of their input; None: all tokens at once.
    expert_rows_frac: rows of a rank's experts over the even load, mean of the micro-batches in flight;
    expert_rows_peak_frac: of the fullest micro-batch (at least the former). row_padding: an expert's rows are padded
    to a multiple. capacity_factor: rows beyond it are dropped; None: no row is.
    """

    tokens: int
    tp: int = 1
    shards_sequence: bool = False
    ep: int = 1
    etp: int = 1
    act_dtype: str = "bf16"
    dispatch_dtype: str = "bf16"
    attn_out_dtype: str = "bf16"
    swiglu_in_dtype: str = "bf16"
    head_dtype: str = "bf16"
    recompute: frozenset[str] = frozenset()
    is_loss_fused: bool = True
    vocab_padding: int = 128
    chunk_tokens: int | None = None
    expert_rows_frac: float = 1.0
    expert_rows_peak_frac: float = 1.0
    row_padding: int = 1
    capacity_factor: float | None = None

    @property
    def sequence_tokens(self) -> int:
        """Tokens of the rank outside the tensor-parallel GEMMs."""
        return -(-self.tokens // self.tp) if self.shards_sequence else self.tokens

    def expert_rows(self, moe: MoeFfn, load: float) -> int:
        """Rows of the rank's local experts, half of the padding of each included, at `load` times the even share."""
        if self.capacity_factor is not None:
            load = min(load, self.capacity_factor)
        padding = moe.num_routed_experts // self.ep * (self.row_padding - 1) // 2
        return ceil(self.sequence_tokens * moe.top_k * self.etp * load) + padding


class _Block:
    """Collects the tensors of one block."""

    def __init__(self, name: str, recipe: ActivationRecipe) -> None:
        self.name = name
        self.recipe = recipe
        self.saved: list[Tensor] = []
        self.deferred: list[Tensor] = []
        self.forward: list[Tensor] = []
        self.backward: list[Tensor] = []

    def keep(self, name: str, dtype: str, elements: int, *, recomputed: bool = False) -> None:
        """Needed by I; a recomputed one lives only inside F and I."""
        tensor = Tensor(name, tensor_bytes(dtype, elements))
        if recomputed:
            self.forward.append(tensor)
            self.backward.append(tensor)
        else:
            self.saved.append(tensor)

    def operand(self, name: str, elements: int, *, recomputed: bool = False, dtype: str | None = None) -> None:
        """Input of a linear layer, needed by W; a recomputed one lives inside F and from I to W."""
        tensor = Tensor(name, tensor_bytes(dtype or self.recipe.act_dtype, elements), "W")
        if recomputed:
            self.forward.append(tensor)
            self.deferred.append(tensor)
        else:
            self.saved.append(tensor)

    def gradient(self, name: str, elements: int, dtype: str | None = None) -> None:
        """Output gradient of a linear layer, made by I and needed by W."""
        self.deferred.append(Tensor(name, tensor_bytes(dtype or self.recipe.act_dtype, elements), "W"))

    def swiglu(self, owner: str, rows: int, f: int, hidden: int) -> None:
        """Input and output of SwiGLU and the output gradients of the projections around it."""
        self.keep(f"{owner}.swiglu_in", self.recipe.swiglu_in_dtype, 2 * rows * f)
        self.operand(f"{owner}.swiglu_out", rows * f, recomputed="swiglu" in self.recipe.recompute)
        self.gradient(f"{owner}.up_grad", 2 * rows * f)
        self.gradient(f"{owner}.down_grad", rows * hidden)

    def build(self) -> BlockMemory:
        """The finished record."""
        return BlockMemory(
            self.name, tuple(self.saved), tuple(self.deferred), tuple(self.forward), tuple(self.backward)
        )


def _bf16(name: str, elements: int) -> Tensor:
    return Tensor(name, tensor_bytes("bf16", elements))


def _fullest(instants: Iterable[list[Tensor]]) -> list[Tensor]:
    """The instant with the most bytes."""
    return max(instants, key=total_bytes)


def attention_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """Norm, projections and attention core of a layer."""
    a, h, t, s = model.attention, model.hidden_size, r.tokens, r.sequence_tokens
    block = _Block("attention", r)
    block.keep("attn.input", "bf16", s * h)
    block.operand("attn.norm_out", s * h, recomputed="rmsnorm" in r.recompute)
    if isinstance(a, MlaAttention):
        q_width, k_width, out = _mla_projections(block, a, t, s)
    else:
        q_width, k_width, out = _gqa_projections(block, a, t)
    _attention_core(block, t, out, a.num_heads // r.tp)
    block.gradient("attn.o_grad", s * h)
    block.backward += [
        _bf16("attn.out_grad", t * out),
        Tensor("attn.q_grad_accumulator", tensor_bytes("fp32", t * q_width)),
        _bf16("attn.qkv_grad", t * (q_width + k_width + out)),
        _bf16("attn.residual_grad", 2 * s * h),
    ]
    return block.build()


def _mla_projections(block: _Block, a: MlaAttention, t: int, s: int) -> tuple[int, int, int]:
    """Latents and what is projected up from them; widths of q, k and the output on this rank."""
    r, heads = block.recipe, a.num_heads // block.recipe.tp
    qk, norms = a.qk_nope_head_dim + a.qk_rope_head_dim, "rmsnorm" in r.recompute
    latents = {"attn.q_latent": a.q_lora_rank, "attn.kv_latent": a.kv_lora_rank}
    for name, rank in latents.items():
        if rank:
            block.keep(name, "bf16", s * rank)
            block.operand(f"{name}_norm", s * rank, recomputed=norms)
    block.keep("attn.k_rope", "bf16", s * a.qk_rope_head_dim)
    up = "mla_up_proj" in r.recompute
    for name, width in (("attn.q", qk), ("attn.k", qk), ("attn.v", a.v_head_dim)):
        block.keep(name, "bf16", t * heads * width, recomputed=up)
    down = (a.q_lora_rank or heads * qk) + a.kv_lora_rank + a.qk_rope_head_dim
    block.gradient("attn.down_grad", s * down)
    if a.q_lora_rank:
        block.gradient("attn.q_up_grad", t * heads * qk)
    block.gradient("attn.kv_up_grad", t * heads * (a.qk_nope_head_dim + a.v_head_dim))
    return heads * qk, heads * qk, heads * a.v_head_dim


def _gqa_projections(block: _Block, a: GqaAttention, t: int) -> tuple[int, int, int]:
    """Queries, keys and values; with norms on the heads also their inputs."""
    r = block.recipe
    q_width, kv_width = a.num_heads // r.tp * a.head_dim, max(1, a.num_kv_heads // r.tp) * a.head_dim
    if a.qk_norm:
        block.keep("attn.qk_before_norm", "bf16", t * (q_width + kv_width))
    block.keep("attn.q", "bf16", t * q_width)
    block.keep("attn.k", "bf16", t * kv_width)
    block.keep("attn.v", "bf16", t * kv_width)
    block.gradient("attn.qkv_grad", t * (q_width + 2 * kv_width))
    return q_width, kv_width, q_width


def _attention_core(block: _Block, t: int, out: int, heads: int) -> None:
    """Output and log-sum-exp; the output serves the core's backward and the output projection's weight gradient."""
    r, again = block.recipe, "attention" in block.recipe.recompute
    block.keep("attn.log_sum_exp", "fp32", t * heads, recomputed=again)
    if again or r.act_dtype == r.attn_out_dtype:
        block.operand("attn.out", t * out)
        saved_dtype = r.act_dtype
    else:
        block.operand("attn.o_input", t * out, recomputed=True)
        block.keep("attn.out", r.attn_out_dtype, t * out)
        saved_dtype = r.attn_out_dtype
    if saved_dtype != "bf16":
        block.keep("attn.out_bf16", "bf16", t * out, recomputed=True)


def dense_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """Norm and FFN of a dense layer."""
    assert model.dense_ffn is not None, "a dense layer needs the model's dense_ffn section"
    h, t, s, f = model.hidden_size, r.tokens, r.sequence_tokens, model.dense_ffn.intermediate_size // r.tp
    block = _Block("dense_ffn", r)
    block.keep("ffn.input", "bf16", s * h)
    block.operand("ffn.norm_out", s * h, recomputed="rmsnorm" in r.recompute and r.act_dtype == "bf16")
    block.swiglu("ffn", t, f, h)
    converted = [] if r.swiglu_in_dtype == "bf16" else [_bf16("ffn.swiglu_in_bf16", 2 * t * f)]
    block.forward += [*converted, _bf16("ffn.out", s * h)]
    block.backward += [
        *converted, _bf16("ffn.swiglu_out_grad", t * f), _bf16("ffn.swiglu_in_grad", 2 * t * f),
        _bf16("ffn.residual_grad", 2 * s * h),
    ]  # fmt: skip
    return _recomputed(block.build(), ("ffn.input", "ffn.norm_out")) if "mlp" in r.recompute else block.build()


def moe_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """Norm, router, routed and shared experts of a layer."""
    m, h, t, s = model.moe, model.hidden_size, r.tokens, r.sequence_tokens
    assert m is not None, "a MoE layer needs the model's moe section"
    f, norms, is_fp8 = m.expert_intermediate_size, "rmsnorm" in r.recompute, r.act_dtype != "bf16"
    block = _Block("moe_ffn", r)
    block.keep("ffn.input", "bf16", s * h)
    if is_fp8 or not m.num_shared_experts:
        # The router's weight gradient is taken in I, so a recomputed BF16 input of it does not wait for W.
        block.keep("router.input", "bf16", s * h, recomputed=norms)
    if m.num_shared_experts:
        block.operand("ffn.norm_out", s * h, recomputed=norms and not is_fp8)
    block.keep("router.scores", "fp32", s * m.num_routed_experts)
    block.saved += [Tensor("router.top_k", 12 * s * m.top_k)]  # int64 index and FP32 weight
    rows, peak = r.expert_rows(m, r.expert_rows_frac), r.expert_rows(m, r.expert_rows_peak_frac)
    block.saved += [Tensor("expert.row_map", 8 * rows), Tensor("expert.row_weight", 4 * rows)]
    block.operand("expert.input", rows * h)
    block.swiglu("expert", rows, f // r.etp, h)
    if m.num_shared_experts:
        block.swiglu("shared", t, m.num_shared_experts * f // r.tp, h)
    block.forward += _routed_forward(r, peak, f // r.etp, h)
    block.backward += [*_routed_backward(r, peak, f // r.etp, h), _bf16("ffn.residual_grad", 2 * s * h)]
    built = block.build()
    if "moe" in r.recompute:
        return _recomputed(built, ("ffn.input", "router.input", "ffn.norm_out"))
    if "shared_expert" in r.recompute:
        return _recomputed(built, tuple(x.name for x in built.saved if not x.name.startswith("shared.")))
    return built


def _routed_forward(r: ActivationRecipe, rows: int, f: int, h: int) -> list[Tensor]:
    """Before the up projection; between the projections; results in expert order and in the order sent."""
    converted = [] if r.swiglu_in_dtype == "bf16" else [_bf16("expert.swiglu_in_bf16", 2 * rows * f)]
    return _fullest((
        [Tensor("expert.received", tensor_bytes(r.dispatch_dtype, rows * h))],
        converted,
        [_bf16("expert.out", rows * h), _bf16("expert.sent_back", rows * h)],
    ))  # fmt: skip


def _routed_backward(r: ActivationRecipe, rows: int, f: int, h: int) -> list[Tensor]:
    """The same three instants of the backward."""
    converted = [] if r.swiglu_in_dtype == "bf16" else [_bf16("expert.swiglu_in_bf16", 2 * rows * f)]
    return _fullest((
        [Tensor("expert.received_grad", tensor_bytes(r.dispatch_dtype, rows * h))],
        [*converted, _bf16("expert.swiglu_out_grad", rows * f), _bf16("expert.swiglu_in_grad", 2 * rows * f)],
        [_bf16("expert.input_grad", rows * h), _bf16("expert.sent_back_grad", rows * h)],
    ))  # fmt: skip


def head_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """Final norm, logits and loss. The logits are vocabulary-parallel under tp."""
    h, t, s = model.hidden_size, r.tokens, r.sequence_tokens
    unit = r.vocab_padding * r.tp
    vocab = -(-model.vocab_size // unit) * unit // r.tp
    block = _Block("head", r)
    block.keep("head.input", "bf16", s * h)
    at_once = t if r.chunk_tokens is None else min(t, r.chunk_tokens)
    if r.chunk_tokens is None:
        block.operand("head.norm_out", s * h, recomputed="rmsnorm" in r.recompute, dtype="bf16")
        block.operand("head.logits", t * vocab, dtype=r.head_dtype)
        if not r.is_loss_fused:
            block.keep("head.probabilities", "fp32", t * vocab)
    else:
        # Head and loss run forward and backward in F; the weight gradient is added, the input's is kept.
        block.keep("head.input_grad", "bf16", s * h)
        block.forward.append(Tensor("head.logits", tensor_bytes(r.head_dtype, at_once * vocab)))
        if not r.is_loss_fused:
            block.forward.append(Tensor("head.probabilities", tensor_bytes("fp32", at_once * vocab)))
    if not r.is_loss_fused:
        # Megatron-LM converts the logits to FP32 before its loss (vocab_parallel_cross_entropy on logits.float()).
        block.forward.append(Tensor("head.logits_fp32", tensor_bytes("fp32", at_once * vocab)))
    block.backward.append(_bf16("head.norm_out_grad", s * h))
    return block.build()


def mtp_input_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """Norms of the hidden state and of the next token's embedding, and the projection of both to the hidden size."""
    h, s = model.hidden_size, r.sequence_tokens
    block = _Block("mtp_input", r)
    block.keep("mtp.input", "bf16", 2 * s * h)
    block.operand("mtp.norm_out", 2 * s * h, recomputed="rmsnorm" in r.recompute)
    block.gradient("mtp.projection_grad", s * h)
    block.backward.append(_bf16("mtp.input_grad", 2 * s * h))
    return block.build()


def _recomputed(block: BlockMemory, kept: Sequence[str]) -> BlockMemory:
    """The block with everything but the named tensors computed again in I."""
    again = tuple(tensor for tensor in block.saved if tensor.name not in kept)
    return BlockMemory(
        block.name,
        saved=tuple(tensor for tensor in block.saved if tensor.name in kept),
        deferred=(*block.deferred, *(tensor for tensor in again if tensor.until == "W")),
        working_forward=(*block.working_forward, *again),
        working_backward=(*block.working_backward, *(tensor for tensor in again if tensor.until == "I")),
    )


def layer_blocks(model: ModelSpec, is_moe: bool, r: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """Attention and FFN of a layer; under recompute of the whole layer only its input is kept."""
    attention = attention_block(model, r)
    ffn = moe_block(model, r) if is_moe else dense_block(model, r)
    if "layer" not in r.recompute:
        return attention, ffn
    light_attention, light_ffn = _recomputed(attention, ("attn.input",)), _recomputed(ffn, ())
    # The whole layer is computed again before its FFN's backward: the attention's tensors are there too by then.
    waiting = tuple(tensor for tensor in attention.saved if tensor.name != "attn.input")
    return light_attention, BlockMemory(
        light_ffn.name, light_ffn.saved, light_ffn.deferred, light_ffn.working_forward,
        (*light_ffn.working_backward, *waiting),
    )  # fmt: skip


def stage_blocks(model: ModelSpec, codes: Sequence[str], r: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """The blocks of a pipeline stage in forward order.

    codes: E embedding, d dense layer, m MoE layer, mtp (module with its own pass through the head), L output head.
    The main head runs before the MTP modules, as in workload/stages.py; the embedding keeps only token numbers, not
    counted.
    """
    blocks: list[BlockMemory] = []
    for code in codes:
        if code in ("d", "m"):
            blocks += layer_blocks(model, code == "m", r)
    if "L" in codes:
        blocks.append(head_block(model, r))
    for code in codes:
        if code == "mtp":
            blocks += [mtp_input_block(model, r), *layer_blocks(model, model.moe is not None, r), head_block(model, r)]
    return tuple(blocks)
