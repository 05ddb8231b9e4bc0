"""A simple model of generating: the seconds of one decode step of an engine, its memory, and how many sequences fit.

On a GPU with b sequences of L cached tokens each, a step is
    rows r = b (two rows a sequence where an MTP module drafts a token that the step verifies)
    kernels(r): the stack's GEMMs and memory-bound kernels at r rows, experts at r times the fullest GPU's share (tables)
    attention = sum over layers of max(b L bytes / (share * memory bandwidth), r L FLOP / (share * BF16 peak))
    exchange(r) = dispatch and combine of every MoE layer: r top_k tokens' bytes times the fullest GPU's share / (share * link
      rate) + a latency each, or two all-reduces a layer of a dense model that several GPUs share
    step = engine + min(kernels(r) + attention + exchange(r), max(2 kernels(r / 2) + attention, 2 exchange(r / 2)))
the last as two halves of the batch that run beside one another (arXiv:2412.19437, 3.4). Shares, latency and engine are stated
assumptions. Nothing is fitted to a served system.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Final

from hwprofiles.kernels.parameters import find
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.schema import Gpu, Node
from hwprofiles.stack_records import Stack
from simulator.run.kinds.cache import LayerCache, cache_bytes, layer_caches
from simulator.run.kinds.decode_kernels import Shares, draft_shapes, expert_shapes, head_shapes, layer_shapes
from simulator.run.kinds.kind_model import Values
from simulator.scenario.model import ModelSpec
from simulator.step.pricing import GAP
from simulator.workload.layers.part import WHOLE
from simulator.workload.model_counts import model_parts
from simulator.workload.tensors import tensor_bytes, weight_bytes

ROWS: Final = (1, 8, 32, 64, 128, 256, 512, 1_024, 4_096)
"""Rows at which kernels are priced; between two, seconds are linear in the rows: weights are read up to some 128 rows, tiles of
arithmetic count from there on.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Seconds at ROWS."""

    seconds: tuple[float, ...]

    def at(self, rows: float) -> float:
        """Seconds at so many rows; below one as at one, beyond the last in proportion."""
        if rows <= 1.0:
            return self.seconds[0]
        if rows >= ROWS[-1]:
            return self.seconds[-1] * rows / ROWS[-1]
        place = bisect_right(ROWS, rows)
        low, high = ROWS[place - 1], ROWS[place]
        share = (rows - low) / (high - low)
        return self.seconds[place - 1] * (1.0 - share) + self.seconds[place] * share


@dataclass(frozen=True, slots=True)
class Decode:
    """What an engine's step is made of, on each of its GPUs.

    gpus: of an engine. tp: of them that share every sequence. even: kernels that see the GPU's own rows; experts: those of the
    routed experts, by the rows of each GPU. draft: the MTP module's kernels for one row a sequence; None: none drafts.
    caches: of the layers; weight_bytes: of a GPU. exchange_bytes: that a row sends in all layers; exchanges: how often;
    link_bytes_per_s: over what, one direction of a GPU.
    """

    gpus: int
    tp: int
    even: Table
    experts: Table
    draft: Table | None
    caches: tuple[LayerCache, ...]
    weight_bytes: float
    exchange_bytes: float
    exchanges: int
    link_bytes_per_s: float
    memory_bytes: float
    memory_bytes_per_s: float
    peak_flop_per_s: float

    @property
    def rows_per_sequence(self) -> int:
        """Tokens of a sequence that a step computes."""
        return 1 if self.draft is None else 2

    @property
    def cache_bytes_per_token(self) -> float:
        """Bytes of a cached token, over the GPUs that share its sequence."""
        return self.tp * cache_bytes(self.caches, 1.0)

    def tokens_per_step(self, values: Values) -> float:
        """Tokens of a sequence that a step yields."""
        return 1.0 if self.draft is None else 1.0 + values["rollout_mtp_acceptance"]

    def most_sequences(self, values: Values, context: float) -> float:
        """Sequences of so many tokens that a GPU's memory holds beside the weights; below 1: of one, a part."""
        room = values["rollout_memory_frac"] * self.memory_bytes - self.weight_bytes
        return room / (self.tp * cache_bytes(self.caches, context))

    def step_s(self, values: Values, batch: float, context: float) -> float:
        """Seconds of a step with so many sequences a GPU (of each of the engine's), each of so many cached tokens."""
        batch *= self.tp
        rows, attention = batch * self.rows_per_sequence, self._attention_s(values, batch, context)
        whole = self._kernels_s(values, rows) + attention + self._exchange_s(values, rows)
        halves = max(2.0 * self._kernels_s(values, rows / 2) + attention, 2.0 * self._exchange_s(values, rows / 2))
        return values["rollout_engine_s"] + min(whole, halves)

    def _kernels_s(self, values: Values, rows: float) -> float:
        drafted = self.draft.at(rows / self.rows_per_sequence) if self.draft else 0.0
        return self.even.at(rows) + self.experts.at(rows * values["rollout_expert_rows_frac"]) + drafted

    def _attention_s(self, values: Values, batch: float, context: float) -> float:
        read = values["rollout_cache_bandwidth_frac"] * self.memory_bytes_per_s
        rate = values["rollout_attention_flop_frac"] * self.peak_flop_per_s
        return batch * fsum(
            each.layers
            * each.tokens(context)
            * max(each.bytes_per_token / read, self.rows_per_sequence * each.flop_per_pair / rate)
            for each in self.caches
        )

    def _exchange_s(self, values: Values, rows: float) -> float:
        if not self.exchanges:
            return 0.0
        rate = values["rollout_link_frac"] * self.link_bytes_per_s
        sent = rows * self.exchange_bytes * (1.0 if self.tp > 1 else values["rollout_expert_rows_frac"])
        return sent / rate + self.exchanges * values["rollout_exchange_s"]


