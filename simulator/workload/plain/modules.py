"""Modules as Hugging Face transformers 5 writes them in functions of torch.

Sources, huggingface/transformers v5.17.0: src/transformers/models/qwen3_moe/modeling_qwen3_moe.py (Qwen3MoeRMSNorm,
apply_rotary_pos_emb, Qwen3MoeTopKRouter), models/deepseek_v3/modeling_deepseek_v3.py (apply_rotary_pos_emb_interleave,
DeepseekV3TopkRouter), integrations/moe.py (grouped_mm_experts_forward), loss/loss_utils.py (ForCausalLMLoss). Mixtral, OLMoE,
Qwen2-MoE, Llama and Qwen3 have the same functions.
"""

from __future__ import annotations

from typing import Final

from simulator.scenario.model import MoeFfn
from simulator.workload.plain import functions as f
from simulator.workload.plain.tape import Tape, Value

COUNT_KERNELS: Final = 9
"""Of each expert's rows: index divided, converted, counted from zeros, summed up (2), compared with the number of experts,
limited; and the places for the way back (2)."""


def rms_norm(t: Tape, x: Value) -> Value:
    """weight * (x.float() * rsqrt(mean(x.float()^2) + eps)).to(x.dtype)."""
    exact = f.cast(t, x, "fp32")
    scales = f.inverse_root(t, f.mean(t, f.square(t, exact)))
    return f.times_weight(t, f.cast(t, f.times_rows(t, exact, scales), x.dtype))


def rotary(t: Tape, x: Value) -> Value:
    """x * cos + cat(-second half, first half) * sin."""
    half, scaled = x.width // 2, f.times_table(t, x)
    first, second = f.sliced(t, x, half), f.sliced(t, x, half)
    turned = f.joined(t, f.negated(t, second), first)
    return f.plus(t, scaled, f.times_table(t, turned))


def rotary_pairs(t: Tape, x: Value) -> Value:
    """Neighbours rotated: even and odd elements times cosine and sine, their difference and sum put side by side."""
    half = x.width // 2
    even, odd = f.sliced(t, x, half), f.sliced(t, x, half)
    first = f.plus(t, f.times_table(t, even), f.times_table(t, odd))
    second = f.plus(t, f.times_table(t, odd), f.times_table(t, even))
    return f.joined(t, first, second)


def gated(t: Tape, gate: Value, up: Value) -> Value:
    """act(gate) * up."""
    return f.times(t, f.activated(t, gate), up)


def router(t: Tape, logits: Value, m: MoeFfn) -> Value:
    """Weights of the chosen experts: scores in FP32, selection, normalisation. Small tensors, told by their launches.

    Softmax scores: weights in the format of the model. Sigmoid scores, with groups and a balancing bias: in FP32.
    """
    scores, few = logits.elements, logits.rows * m.top_k
    size, small = 4 * scores, 4 * few
    has_groups = m.score == "sigmoid"
    forward, backward = (14, 6) if has_groups else (0, 0)
    t.launch("elementwise", forward * scores, forward * size, forward * size, forward)
    t.launch("topk", (3 if has_groups else 1) * scores, size, 3 * small, 6 if has_groups else 2,
             width=logits.width)  # fmt: skip
    t.launch("elementwise", 4 * few, 4 * small, 4 * small, 4)  # sum, copy, division, scale or conversion
    if not has_groups:
        f.convert(t, scores, "bf16", "fp32")
        t.launch("softmax", scores, size, size, width=logits.width)
    t.keep(t.value(scores, logits.width, "fp32"), "scores")
    t.keep(t.value(few, m.top_k, "int64"), "chosen")

    def back(strided: bool) -> list[tuple[Value, bool]]:
        t.launch("elementwise", 8 * few + backward * scores, 12 * small + backward * size, 8 * small + backward * size,
                 8 + backward)  # fmt: skip
        t.launch("fill", scores, 0, size)
        t.launch("scatter_rows", few, 3 * small, small)
        if not has_groups:
            t.launch("softmax_bwd", scores, 3 * size, 2 * size, 2, width=logits.width)
            f.convert(t, scores, "fp32", "bf16")
        return [(logits, False)]

    return t.put(t.value(few, 1, "fp32" if has_groups else logits.dtype), back)


LOSS: Final = (18, 26, 7, 5)
"""Bytes of a logit, forward and backward, and kernels, as calibration counts them (calibration/rates/loss.py). Forward:
converted (2 + 4), log-softmax (4 + 4), the targets' logarithms taken (4); the labels shifted. Backward: zeros, into which each
target's gradient is put (4 + 4), log-softmax's derivative (4 + 4 + 4), converted (4 + 2)."""


def causal_loss(t: Tape, logits: Value) -> Value:
    """Mean cross entropy of logits.float(): log-softmax, of which the target's number is taken."""
    forward, backward, kernels, back_kernels = LOSS
    exact, count = 4 * logits.elements, logits.elements
    t.launch("cross_entropy", count, (forward - 8) * count, 8 * count, kernels, "torch", logits.width)
    logs = t.value(count, logits.width, "fp32")
    t.keep(logs, "log_probabilities")

    def back(strided: bool) -> list[tuple[Value, bool]]:
        t.launch("cross_entropy_bwd", count, (backward - 10) * count, 10 * count, back_kernels, "torch", logits.width)
        # The gradient of the logarithms and that of FP32 logits are there together.
        t.needs(2 * exact)
        return [(logits, False)]

    return t.put(t.value(1, 1, "fp32"), back, temporary=exact + logits.num_bytes)
