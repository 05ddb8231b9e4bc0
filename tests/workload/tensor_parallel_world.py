"""Layers written out for every rank of a tensor-parallel group with real matrices, which multiply, gather and reduce for real.

What they compute must be what one rank computes alone; what they multiply and send is logged for the tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.scenario.model import GqaAttention, MlaAttention

Array = NDArray[np.float64]
Ranks = list[Array]
"""The same tensor, or its shard, on every rank."""


@dataclass
class World:
    """tp ranks; shards: they share the tokens outside the GEMMs too. flop: by pass, of all ranks. sent: (pass, op, bytes)."""

    tp: int
    shards: bool
    flop: Counter[str] = field(default_factory=Counter)
    sent: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def multiply(self, phase: str, a: Array, b: Array) -> Array:
        self.flop[phase] += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        return a @ b

    def log(self, phase: str, op: str, elements: int, width: int = 2) -> None:
        if self.tp > 1:
            self.sent[phase, op, elements * width] += 1

    def spread(self, whole: Array) -> Ranks:
        """How a tensor lies outside the GEMMs: by tokens, or whole on every rank."""
        return np.split(whole, self.tp) if self.shards else [whole] * self.tp

    def whole(self, phase: str, x: Ranks) -> Array:
        """What a GEMM needs whole."""
        if not self.shards:
            return x[0]
        found = np.concatenate(x)
        self.log(phase, "all_gather", found.size)
        return found

    def summed(self, phase: str, partial: Ranks) -> Ranks:
        """Partial sums of the whole tensor, summed to how it lies outside."""
        total = np.sum(partial, axis=0)
        self.log(phase, "reduce_scatter" if self.shards else "all_reduce", total.size)
        return self.spread(total)


def columns(weights: Array, tp: int, blocks: Sequence[int]) -> Ranks:
    """A rank's share of each block of columns (blocks: their widths), side by side."""
    parts = np.split(weights, np.cumsum(blocks)[:-1], axis=1)
    return [np.concatenate([np.split(part, tp, axis=1)[rank] for part in parts], axis=1) for rank in range(tp)]


@dataclass
class Column:
    """A column-parallel layer and what its backward leaves."""

    world: World
    weights: Ranks

    def forward(self, x: Ranks) -> Ranks:
        self.saved = x
        whole = self.world.whole("F", x)
        return [self.world.multiply("F", whole, w) for w in self.weights]

    def backward(self, grad: Ranks) -> Ranks:
        again = self.world.whole("I", self.saved)
        inputs = [self.world.multiply("I", g, w.T) for g, w in zip(grad, self.weights, strict=True)]
        self.grads = [self.world.multiply("W", again.T, g) for g in grad]
        return self.world.summed("I", inputs)


@dataclass
class Row:
    """A row-parallel layer and what its backward leaves."""

    world: World
    weights: Ranks

    def forward(self, x: Ranks) -> Ranks:
        self.saved = x
        return self.world.summed("F", [self.world.multiply("F", *each) for each in zip(x, self.weights, strict=True)])

    def backward(self, grad: Ranks) -> Ranks:
        whole = self.world.whole("I", grad)
        self.grads = [self.world.multiply("W", x.T, whole) for x in self.saved]
        return [self.world.multiply("I", whole, w.T) for w in self.weights]


@dataclass
class Own:
    """A layer that every rank has whole and does for the tokens that lie on it."""

    world: World
    weights: Array

    def forward(self, x: Ranks) -> Ranks:
        self.saved = x
        return [self.world.multiply("F", each, self.weights) for each in x]

    def backward(self, grad: Ranks) -> Ranks:
        self.grads = [self.world.multiply("W", x.T, g) for x, g in zip(self.saved, grad, strict=True)]
        return [self.world.multiply("I", g, self.weights.T) for g in grad]


def core(q: Array, k: Array, v: Array, grad: Array) -> tuple[Array, Array, Array, Array]:
    """(tokens, heads, width) each: a stand-in for attention, head by head; its output and the gradients of q, k and v."""
    scale = np.sum(q * k, axis=-1, keepdims=True)
    up = np.sum(v * grad, axis=-1, keepdims=True)
    return v * scale, up * k, up * q, scale * grad


class Ffn:
    """Gate, up and down: y = (x Wg * x Wu) Wd."""

    def __init__(self, world: World, up: Array, down: Array) -> None:
        self.world, f = world, down.shape[0]
        self.up = Column(world, columns(up, world.tp, (f, f)))
        self.down = Row(world, np.split(down, world.tp))

    def forward(self, x: Ranks) -> Ranks:
        self.halves = [np.split(each, 2, axis=1) for each in self.up.forward(x)]
        return self.down.forward([gate * up for gate, up in self.halves])

    def backward(self, grad: Ranks) -> Ranks:
        down = self.down.backward(grad)
        pairs = zip(down, self.halves, strict=True)
        return self.up.backward([np.concatenate((g * up, g * gate), axis=1) for g, (gate, up) in pairs])


