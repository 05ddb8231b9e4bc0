"""The attention core of ranks that share every sequence (context parallelism), and what they exchange around it.

A sequence of s tokens lies in 2 cp chunks; rank r has chunks r and 2 cp - 1 - r, so that all have s²/(2 cp) causal pairs. What
each way sends, and the kernels that it runs, is as in NVIDIA/TransformerEngine (d0067d0)
pytorch/attention/dot_product_attention/context_parallel.py:

    a2a         (arXiv:2309.14509) queries, keys and values of all heads for those of heads / cp over the whole sequence, the
                output back; a head of keys goes to several ranks where there are fewer than cp. Backward: the same, reversed.
    all_gather  (arXiv:2407.21783, 3.3.2) keys and values are gathered, again in the backward, where their gradients are
                reduce-scattered; each of the rank's chunks attends in a kernel of its own to all keys before its end.
    ring        (arXiv:2310.01889) cp - 1 hops: keys and values go to the next rank while those at hand are attended to; the
                first step is the causal diagonal, each later one half a block: all queries with a half of the keys, or half of
                them with all. Each output is scaled by its share of the softmax and added behind its step, in BF16; the first
                is only scaled, and the first gradients are copied. Backward: keys and values go round, and their gradients
                after them, one hop later.

Where latent attention sends its latents (cp_kv: latent), every rank projects all tokens' keys and values up, of its heads; for
a ring and an all-gather once more in the backward, which keeps none that came from others.

Documents that sequences are packed from are cut one by one in the same way, and each step's kernel takes the part of every one.
All in BF16. Two kernels of neighbouring steps on two streams, which fill each other's last wave, are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import fsum
from typing import Final

from simulator.workload import counting as c
from simulator.workload.counting import AttentionCore
from simulator.workload.layers import packed
from simulator.workload.layers.packed import Part
from simulator.workload.op import Collective, CollectiveOp, Pass, Work
from simulator.workload.pairs import block_pairs, pieces_of, query_key_pairs
from simulator.workload.recipe import CpComm, Recipe
from simulator.workload.tensors import tensor_bytes

STEP: Final = "_step_"
"""In the names of the kernels of a core that has several, in front of their number."""


def run_core(core: AttentionCore, r: Recipe, phase: Pass, latent: int = 0) -> Iterator[Work]:
    """The core of a rank's micro-batch, forward (F) or backward (I), with what its context-parallel group exchanges.

    latent: numbers of a token from which all ranks project keys and values, where these are sent in their place; an all-to-all
    and an all-gather then send them around the projections, not here.
    """
    name = "attention" if phase == "F" else "attention_bwd"
    if r.cp == 1:
        yield c.attention(name, phase, r.batch, r.seq, core, block=packed.whole_block(core.window, r.seq, r.documents))
    else:
        yield from _WAYS[r.cp_comm](name, phase, core, r, latent)


def held_kv_heads(kv_heads: int, cp: int) -> int:
    """Key and value heads that a rank has behind an all-to-all: its part of them, at least one."""
    return max(1, kv_heads // cp)


def exchanged_core(core: AttentionCore, cp: int) -> AttentionCore:
    """The core over whole sequences behind an all-to-all: a rank's part of the heads."""
    return replace(core, heads=core.heads // cp, kv_heads=held_kv_heads(core.kv_heads, cp))


def _a2a(name: str, phase: Pass, core: AttentionCore, r: Recipe, latent: int) -> Iterator[Work]:
    run = core.as_run
    kv = run.kv_heads if run.kv_heads % r.cp == 0 else r.cp
    own = (("q", run.heads * run.head_dim_qk),)
    inputs = own if latent else (*own, ("k", kv * run.head_dim_qk), ("v", kv * run.head_dim_v))
    output = (("out", run.heads * run.head_dim_v),)
    yield from _exchanges(name, phase, inputs if phase == "F" else output, r)
    block = packed.whole_block(core.window, r.seq, r.documents)
    yield c.attention(name, phase, r.batch, r.seq, exchanged_core(core, r.cp), block=block)
    yield from _exchanges(name, phase, output if phase == "F" else inputs, r)
    if phase == "I" and kv > run.kv_heads:
        width = kv * (run.head_dim_qk + run.head_dim_v)
        yield c.copy(f"{name}_kv_heads_sum", r.tokens * width, r.tokens * width * run.kv_heads // kv, phase)


def _exchanges(name: str, phase: Pass, tensors: tuple[tuple[str, int], ...], r: Recipe) -> Iterator[Work]:
    """(tensor, width of a token) each: laid out by receiver, sent, and laid out as the next kernel takes it."""
    for tensor, width in tensors:
        elements = r.tokens * width
        yield _sent(f"{name}_{tensor}_exchange", "all_to_all", elements, phase)
        yield c.copy(f"{name}_{tensor}_layout", 2 * elements, 2 * elements, phase, kernels=2)


def _all_gather(name: str, phase: Pass, core: AttentionCore, r: Recipe, latent: int) -> Iterator[Work]:
    run = core.as_run
    widths = (("k", run.kv_heads * run.head_dim_qk), ("v", run.kv_heads * run.head_dim_v))
    every = r.tokens * r.cp
    for tensor, width in () if latent else widths:
        yield _sent(f"{name}_{tensor}_gather", "all_gather", every * width, phase)
        yield c.copy(f"{name}_{tensor}_order", every * width, every * width, phase)
    blocks = packed.blocks_of(core.window, r.seq, r.cp, r.documents, chunks_seen)
    for i, block in enumerate(blocks):
        yield c.attention(f"{name}{STEP}{i}", phase, r.batch, block.queries, core, block.causal, block=block)
    own = r.tokens * run.heads * (run.head_dim_v if phase == "F" else run.head_dim_qk)
    yield c.copy(f"{name}_chunks_join", own, own, phase, kernels=len(blocks))
    if phase == "I":
        width = sum(width for _, width in widths)
        yield c.copy(f"{name}_kv_grad_zeros", 0, every * width, phase, kernels=2)
        yield c.add(f"{name}_kv_grad_sum", r.batch * sum(block.keys for block in blocks) * width, phase)
        for tensor, width in () if latent else widths:
            yield c.copy(f"{name}_{tensor}_grad_order", every * width, every * width, phase)
            yield _sent(f"{name}_{tensor}_grad_scatter", "reduce_scatter", every * width, phase)


def chunks_seen(window: int | None, cp: int, seq: float, pairs: float) -> tuple[Part, ...]:
    """What the longest rank attends to: its first chunk and its second. Without a window all ranks have as many pairs; with one
    the first chunk's queries have fewer keys than any others, and the rank that has it waits for those that do not.
    """
    whole = query_key_pairs(seq, causal=True, window=window)
    of_ranks = [
        [(chunk, block_pairs(chunk, (0, chunk[1]), window)) for chunk in pieces_of(rank, seq, cp, "zigzag")]
        for rank in (range(cp) if window is not None else (0,))
    ]
    longest = max(of_ranks, key=lambda chunks: fsum(own for _, own in chunks))
    held = fsum(own for _, own in longest)
    scale = pairs / whole if window is not None else pairs / cp / held
    even = min(1.0, whole / cp / held) if window is not None else 1.0
    return tuple(
        Part(b - a, b if window is None else min(b, b - a + window), own * scale, True, even) for (a, b), own in longest
    )


def _ring(name: str, phase: Pass, core: AttentionCore, r: Recipe, latent: int) -> Iterator[Work]:
    run, last = core.as_run, r.cp - 1
    kv = r.tokens * (latent or run.kv_heads * (run.head_dim_qk + run.head_dim_v))
    yield c.copy(f"{name}_kv_buffer", kv, kv, phase)
    for i, block in enumerate(packed.blocks_of(None, r.seq, r.cp, r.documents, hops_seen)):
        step = f"{name}{STEP}{i}"
        tensors = [tensor for tensor, sends in (("kv", i < last), ("kv_grad", phase == "I" and i > 0)) if sends]
        if tensors:
            yield _sent(f"{name}_{'_and_'.join(tensors)}_send_{i}", "send_recv", len(tensors) * kv, phase, beside=step)
        yield c.attention(step, phase, r.batch, block.queries, core, block.causal, block=block)
        width = run.heads * (run.head_dim_v if phase == "F" else run.head_dim_qk)
        yield c.add(f"{name}_merge_{i}", r.batch * block.queries * width, phase, inputs=2 if i else 1)
        if phase == "I" and i == 0:
            yield c.copy(f"{name}_kv_grad_first", kv, kv, phase)
        elif phase == "I":
            yield c.add(f"{name}_kv_grad_sum_{i}", kv * block.keys * r.cp // r.seq, phase)


def hops_seen(window: int | None, cp: int, seq: float, pairs: float) -> tuple[Part, ...]:
    """What a rank in the middle attends to: the diagonal, then steps with the keys of ranks before it, then of those behind."""
    own, steps = seq / cp, []
    for i in range(cp):
        queries, keys = (own, own) if i == 0 else (own, own / 2) if i <= cp // 2 else (own / 2, own)
        steps.append(Part(queries, keys, pairs / cp**2, i == 0))
    return tuple(steps)


def gather_latent(name: str, width: int, r: Recipe, phase: Pass) -> Iterator[Work]:
    """All tokens' latents (a ring brings them beside the core)."""
    if r.cp_comm != "ring":
        elements = r.tokens * r.cp * width
        yield _sent(f"{name}_gather", "all_gather", elements, phase)
        yield c.copy(f"{name}_order", elements, elements, phase)


def scatter_latent_grad(name: str, width: int, r: Recipe) -> Iterator[Work]:
    """Gradients of all tokens' latents, each to the rank that has the token."""
    if r.cp_comm != "ring":
        elements = r.tokens * r.cp * width
        yield c.copy(f"{name}_order", elements, elements, "I")
        yield _sent(f"{name}_scatter", "reduce_scatter", elements, "I")


def _sent(name: str, op: CollectiveOp, elements: int, phase: Pass, beside: str = "") -> Collective:
    return Collective(name, op, "cp", tensor_bytes("bf16", elements), phase, beside)


_WAYS: Final[Mapping[CpComm, Callable[[str, Pass, AttentionCore, Recipe, int], Iterator[Work]]]] = {
    "a2a": _a2a,
    "all_gather": _all_gather,
    "ring": _ring,
}
