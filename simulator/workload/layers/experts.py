"""Routed experts on one rank of an expert group, and the router. Rows: (token, expert) pairs that the rank received.

Under even load a rank receives tokens × top_k rows whatever the size of the group; the operators marked `routed` scale
with the rows really received. Where etp ranks share an expert, each receives its own tokens' rows and gathers those of the
others in front of the experts; the partial results are reduce-scattered behind them (Megatron-LM
core/transformer/moe/token_dispatcher.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, inf

from simulator.scenario.model import MoeFfn
from simulator.workload import counting as c
from simulator.workload.layers import expert_parts as parts
from simulator.workload.layers import shuffle
from simulator.workload.layers.ffn import Ffn, plain_activation, plain_activation_bwd
from simulator.workload.layers.part import Weights
from simulator.workload.op import Collective, Op, Pass, Work
from simulator.workload.recipe import Recipe

ROUTER_PASSES = 16
"""Times that the FP32 scores (tokens × experts) cross memory in the router's element-wise kernels: sigmoid, bias, group
sums, two selections, masks, gather, normalisation, auxiliary statistics (kernels counted in deepseek-ai/profile-data
train.json, attn(F))."""

ROUTER_KERNELS = 37
"""Element-wise kernels and selections of the router in the same trace."""

ROUTER_BACKWARD_KERNELS = 26
"""The same of attn(B)."""

FUSED_ROUTER = (4 + 4, 4 + 1 + 4 + 4, 3)
"""Bytes of a score read and written, and launches, of fused kernels: FP32 logits in; probabilities, a map of bytes and the
scores out; then the scores of the auxiliary loss, and the loss (NVIDIA/TransformerEngine at d0067d0, common/fused_router)."""

FUSED_ROUTER_BACKWARD = (1 + 4 + 4 + 4, 4 + 4, 3)
"""The same of their gradients."""


TILE_ROWS = 128
"""Rows of a tile of grouped GEMMs. Padding to fewer leaves an expert's last tile as partly filled as it was."""