class Gqa:
    """Grouped-query attention with its output projection."""

    def __init__(self, world: World, a: GqaAttention, qkv: Array, out: Array) -> None:
        self.world, self.a = world, a
        kv = a.num_kv_heads * a.head_dim
        self.qkv = Column(world, columns(qkv, world.tp, (a.num_heads * a.head_dim, kv, kv)))
        self.out = Row(world, np.split(out, world.tp))

    def _heads(self, x: Array) -> tuple[Array, Array, Array]:
        heads, kv = self.a.num_heads // self.world.tp, self.a.num_kv_heads // self.world.tp
        q, k, v = np.split(x.reshape(len(x), -1, self.a.head_dim), (heads, heads + kv), axis=1)
        return q, np.repeat(k, heads // kv, axis=1), np.repeat(v, heads // kv, axis=1)

    def forward(self, x: Ranks) -> Ranks:
        self.projected = self.qkv.forward(x)
        outs = []
        for each in self.projected:
            q, k, v = self._heads(each)
            outs.append(core(q, k, v, v)[0].reshape(len(each), -1))
        return self.out.forward(outs)

    def backward(self, grad: Ranks) -> Ranks:
        back, group = [], self.a.num_heads // self.a.num_kv_heads
        for each, g in zip(self.projected, self.out.backward(grad), strict=True):
            q, k, v = self._heads(each)
            _, dq, dk, dv = core(q, k, v, g.reshape(v.shape))
            dk, dv = (d.reshape(len(d), -1, group, d.shape[-1]).sum(axis=2) for d in (dk, dv))
            back.append(np.concatenate((dq, dk, dv), axis=1).reshape(len(each), -1))
        return self.qkv.backward(back)


class Mla:
    """Multi-head latent attention: own down-projections, gathered latents, column-parallel up-projections."""

    def __init__(self, world: World, a: MlaAttention, hidden: int, rng: np.random.Generator) -> None:
        self.world, self.a = world, a
        qk, up = a.qk_nope_head_dim + a.qk_rope_head_dim, a.qk_nope_head_dim + a.v_head_dim
        kv = a.kv_lora_rank + a.qk_rope_head_dim
        self.q_down, self.kv_down = (Own(world, rng.standard_normal((hidden, n))) for n in (a.q_lora_rank, kv))
        self.q_up = Column(world, np.split(rng.standard_normal((a.q_lora_rank, a.num_heads * qk)), world.tp, axis=1))
        self.kv_up = np.split(rng.standard_normal((a.kv_lora_rank, a.num_heads * up)), world.tp, axis=1)
        self.out = Row(world, np.split(rng.standard_normal((a.num_heads * a.v_head_dim, hidden)), world.tp))

    def _attend(self, rank: int, grad: Array | None) -> tuple[Array, ...]:
        a, rope = self.a, self.latent[:, None, self.a.kv_lora_rank :]
        heads, t = a.num_heads // self.world.tp, len(self.latent)
        q, kv = self.q[rank].reshape(t, heads, -1), self.kv[rank].reshape(t, heads, -1)
        k_nope, v = np.split(kv, (a.qk_nope_head_dim,), axis=2)
        k = np.concatenate((k_nope, np.repeat(rope, heads, axis=1)), axis=2)
        out, dq, dk, dv = core(q, k, v, v if grad is None else grad.reshape(v.shape))
        dk_nope, dk_rope = np.split(dk, (a.qk_nope_head_dim,), axis=2)
        d_kv = np.concatenate((dk_nope, dv), axis=2)
        return tuple(each.reshape(t, -1) for each in (out, dq, d_kv, dk_rope.sum(axis=1)))

    def forward(self, x: Ranks) -> Ranks:
        self.q = self.q_up.forward(self.q_down.forward(x))
        self.latents = self.kv_down.forward(x)
        self.latent = self.world.whole("F", self.latents)
        keys = self.latent[:, : self.a.kv_lora_rank]
        self.kv = [self.world.multiply("F", keys, w) for w in self.kv_up]
        return self.out.forward([self._attend(rank, None)[0] for rank in range(self.world.tp)])

    def backward(self, grad: Ranks) -> Ranks:
        found = [self._attend(rank, g) for rank, g in enumerate(self.out.backward(grad))]
        from_q = self.q_down.backward(self.q_up.backward([dq for _, dq, _, _ in found]))
        # For the weight gradient only the latent is gathered again: the rope key has no up-projection.
        keys = self.world.whole("I", [each[:, : self.a.kv_lora_rank] for each in self.latents])
        self.kv_grads = [self.world.multiply("W", keys.T, d_kv) for _, _, d_kv, _ in found]
        partial = [
            np.concatenate((self.world.multiply("I", d_kv, w.T), d_rope), axis=1)
            for (_, _, d_kv, d_rope), w in zip(found, self.kv_up, strict=True)
        ]
        from_kv = self.kv_down.backward(self.world.summed("I", partial))
        return [q + kv for q, kv in zip(from_q, from_kv, strict=True)]
