"""What the tensors of a memory breakdown are, in words, and which keys of a scenario act on them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from simulator.report import numbers
from simulator.results.memory_variants import MemoryVariant, MemoryVariants
from simulator.results.step_result import Memory, Verdict

NUM_ADVICE: Final = 3
VERDICT_HELP: Final[Mapping[Verdict, str]] = MappingProxyType(
    {
        "fits": "the device holds the fullest rank even at the upper end of its margin",
        "marginal": "the device holds the fullest rank only in a part of its margin's range",
        "does not fit": "the device does not hold the fullest rank even at the lower end of its margin",
    }
)


class Headline(NamedTuple):
    """A figure: what it is, as a text, and in more words."""

    label: str
    text: str
    help: str


KIND_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "weights": "weights",
        "gradients": "gradients",
        "optimizer": "optimizer state",
        "activations": "activations",
        "buffers": "buffers and libraries",
    }
)

TENSOR_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "weights.bf16": "weights in BF16",
        "weights.bf16_original": "BF16 originals of FP8 weights",
        "weights.fp8": "weights in FP8",
        "weights.fp8_transposed": "FP8 weights transposed",
        "weights.gathered": "weights gathered from shards",
        "gradients.dense": "gradients, dense",
        "gradients.expert": "gradients, routed experts",
        "gradients.unreduced": "gradients not reduced yet",
        "gradients.placeholders": "placeholders of weight gradients",
        "optimizer.master_dense": "FP32 master weights, dense",
        "optimizer.master_expert": "FP32 master weights, experts",
        "optimizer.moments_dense": "AdamW moments, dense",
        "optimizer.moments_expert": "AdamW moments, experts",
        "buffers.dispatch": "dispatch and combine buffers",
        "buffers.pipeline": "pipeline send and receive buffers",
        "buffers.communicators": "collective library (NCCL)",
        "buffers.context": "CUDA context and kernels",
        "attn.input": "attention block input",
        "attn.norm_out": "attention norm output",
        "attn.out": "attention output",
        "attn.out_bf16": "attention output in BF16",
        "attn.o_input": "output projection's input",
        "attn.q": "queries",
        "attn.k": "keys",
        "attn.v": "values",
        "attn.qk_before_norm": "queries and keys before their norm",
        "attn.q_latent": "latent queries",
        "attn.kv_latent": "latent keys and values",
        "attn.k_rope": "rotary keys",
        "attn.log_sum_exp": "log-sum-exp of attention",
        "attn.q_grad_accumulator": "FP32 gradient of queries, at work",
        "attn.qkv_grad": "gradients of queries, keys, values",
        "ffn.input": "FFN block input",
        "ffn.norm_out": "FFN norm output",
        "ffn.swiglu_in": "SwiGLU input, dense FFN",
        "ffn.swiglu_out": "SwiGLU output, dense FFN",
        "ffn.residual_grad": "gradient of the residual, FFN",
        "expert.input": "routed experts' input",
        "expert.swiglu_in": "SwiGLU input, routed experts",
        "expert.swiglu_out": "SwiGLU output, routed experts",
        "expert.out": "routed experts' output",
        "expert.received": "tokens received by dispatch",
        "expert.received_grad": "gradients received by combine's backward",
        "expert.sent_back": "expert outputs sent back",
        "expert.input_grad": "gradient of the experts' input",
        "expert.sent_back_grad": "gradients sent back",
        "expert.row_map": "map of expert rows",
        "expert.row_weight": "weights of expert rows",
        "shared.swiglu_in": "SwiGLU input, shared experts",
        "shared.swiglu_out": "SwiGLU output, shared experts",
        "router.input": "router input",
        "router.scores": "router scores",
        "router.top_k": "router choices",
        "mtp.input": "MTP module input",
        "head.input": "output head input",
        "head.logits": "logits",
        "head.logits_fp32": "logits in FP32",
        "mtp.norm_out": "MTP module's norm output",
        "head.norm_out": "output head's norm output",
        "head.logits_grad_fp32": "FP32 gradient of the logits",
        "head.logits_grad": "gradient of the logits",
        "head.probabilities": "probabilities of the loss",
        "head.weight_grad": "gradient of the head, at work",
        "embedding.weight_grad": "gradient of the embedding, at work",
    }
)  # fmt: skip
"""Of the tensors that matter; others are told under their own names."""

KEYS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("weights.", ("parallel.zero_stage=3", "parallel.ep", "parallel.pp", "parallel.tp")),
    ("gradients.", ("data_parallel.grad_reduce.dtype=bf16", "parallel.ep", "parallel.pp", "parallel.tp")),
    ("optimizer.", ("training.optimizer=adamw-bf16", "parallel.zero_stage=1", "parallel.ep", "cluster.num_gpus")),
    ("buffers.dispatch", ("parallel.comm_sms", "parallel.ep")),
    ("buffers.pipeline", ("training.micro_batch_size", "parallel.schedule")),
    ("buffers.", ()),
    ("expert.", ("recompute=full", "recompute.saved.swiglu_in=fp8", "training.micro_batch_size", "parallel.schedule")),
    ("shared.", ("recompute=full", "training.micro_batch_size", "parallel.schedule")),
    ("attn.", ("recompute=full", "recompute.saved.attn_out=e5m6", "training.micro_batch_size", "parallel.schedule")),
    ("ffn.", ("recompute=full", "training.micro_batch_size", "parallel.schedule", "parallel.tp")),
    ("head.", ("training.micro_batch_size", "parallel.tp", "parallel.layers_per_stage")),
    ("", ("recompute=full", "training.micro_batch_size", "parallel.schedule")),
)
"""(how a tensor's name begins, keys that act on it, with the value where one makes it smaller), the most specific first."""


def tensor_words(name: str) -> str:
    """A tensor in words: "routed experts' input"; "other activations" for the small ones of a kind."""
    owner, _, what = name.partition(".")
    if what == "small":
        return f"other {KIND_WORDS.get(owner, owner)}"
    return TENSOR_WORDS.get(name, f"{owner}: {what.replace('_', ' ')}" if what else name)


def keys_of(name: str) -> tuple[str, ...]:
    """Keys of a scenario that act on a tensor's size."""
    return next(keys for beginning, keys in KEYS if name.startswith(beginning))


def headline(memory: Memory) -> tuple[Headline, ...]:
    """Verdict, peak, what is to spare and what the fullest rank may need, each as a label, a text and an explanation."""
    size, worst = numbers.amount_of_bytes, memory.worst_stage
    spare = memory.usable_bytes - worst.peak_bytes
    low, high = (worst.peak_bytes * (1 + end) for end in (memory.margin.low, memory.margin.high))
    return (
        Headline("Does it fit?", memory.verdict, VERDICT_HELP[memory.verdict]),
        Headline(
            "Peak of the fullest rank", size(worst.peak_bytes), f"pipeline rank {worst.pp_rank}, at its fullest instant"
        ),
        Headline(
            "To spare" if spare >= 0 else "Too much",
            f"{size(abs(spare))} ({numbers.percent(abs(spare) / memory.usable_bytes)})",
            f"of {size(memory.usable_bytes)} that are usable; the device has {size(memory.capacity_bytes)}",
        ),
        Headline(
            "With its margin it needs",
            f"{size(low)} to {size(high)}",
            "memory that the allocator holds and cannot use, libraries, and how wrong predicted peaks have been",
        ),
    )


def verdict_sentence(memory: Memory) -> str:
    """The same as one sentence."""
    _, peak, spare, need = headline(memory)
    return (
        f"{memory.verdict[0].upper()}{memory.verdict[1:]}: pipeline rank {memory.worst_stage.pp_rank} is the fullest with "
        f"{peak.text} of {numbers.amount_of_bytes(memory.usable_bytes)} usable, {spare.text} "
        f"{'to spare' if memory.fits else 'too much'}. With its margin it needs {need.text} of the device's "
        f"{numbers.amount_of_bytes(memory.capacity_bytes)}."
    )


def advice(memory: Memory, variants: MemoryVariants | None = None) -> tuple[str, ...]:
    """What makes room: the largest tensors of the fullest rank with the keys that act on them, and variants that need less."""
    size, worst = numbers.amount_of_bytes, memory.worst_stage
    lines = []
    for tensor in [each for each in worst.tensors or () if keys_of(each.name)][:NUM_ADVICE]:
        share = numbers.percent(tensor.bytes / worst.peak_bytes)
        lines.append(f"{tensor_words(tensor.name)} {size(tensor.bytes)} ({share}): {', '.join(keys_of(tensor.name))}")
    for variant in best_variants(memory, variants):
        assert variant.memory is not None
        less = size(memory.peak_bytes_per_gpu - variant.memory.peak_bytes)
        lines.append(f"{variant_words(variant)}: {less} less, {variant.memory.verdict} ({', '.join(variant.changes)})")
    return tuple(lines)


def best_variants(memory: Memory, variants: MemoryVariants | None) -> list[MemoryVariant]:
    """The variants with the lowest peaks, of those that are below the scenario's own."""
    found = [
        (each.memory.peak_bytes, each) for each in (variants.variants if variants else ()) if each.memory is not None
    ]
    lower = [(peak, place, each) for place, (peak, each) in enumerate(found) if peak < memory.peak_bytes_per_gpu]
    return [each for _, _, each in sorted(lower, key=lambda row: row[:2])[:NUM_ADVICE]]


def variant_words(variant: MemoryVariant) -> str:
    """'recompute: full', 'schedule: 1f1b'."""
    return f"{variant.kind}: {variant.name}"