@dataclass(frozen=True, slots=True)
class Formats:
    """Formats of an engine. gemm: of weights and operands of the layers' GEMMs; dispatch, combine: of what experts exchange;
    cache: of keys and values.
    """

    gemm: str = "bf16"
    dispatch: str = "bf16"
    combine: str = "bf16"
    cache: str = "bf16"


def decode_of(
    model: ModelSpec, gpus: int, node: Node, gpu: Gpu, stack: Stack, formats: Formats, *, mtp: bool
) -> Decode:
    """The engine of so many GPUs. Raises MissingKernelError where the stack has nothing of a kernel."""
    is_moe = model.moe is not None
    shares = Shares(formats.gemm, tp=1 if is_moe else gpus, ep=gpus if is_moe else 1)
    price = _pricer(stack, gpu)
    layers = model.layers
    codes = {code: layers.count(code) for code in sorted(set(layers))}
    drafted = mtp and model.mtp.num_modules > 0

    def even(rows: int) -> float:
        of_layers = fsum(number * price(layer_shapes(model, code, rows, shares)) for code, number in codes.items())
        return of_layers + price(head_shapes(model, rows, shares))

    def routed(rows: int) -> float:
        return codes.get("m", 0) * price(expert_shapes(model, rows, shares)) if is_moe else 0.0

    def draft(rows: int) -> float:
        last = layers[-1]
        beside = [*layer_shapes(model, last, rows, shares), *draft_shapes(model, rows, shares)]
        experts = expert_shapes(model, rows, shares) if last == "m" else []
        return price([*beside, *experts, *head_shapes(model, rows, shares)])

    sent, times = _exchanged(model, shares, formats)
    inside = gpus <= node.scale_up_domain_gpus
    nic = node.nic_bytes_per_s * node.nics_per_node / node.gpus_per_node
    return Decode(
        gpus=gpus, tp=shares.tp, even=_table(even), experts=_table(routed), draft=_table(draft) if drafted else None,
        caches=layer_caches(model, formats.cache, shares.tp), weight_bytes=engine_weights(model, shares, mtp=drafted),
        exchange_bytes=sent, exchanges=times, link_bytes_per_s=node.scale_up_bytes_per_s if inside else nic,
        memory_bytes=float(gpu.memory_bytes), memory_bytes_per_s=gpu.hbm_bytes_per_s,
        peak_flop_per_s=gpu.peak_flop_per_s["bf16"],
    )  # fmt: skip


def engine_weights(model: ModelSpec, shares: Shares, *, mtp: bool) -> float:
    """Bytes of the weights on one GPU: layers in the GEMMs' format, embedding and head in BF16."""
    main, modules = model_parts(model)
    params = [(times, part.params(model, WHOLE)) for times, part in (main + modules if mtp else main)]
    vocabulary = model.vocab_size * model.hidden_size * (1 if model.tied_embeddings else 2)
    dense = sum(times * each.dense for times, each in params) - vocabulary
    expert = sum(times * each.expert for times, each in params)
    held = -(-model.moe.num_routed_experts // shares.ep) / model.moe.num_routed_experts if model.moe else 0.0
    whole = weight_bytes(shares.gemm_dtype, dense) + weight_bytes("bf16", vocabulary)
    return whole / shares.tp + held * weight_bytes(shares.gemm_dtype, expert)


def _exchanged(model: ModelSpec, shares: Shares, formats: Formats) -> tuple[float, int]:
    """(bytes that a row sends in a step, exchanges of a step)."""
    h, moe = model.hidden_size, model.moe
    if moe is not None and shares.ep > 1:
        both = (formats.dispatch, formats.combine)
        sent = sum(tensor_bytes("fp8-block" if each == "fp8" else "bf16", h) for each in both)
        number = model.layers.count("m")
        return float(number * moe.top_k * sent), 2 * number
    if shares.tp > 1:
        ring = 2.0 * (shares.tp - 1) / shares.tp
        return 2 * model.num_layers * ring * tensor_bytes("bf16", h), 2 * model.num_layers
    return 0.0, 0


def _pricer(stack: Stack, gpu: Gpu) -> Callable[[Sequence[KernelShape]], float]:
    """Seconds of kernels one behind the other, with the stream's gaps (launched by a CUDA graph)."""
    gap = find(stack, GAP)
    known: dict[KernelShape, float] = {}

    def seconds(shape: KernelShape) -> float:
        if shape not in known:
            launches = shape.num_kernels
            known[shape] = kernel_seconds(shape, stack, gpu, "alone").seconds + launches * (gap.value if gap else 0.0)
        return known[shape]

    return lambda shapes: fsum(map(seconds, shapes))


def _table(seconds: Callable[[int], float]) -> Table:
    return Table(tuple(seconds(rows) for rows in ROWS))