def of_rank(m: MoeFfn, hidden: int, etp: int) -> Ffn:
    """One routed expert on one of etp ranks."""
    return Ffn.of(m, hidden, m.expert_intermediate_size // etp)


def received_rows(m: MoeFfn, r: Recipe) -> int:
    """Rows of a rank's experts under even load: those of its own tokens and of the others that share the expert, less what
    is dropped, or as many as the capacity where it is padded.
    """
    return ceil(r.sequence_tokens * m.top_k * r.etp * r.capacity.rows)


def padded_rows(m: MoeFfn, r: Recipe) -> int:
    """Rows that the grouped kernels run over: those received, and on average (padding - 1)/2 more for each local expert."""
    return received_rows(m, r) + (m.num_routed_experts // r.ep) * (r.row_padding - 1) // 2


def _grouped(op: Op, m: MoeFfn, r: Recipe) -> Op:
    """A GEMM over the local experts; padding is executed and is no work of the model."""
    real = received_rows(m, r) * (r.capacity.kept / r.capacity.rows) / padded_rows(m, r)
    local = m.num_routed_experts // r.ep
    # Where rows are padded to whole tiles, the padding is counted in the rows already.
    rows_cv = r.expert_rows_cv if local > 1 and r.row_padding < TILE_ROWS else 0.0
    return replace(c.grouped(op, local, r.grouped_gemm, rows_cv), model_flop=op.flop * real)


def router_forward(m: MoeFfn, hidden: int, r: Recipe) -> Iterator[Op]:
    """Scores in BF16, selection, and quantising what is dispatched."""
    t = r.sequence_tokens
    yield c.fprop("router", "bf16", t, m.num_routed_experts, hidden)
    score_bytes = 4 * t * m.num_routed_experts
    yield _selection("router_select", "router_pointwise", "F", score_bytes, FUSED_ROUTER, ROUTER_KERNELS, r)
    if r.capacity.limit < inf:
        # Selection of each expert's rows over all tokens, its mask, masked scores and map.
        yield c.moved("router_capacity", "router_pointwise", "F", 3 * score_bytes, 2 * score_bytes, kernels=4)
    if r.dispatch_fp8:
        yield from r.casts.payload("dispatch_quantise", t, hidden)
    yield from shuffle.before_dispatch(m, hidden, r)


def _selection(
    name: str, kernel: str, phase: Pass, score_bytes: int, fused: tuple[int, int, int], kernels: int, r: Recipe
) -> Op:
    """Selection or its gradient. fused: quarters of the FP32 scores that one kernel reads and writes, and launches."""
    if r.software.fuses_router:
        read, written, launches = fused
        return c.moved(
            name, "router_fused", phase, score_bytes * read // 4, score_bytes * written // 4, kernels=launches
        )
    half = score_bytes * ROUTER_PASSES // 2
    return c.moved(name, kernel, phase, half, half, kernels=kernels)


def router_backward(m: MoeFfn, hidden: int, r: Recipe) -> Iterator[Op]:
    """Backward of selection and scores, with the router's weight gradient; sum of the input gradients; the norm's backward."""
    t, score_bytes = r.sequence_tokens, 4 * r.sequence_tokens * m.num_routed_experts
    yield from shuffle.behind_dispatch(m, hidden, r)
    backward, kernels = FUSED_ROUTER_BACKWARD, ROUTER_BACKWARD_KERNELS
    yield _selection("router_select_bwd", "router_pointwise_bwd", "I", score_bytes, backward, kernels, r)
    yield c.dgrad("router_dgrad", "bf16", t, m.num_routed_experts, hidden)
    yield c.wgrad("router_wgrad", "bf16", t, m.num_routed_experts, hidden, phase="I")
    yield c.add("ffn_input_grad", t * hidden, "I")
    yield c.rmsnorm_bwd("ffn_norm_bwd", t, hidden)


def _gather_rows(name: str, row_bytes: int, m: MoeFfn, r: Recipe, phase: Pass) -> Iterator[Collective]:
    """The rows of all ranks that share an expert, where the dispatch does not bring them to each."""
    if r.etp > 1 and r.sends != "everything":
        yield Collective(name, "all_gather", "etp", received_rows(m, r) * row_bytes, phase, routed=True)


def _reduce_rows(name: str, hidden: int, m: MoeFfn, r: Recipe, phase: Pass) -> Iterator[Collective]:
    """Partial results of all these rows summed, to each rank those that it received; in BF16. What was sent to all is summed
    by the combine.
    """
    if r.etp > 1 and r.sends != "everything":
        yield Collective(name, "reduce_scatter", "etp", received_rows(m, r) * 2 * hidden, phase, routed=True)


def _cast_back(name: str, hidden: int, r: Recipe, phase: Pass) -> Iterator[Op]:
    """What a combine sends in 8 bits: of each token that came the sum over the rank's experts."""
    if r.combine_fp8 and r.ep > 1:
        tokens = ceil(r.sequence_tokens * r.ranks_per_token)
        for each in r.casts.payload(name, tokens, hidden, phase):
            yield replace(each, routed=True)


def forward(m: MoeFfn, hidden: int, r: Recipe) -> Iterator[Work]:
    """From the received rows to the rows that go back."""
    rows, n, local = padded_rows(m, r), of_rank(m, hidden, r.etp), m.num_routed_experts // r.ep
    f = n.width
    row_in = r.sent_bytes(hidden)
    yield from _gather_rows("expert_rows_gather", row_in, m, r, "F")
    yield from shuffle.arrived(m, hidden, rows, r)
    yield from parts.pad("expert_pad", rows, n, r, "F")
    yield from r.casts.before_expert_up(rows, n.gated, local, is_sent=r.dispatch_fp8)
    yield _grouped(c.fprop("expert_up", r.gemm_dtype, rows, n.up, hidden), m, r)
    yield from parts.clamp(m, rows, n, r)
    yield from plain_activation("expert", rows, n, r, routed=True)
    yield from r.casts.expert_activation(rows, n.gated)
    yield from r.casts.before_expert_down(n.gated, local)
    yield _grouped(c.fprop("expert_down", r.gemm_dtype, rows, hidden, f), m, r)
    yield from parts.bias(rows, n, local, r)
    yield from parts.pad("expert_unpad", rows, n, r, "F")
    if r.is_eager:
        yield c.moved("expert_weigh", "copy", "F", 2 * rows * hidden, 2 * rows * hidden, routed=True)
    yield from shuffle.leaving(m, hidden, rows, r)
    yield from _reduce_rows("expert_rows_reduce", hidden, m, r, "F")
    yield from _cast_back("combine_quantise", hidden, r, "F")
    if r.save_swiglu_fp8:
        yield c.quantise("expert_swiglu_save", rows, n.up, routed=True)


def backward_input(m: MoeFfn, hidden: int, r: Recipe) -> Iterator[Work]:
    """Input gradient of the received rows; the rows' weights get theirs. The product of SwiGLU is kept, or computed again from
    its saved input (module `swiglu`) in the same kernel.
    """
    rows, n, again = padded_rows(m, r), of_rank(m, hidden, r.etp), "swiglu" in r.recompute
    f = n.width
    row_in = r.sent_bytes(hidden)
    yield from _gather_rows("expert_grads_gather", row_in, m, r, "I")
    if r.save_swiglu_fp8:
        yield c.dequantise("expert_swiglu_load", rows, n.up, routed=True)
    yield from shuffle.arrived_backward(m, hidden, rows, r)
    if r.is_eager:
        # The gradient times the weights, and times the outputs for the weights' own.
        yield c.moved("expert_weigh_bwd", "copy", "I", 6 * rows * hidden, 2 * rows * hidden, kernels=2, routed=True)
    yield from parts.pad("expert_unpad_bwd", rows, n, r, "I")
    yield from parts.bias_backward(rows, n, m.num_routed_experts // r.ep, r)
    yield from r.casts.before_expert_down_dgrad(rows, n.gated, is_sent=r.dispatch_fp8)
    yield _grouped(c.dgrad("expert_down_dgrad", r.gemm_dtype, rows, hidden, f), m, r)
    if again:
        yield from c.again(parts.clamp(m, rows, n, r))
    yield from plain_activation_bwd("expert", rows, n, r, routed=True)
    yield from r.casts.expert_activation_bwd(rows, n.gated, again=again)
    yield from parts.clamp_backward(m, rows, n, r)
    yield from r.casts.before_expert_up_dgrad(rows, n.gated, again=again)
    yield _grouped(c.dgrad("expert_up_dgrad", r.gemm_dtype, rows, n.up, hidden), m, r)
    yield from parts.pad("expert_pad_bwd", rows, n, r, "I")
    yield from shuffle.leaving_backward(m, hidden, rows, r)
    yield from _reduce_rows("expert_grads_reduce", hidden, m, r, "I")
    yield from _cast_back("dispatch_b_quantise", hidden, r, "I")
    yield from r.casts.after_expert_up_dgrad(rows, n.gated)


def backward_weight(m: MoeFfn, hidden: int, r: Recipe) -> Iterator[Op]:
    """Weight gradients of the local experts, with the transposed operands that are made only here."""
    rows, n = padded_rows(m, r), of_rank(m, hidden, r.etp)
    yield from r.casts.before_expert_down_wgrad(rows, n.gated)
    yield _grouped(c.wgrad("expert_down_wgrad", r.gemm_dtype, rows, hidden, n.width), m, r)
    yield from r.casts.before_expert_up_wgrad(rows, n.gated)
    yield _grouped(c.wgrad("expert_up_wgrad", r.gemm_dtype, rows, n.up, hidden), m, r)
    if n.bias:
        yield c.bias_grad("expert_down_bias_grad", rows, hidden, routed=True)
        yield c.bias_grad("expert_up_bias_grad", rows, n.up, routed=True)


def router_weights(m: MoeFfn, hidden: int) -> Weights:
    """Router weights and, where it has one, the balancing bias."""
    scores = hidden * m.num_routed_experts
    return Weights(scores, m.num_routed_experts if m.router_bias else 0, replicated_gemm=scores)
