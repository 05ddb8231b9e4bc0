"""From counted operators to seconds by segment: the only place where workload and costs meet before the graph.

Never count twice: kernels of a regime "overlapped" were measured (or derived) beside communication kernels and carry the
lost SMs already; "alone" ones do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from hwprofiles.kernels.shape import KERNELS, Regime
from simulator.assembly.chunks import BlockCost, DrawKind, Message, Segment, StageCost, UnitCost
from simulator.costs.cost import CollectiveCost
from simulator.workload.op import AllToAll, Op, StageWorkload, Unit, Workload

REGIMES: tuple[Regime, Regime] = ("overlapped", "alone")

KERNEL_GAPS, ALL_TO_ALL, PP_TRANSFER = "kernel_gaps", "all_to_all", "pp_transfer"
BESIDE_COMPUTE = ".beside_compute"
"""Ends the name of a dispatch or combine that shares the GPU with compute kernels."""


class Cost(Protocol):
    """What a kernel or collective cost has to say."""

    @property
    def seconds(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def basis(self) -> str: ...


@dataclass(frozen=True)
class Prices:
    """What everything of a step takes: operator or message → seconds; gap_s: idle time of a stream between two kernels.

    beside: a kernel with a data-parallel collective beside it, None where there is none.
    """

    kernel: Callable[[Op, Regime], Cost]
    all_to_all: Callable[[AllToAll, Regime], CollectiveCost]
    send: Callable[[int], CollectiveCost]
    gap_s: float
    beside: Callable[[Op], Cost] | None = None


def stage_costs(workload: Workload, prices: Prices) -> tuple[StageCost, ...]:
    """Costs of every stage; equal units (the same operators) are computed once."""
    cache: dict[tuple[object, ...], UnitCost] = {}
    send = message_segment("pipeline_send", prices.send(workload.boundary_bytes), PP_TRANSFER)
    last = len(workload.stages) - 1
    return tuple(
        StageCost(
            stage.stage, _units(stage, prices, cache), send_f=send if idx < last else None, send_b=send if idx else None
        )
        for idx, stage in enumerate(workload.stages)
    )


def _units(stage: StageWorkload, prices: Prices, cache: dict[tuple[object, ...], UnitCost]) -> tuple[UnitCost, ...]:
    units = []
    for unit in stage.units:
        key = (unit.kind, tuple(unit.blocks.items()), tuple(unit.all_to_all.items()))
        if key not in cache:
            cache[key] = _unit_cost(unit, prices)
        shared = cache[key]
        units.append(replace(shared, name=unit.name, replays=unit.replays))
    return tuple(units)


def _unit_cost(unit: Unit, prices: Prices) -> UnitCost:
    blocks: dict[tuple[str, Regime], BlockCost] = {}
    transfers: dict[tuple[str, Regime], Segment] = {}
    for regime in REGIMES:
        for name, ops in unit.blocks.items():
            if ops and name != "combine_b_cast":
                blocks[name, regime] = BlockCost(tuple(_segments(ops, partial(_at, prices, regime), prices.gap_s)))
        for key, message in unit.all_to_all.items():
            cast = unit.blocks.get("combine_b_cast", ()) if key == "combine_b" else ()
            transfers[key, regime] = _transfer(key, message, cast, regime, prices)
    beside: dict[str, BlockCost] = {}
    if prices.beside is not None:
        for name, ops in unit.blocks.items():
            if ops and name != "combine_b_cast":
                beside[name] = BlockCost(tuple(_segments(ops, prices.beside, prices.gap_s)))
    return UnitCost(unit.name, blocks, transfers, unit.kind == "moe", beside=beside)


def _at(prices: Prices, regime: Regime, op: Op) -> Cost:
    return prices.kernel(op, regime)


def message_segment(name: str, cost: CollectiveCost, category: str) -> Segment:
    """A collective as a segment of its own; name: as results tell of it."""
    by_category: dict[str, float] = {category: cost.seconds}
    by_basis: dict[str, float] = {cost.basis: cost.seconds}
    return Segment(cost.seconds, cost.low, cost.high, by_category, by_basis, messages=(Message(name, cost),))


def _transfer(key: str, message: AllToAll, cast: Iterable[Op], regime: Regime, prices: Prices) -> Segment:
    """The all-to-all, behind the cast of what it sends (both on the communication stream)."""
    name = key if regime == "alone" else f"{key}{BESIDE_COMPUTE}"
    own = message_segment(name, prices.all_to_all(message, regime), ALL_TO_ALL)
    before = _sum_ops(cast, partial(_at, prices, regime), prices.gap_s)
    return add_segments((before, own))


def _segments(
    ops: tuple[Op, ...], price: Callable[[Op], Cost], gap_s: float
) -> Iterable[tuple[str, DrawKind, Segment]]:
    """Kernels before the attention core (of several the last: others are recomputed), the core, kernels behind it; in blocks
    without one: fixed, then routed.
    """
    core = next((i for i, op in reversed([*enumerate(ops)]) if KERNELS[op.shape.op].bound == "attention"), None)
    if core is not None:
        for suffix, part in ((".before_core", ops[:core]), (".core", ops[core : core + 1]), (".rest", ops[core + 1 :])):
            if part:
                yield suffix, "none", _sum_ops(part, price, gap_s)
        return
    fixed, routed = [op for op in ops if not op.routed], [op for op in ops if op.routed]
    if fixed:
        yield "", "none", _sum_ops(fixed, price, gap_s)
    if routed:
        yield ".routed", "rank", _sum_ops(routed, price, gap_s)


def _sum_ops(ops: Iterable[Op], price: Callable[[Op], Cost], gap_s: float) -> Segment:
    seconds = low = high = flop = 0.0
    by_category: dict[str, float] = {}
    by_basis: dict[str, float] = {}
    for op in ops:
        flop += op.flop
        cost, gaps = price(op), op.shape.num_kernels * gap_s
        seconds, low, high = seconds + cost.seconds + gaps, low + cost.low + gaps, high + cost.high + gaps
        _bump(by_category, KERNELS[op.shape.op].category, cost.seconds)
        _bump(by_category, KERNEL_GAPS, gaps)
        _bump(by_basis, cost.basis, cost.seconds + gaps)
    return Segment(seconds, low, high, by_category, by_basis, flop)


def _bump(totals: dict[str, float], key: str, seconds: float) -> None:
    if seconds:
        totals[key] = totals.get(key, 0.0) + seconds


def add_segments(segments: Iterable[Segment]) -> Segment:
    """One segment for a run of them."""
    seconds = low = high = flop = 0.0
    by_category: dict[str, float] = {}
    by_basis: dict[str, float] = {}
    messages: tuple[Message, ...] = ()
    for segment in segments:
        messages += segment.messages
        flop += segment.flop
        seconds, low, high = seconds + segment.seconds, low + segment.low, high + segment.high
        _merge(by_category, segment.by_category)
        _merge(by_basis, segment.by_basis)
    return Segment(seconds, low, high, by_category, by_basis, flop, messages)


def _merge(totals: dict[str, float], more: Mapping[str, float]) -> None:
    for key, value in more.items():
        _bump(totals, key, value)
