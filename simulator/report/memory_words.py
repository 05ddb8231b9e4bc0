"""What the tensors of a memory breakdown are, in words, which keys of a scenario act on them, and what makes room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from simulator.report import numbers
from simulator.results.memory_variants import MemoryVariant, MemoryVariants, VariantKind
from simulator.results.step_memory import Memory, Verdict

NUM_ADVICE: Final = 3
NUM_BEST: Final = 4
VERDICT_HELP: Final[Mapping[Verdict, str]] = MappingProxyType(
    {
        "fits": "the device holds the fullest rank even at the upper end of its margin",
        "marginal": "the device holds the fullest rank only in a part of its margin's range",
        "does not fit": "the device does not hold the fullest rank even at the lower end of its margin",
    }
)


MARGIN_HELP: Final = (
    "what the allocator holds and cannot use, what libraries hold, and how wrong predicted peaks have been"
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
        "weights.cast": "weights as cast for the GEMMs",
        "weights.fp8": "weights in FP8",
        "weights.fp8_transposed": "FP8 weights along the other dimension",
        "weights.fp4": "weights in FP4",
        "weights.fp4_transposed": "FP4 weights along the other dimension",
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
        "buffers.graph_pool": "pool of captured graphs, beyond its tensors",
        "buffers.graph_nodes": "captured graphs in the driver",
        "buffers.graph_static": "static inputs and gradients of captured graphs",
        "buffers.offload": "copies to and from the host",
        "buffers.pipeline": "pipeline send and receive buffers",
        "buffers.communicators": "collective library (NCCL)",
        "buffers.context": "CUDA context and kernels",
        "attn.input": "attention block input",
        "attn.norm_out": "attention norm output",
        "attn.out": "attention output",
        "attn.out_bf16": "attention output in BF16",
        "attn.out_padded": "attention output with padded heads",
        "attn.v_padding": "values padded to the queries' head size",
        "attn.o_input": "output projection's input",
        "attn.q": "queries",
        "attn.k": "keys",
        "attn.v": "values",
        "attn.qk_before_norm": "queries and keys before their norm",
        "attn.q_latent": "latent queries",
        "attn.kv_latent": "latent keys and values",
        "attn.k_rope": "rotary keys",
        "attn.kv_copies": "copies of keys and values, for ranks of context parallelism",
        "attn.kv_latent_norm": "norm output of latent keys and values",
        "attn.out_grad": "gradient of attention's output",
        "attn.out_grad_padded": "gradient of attention's output with padded heads",
        "expert.swiglu_in_bf16": "SwiGLU input in BF16, routed experts",
        "ffn.out": "dense FFN's output",
        "ffn.swiglu_in_bf16": "SwiGLU input in BF16, dense FFN",
        "mtp.input_grad": "gradient of the MTP module's input",
        "attn.residual_grad": "gradient of the residual, attention",
        "attn.exchange": "heads on their way between ranks of context parallelism",
        "attn.kv_gathered": "keys and values gathered by context parallelism",
        "attn.latent_gathered": "latents gathered by context parallelism",
        "attn.ring_buffers": "keys and values that a ring brings",
        "attn.ring_outputs": "outputs of a ring's steps",
        "attn.ring_gradients": "gradients of a ring's step",
        "attn.o_grad": "output projection's gradient, for weight gradients",
        "attn.down_grad": "latents' gradient, for weight gradients",
        "attn.kv_up_grad": "keys' and values' gradient, for weight gradients",
        "ffn.up_grad": "SwiGLU input's gradient, dense FFN, for weight gradients",
        "ffn.down_grad": "dense FFN's output gradient, for weight gradients",
        "ffn.silu_out": "SiLU output, dense FFN",
        "ffn.swiglu_in_grad": "gradient of SwiGLU's input, dense FFN",
        "ffn.swiglu_out_grad": "gradient of SwiGLU's output, dense FFN",
        "shared.up_grad": "SwiGLU input's gradient, shared experts, for weight gradients",
        "shared.down_grad": "shared experts' output gradient, for weight gradients",
        "expert.up_grad": "SwiGLU input's gradient, routed experts, for weight gradients",
        "expert.down_grad": "routed experts' output gradient, for weight gradients",
        "expert.swiglu_in_grad": "gradient of SwiGLU's input, routed experts",
        "expert.swiglu_out_grad": "gradient of SwiGLU's output, routed experts",
        "expert.sent_back_cast": "expert outputs sent back, in 8 bits",
        "expert.sent_back_grad_cast": "gradients sent back, in 8 bits",
        "head.norm_out_grad": "gradient of the output head's norm output",
        "attn.log_sum_exp": "log-sum-exp of attention",
        "attn.q_grad_accumulator": "FP32 gradient of queries, at work",
        "attn.qkv_grad": "gradients of queries, keys, values",
        "ffn.input": "FFN block input",
        "ffn.norm_out": "FFN norm output",
        "ffn.swiglu_in": "SwiGLU input, dense FFN",
        "ffn.swiglu_out": "SwiGLU output, dense FFN",
        "ffn.residual_grad": "gradient of the residual, FFN",
        "expert.unpacked": "kept expert rows outside their stash",
        "expert.input": "routed experts' input",
        "expert.swiglu_in": "SwiGLU input, routed experts",
        "expert.clamped": "limited SwiGLU input, routed experts",
        "expert.swiglu_out": "SwiGLU output, routed experts",
        "expert.out": "routed experts' output",
        "expert.received": "tokens received by dispatch",
        "expert.received_grad": "gradients received by combine's backward",
        "expert.sent": "what is sent or gathered beside the rows received",
        "expert.sent_grad": "gradients sent or gathered beside those received",
        "expert.came_back": "what comes back beside the rows sent back",
        "expert.came_back_grad": "gradients that come back beside those sent back",
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
        "head.input_grad": "gradient of the head's input",
        "head.weight_grad": "gradient of the head, at work",
        "embedding.weight_grad": "gradient of the embedding, at work",
    }
)  # fmt: skip
"""Of the tensors that matter; others are told under their own names."""

KEYS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("weights.", ("parallel.ep", "parallel.pp", "parallel.tp", "parallel.zero_stage")),
    (
        "gradients.",
        ("data_parallel.grad_reduce.dtype", "parallel.ep", "parallel.pp", "parallel.tp", "parallel.zero_stage"),
    ),
    (
        "optimizer.",
        ("training.optimizer", "parallel.zero_stage", "cluster.num_gpus", "parallel.pp", "offload.optimizer"),
    ),
    ("buffers.dispatch", ("moe.dispatcher", "parallel.comm_sms", "parallel.ep")),
    ("buffers.graph", ("host.cuda_graph",)),
    ("buffers.offload", ("offload.activation_layers", "offload.activations")),
    ("buffers.pipeline", ("training.micro_batch_size", "parallel.schedule")),
    ("buffers.", ()),
    ("expert.", ("recompute", "training.micro_batch_size", "parallel.cp", "parallel.schedule", "precision.recipe")),
    (
        "attn.out",
        ("recompute", "recompute.saved.attn_out", "training.micro_batch_size", "parallel.cp", "parallel.schedule"),
    ),
    (
        "head.",
        ("head.chunk_tokens", "training.micro_batch_size", "parallel.cp", "parallel.tp", "parallel.layers_per_stage"),
    ),
    ("", ("recompute", "training.micro_batch_size", "parallel.cp", "parallel.schedule", "offload.activations")),
)
"""(how a tensor's name begins, keys that act on its size), the most specific first."""


def tensor_words(name: str) -> str:
    """A tensor in words: "routed experts' input"; "other activations" for the small ones of a kind."""
    owner, _, what = name.partition(".")
    if what == "small":
        return f"other {KIND_WORDS.get(owner, owner)}"
    return TENSOR_WORDS.get(name, f"{owner}: {what.replace('_', ' ')}" if what else name)


def keys_of(name: str) -> tuple[str, ...]:
    """Keys of a scenario that act on a tensor's size."""
    return next(keys for beginning, keys in KEYS if name.startswith(beginning))


def short_keys(keys: Sequence[str]) -> str:
    """Keys as a table has room for them: neighbours of one section in braces, "parallel.{ep, pp}, recompute"."""
    sections: dict[str, list[str]] = {}
    for key in keys:
        section, _, name = key.rpartition(".")
        sections.setdefault(section, []).append(name)
    return ", ".join(
        f"{section}.{{{', '.join(names)}}}" if section and len(names) > 1 else f"{section}.{names[0]}".lstrip(".")
        for section, names in sections.items()
    )


def headline(memory: Memory) -> tuple[Headline, ...]:
    """Verdict, peak, what is to spare and what the fullest rank may need, each as a label, a text and an explanation."""
    size, worst = numbers.amount_of_bytes, memory.worst_stage
    spare = memory.usable_bytes - worst.peak_bytes
    needed = worst.peak_bytes * (1 + memory.margin.high)
    return (
        Headline("Does it fit?", memory.verdict, VERDICT_HELP[memory.verdict]),
        Headline(
            "Peak of the fullest rank", size(worst.peak_bytes), f"pipeline rank {worst.pp_rank}, at its fullest instant"
        ),
        Headline(
            "Usable memory to spare" if spare >= 0 else "More than is usable",
            size(abs(spare)),
            f"{numbers.percent(abs(spare) / memory.usable_bytes)} of {size(memory.usable_bytes)}; "
            f"the device has {size(memory.capacity_bytes)}",
        ),
        Headline("With its margin at most", size(needed), MARGIN_HELP),
    )


def verdict_sentence(memory: Memory) -> str:
    """Does it fit, where is it fullest, and what of the device that rank may need."""
    size, worst = numbers.amount_of_bytes, memory.worst_stage
    spare = memory.usable_bytes - worst.peak_bytes
    share = numbers.percent(abs(spare) / memory.usable_bytes)
    low, high = (size(worst.peak_bytes * (1 + end)) for end in (memory.margin.low, memory.margin.high))
    return (
        f"{memory.verdict[0].upper()}{memory.verdict[1:]}: pipeline rank {worst.pp_rank} is the fullest with "
        f"{size(worst.peak_bytes)} of {size(memory.usable_bytes)} usable, {size(abs(spare))} ({share}) "
        f"{'to spare' if spare >= 0 else 'too much'}. With {MARGIN_HELP}, it needs {low} to {high} of the device's "
        f"{size(memory.capacity_bytes)}."
    )


def advice(memory: Memory, variants: MemoryVariants | None = None) -> tuple[str, ...]:
    """What makes room: the largest tensors of the fullest rank with the keys that act on them, and variants that need less."""
    size, worst = numbers.amount_of_bytes, memory.worst_stage
    lines = []
    for tensor in [each for each in worst.tensors or () if keys_of(each.name)][:NUM_ADVICE]:
        share = numbers.percent(tensor.bytes / worst.peak_bytes)
        lines.append(f"{tensor_words(tensor.name)}, {size(tensor.bytes)} ({share}): {', '.join(keys_of(tensor.name))}")
    for variant in best_variants(memory, variants):
        assert variant.memory is not None
        less = size(memory.peak_bytes_per_gpu - variant.memory.peak_bytes)
        lines.append(
            f"{variant_words(variant)}: {less} less, then {variant.memory.verdict} ({', '.join(variant.changes)})"
        )
    return tuple(lines)


def best_variants(memory: Memory, variants: MemoryVariants | None) -> list[MemoryVariant]:
    """The variants with the lowest peaks, of those that are below the scenario's own."""
    found = [
        (each.memory.peak_bytes, each) for each in (variants.variants if variants else ()) if each.memory is not None
    ]
    lower = [(peak, place, each) for place, (peak, each) in enumerate(found) if peak < memory.peak_bytes_per_gpu]
    return [each for _, _, each in sorted(lower, key=lambda row: row[:2])[:NUM_BEST]]


VARIANT_TITLES: Final[Mapping[VariantKind, str]] = MappingProxyType(
    {"recompute": "recompute", "schedule": "schedule", "state": "formats and sharding"}
)


def variant_words(variant: MemoryVariant) -> str:
    """'recompute: full', 'schedule: 1f1b', 'ZeRO 2'."""
    return variant.name if variant.kind == "state" else f"{variant.kind}: {variant.name}"


def why_not(variants: MemoryVariants) -> tuple[str, ...]:
    """What cannot be, and why."""
    return tuple(f"{variant_words(each)} cannot be: {each.why_not}" for each in variants.variants if each.why_not)
