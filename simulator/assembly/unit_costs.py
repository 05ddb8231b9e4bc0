"""From counted operators to seconds by segment: the only place where workload and costs meet before the graph.

Never count twice: kernels of a regime "overlapped" were measured (or derived) beside communication kernels and carry the
lost SMs already; "alone" ones do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from hwprofiles.kernels.shape import KERNELS, Regime
from simulator.assembly.chunks import (
    NO_ISSUE,
    BlockCost,
    DrawKind,
    Message,
    Piece,
    Segment,
    StageCost,
    UnitCost,
)
from simulator.assembly.exposed import UNCHUNKED, Beside, Chunking, Cost, Exposed, exposed, partner
from simulator.assembly.issue import NOTHING_ISSUED, UnitIssue, issue_of
from simulator.costs.cost import CollectiveCost
from simulator.workload.layers.context_parallel import STEP
from simulator.workload.op import AllToAll, Collective, Op, StageWorkload, Unit, Work, Workload

REGIMES: tuple[Regime, Regime] = ("overlapped", "alone")

KERNEL_GAPS, ALL_TO_ALL, PP_TRANSFER = "kernel_gaps", "all_to_all", "pp_transfer"
TP_COLLECTIVES, CP_COLLECTIVES = "tp_collectives", "cp_collectives"
INSIDE: Mapping[str, str] = {"tp": TP_COLLECTIVES, "etp": TP_COLLECTIVES, "cp": CP_COLLECTIVES}
"""Category of a collective inside a block, by its axis."""
NO_CALLS: Mapping[int, float] = {}
WHOLE_KEYS = 0.999
"""Keys of a query over what its document and the mask say below which a window cuts some off: all, but for rounding."""
BESIDE_COMPUTE = ".beside_compute"
"""Ends the name of a dispatch or combine that shares the GPU with compute kernels."""


@dataclass(frozen=True)
class Prices:
    """What everything of a step takes: operator or message → seconds; gap_s: idle time of a stream between two kernels.

    held: a kernel with a collective beside it all the time. has_beside: data-parallel collectives may run beside kernels.
    chunking: how collectives inside a block overlap with the GEMMs around them. stretch: how many times as long bytes take on
    scale-up links beside a kernel. issue: what it takes the host to issue a unit.
    """

    kernel: Callable[[Op, Regime], Cost]
    all_to_all: Callable[[AllToAll, Regime], CollectiveCost]
    gap_s: float
    collective: Callable[[Collective], CollectiveCost]
    held: Callable[[Op], Cost]
    has_beside: bool = False
    chunking: Chunking = UNCHUNKED
    stretch: float = 1.0
    issue: Callable[[Unit], UnitIssue] | None = None


@dataclass(frozen=True)
class Kept:
    """Costs of the same workload at other prices, and what of them holds at new ones: kernels of these regimes; kernels with
    a collective beside them all the time; dispatch, combine in these regimes; collectives inside a block.
    """

    stages: Sequence[StageCost]
    regimes: frozenset[Regime] = frozenset()
    held: bool = False
    messages: frozenset[Regime] = frozenset()
    collectives: bool = False

    def blocks(self, old: Mapping[tuple[str, Regime], BlockCost], regime: Regime) -> Mapping[str, BlockCost]:
        """Those of a unit's old blocks in a regime that may hold: their kernels do."""
        return {name: block for (name, of), block in old.items() if of == regime} if regime in self.regimes else {}


NOTHING_KEPT = Kept(())


def stage_costs(workload: Workload, prices: Prices, kept: Kept = NOTHING_KEPT) -> tuple[StageCost, ...]:
    """Costs of every stage; equal units (the same operators) are computed once, and not what is kept."""
    cache: dict[tuple[object, ...], UnitCost] = {}
    known: dict[tuple[int, int], UnitCost] = {}
    olds: list[Sequence[UnitCost | None]] = [stage.units for stage in kept.stages]
    olds = olds or [(None,) * len(stage.units) for stage in workload.stages]
    return tuple(
        StageCost(stage.stage, _units(stage, prices, cache, known, kept, old))
        for stage, old in zip(workload.stages, olds, strict=True)
    )


def transfers(hops: Sequence[CollectiveCost]) -> tuple[Segment, ...]:
    """The pipeline transfer over each hop; hops that cost the same share one segment, and so a class of operators."""
    shared = {sent: message_segment("pipeline_send", sent, PP_TRANSFER) for sent in hops}
    return tuple(shared[sent] for sent in hops)


def _units(
    stage: StageWorkload,
    prices: Prices,
    cache: dict[tuple[object, ...], UnitCost],
    known: dict[tuple[int, int], UnitCost],
    kept: Kept,
    olds: Sequence[UnitCost | None],
) -> tuple[UnitCost, ...]:
    """cache: costs by what a unit does; known: by the very objects that say so, which the layers of a kind share; olds: of the
    same units, None where there are none.
    """
    units = []
    for unit, old in zip(stage.units, olds, strict=True):
        same = (id(unit.blocks), id(unit.all_to_all))
        if same not in known:
            key = (unit.kind, tuple(unit.blocks.items()), tuple(unit.all_to_all.items()))
            if key not in cache:
                cache[key] = _unit_cost(unit, prices, kept, old)
            known[same] = cache[key]
        shared = known[same]
        units.append(replace(shared, name=unit.name, replays=unit.replays))
    return tuple(units)


def _unit_cost(unit: Unit, prices: Prices, kept: Kept, old: UnitCost | None) -> UnitCost:
    blocks: dict[tuple[str, Regime], BlockCost] = {}
    apart: dict[tuple[str, Regime], BlockCost] = {}
    transfers: dict[tuple[str, Regime], Segment] = {}
    ops = {op.name: op for op in unit.ops()}
    issued = prices.issue(unit) if prices.issue else NOTHING_ISSUED
    for regime in REGIMES:
        pricing = _Pricing(prices, partial(_at, prices, regime), ops, issued.blocks)
        same = kept.blocks(old.blocks, regime) if old else {}
        blocks |= {(name, regime): block for name, block in _blocks(unit, pricing, same, kept).items()}
        for name, work in unit.blocks.items():
            if any(pricing.is_beside_weights(each) for each in work):
                apart[name, regime] = BlockCost(tuple(_segments(name, work, replace(pricing, with_weights=False))))
        for key, message in unit.all_to_all.items():
            if old and regime in kept.messages & kept.regimes:
                transfers[key, regime] = old.all_to_all[key, regime]
                continue
            cast = unit.blocks.get("combine_b_cast", ()) if key == "combine_b" else ()
            sent = _transfer(key, message, cast, regime, pricing)
            issue = issued.of_message(key, cast)
            transfers[key, regime] = replace(sent, issue=issue) if issue.seconds else sent
    held = old.beside if old and kept.held else {}
    of_held = _Pricing(prices, prices.held, ops, issued.blocks)
    beside = _blocks(unit, of_held, held, kept) if prices.has_beside else {}
    return UnitCost(
        unit.name, blocks, transfers, unit.kind == "moe", beside=beside, apart=apart, is_head=unit.kind == "head"
    )


def _blocks(unit: Unit, pricing: _Pricing, old: Mapping[str, BlockCost], kept: Kept) -> dict[str, BlockCost]:
    """The blocks of the compute stream. old: those whose kernels cost what they did."""
    return {
        name: old[name] if name in old and _is_kept(work, kept) else BlockCost(tuple(_segments(name, work, pricing)))
        for name, work in unit.blocks.items()
        if work and name != "combine_b_cast"
    }


def _is_kept(work: Sequence[Work], kept: Kept) -> bool:
    """Whether a block whose kernels cost what they did costs what it did: so do its collectives."""
    return kept.collectives or not any(isinstance(each, Collective) for each in work)


def _at(prices: Prices, regime: Regime, op: Op) -> Cost:
    return prices.kernel(op, regime)


@dataclass(frozen=True)
class _Pricing:
    """Prices of one unit. kernel: of its operators; ops: these by name. issued: as of UnitIssue.blocks. with_weights: W comes
    directly behind I.
    """

    prices: Prices
    kernel: Callable[[Op], Cost]
    ops: Mapping[str, Op]
    issued: Mapping[str, Mapping[int, float]]
    with_weights: bool = True

    def is_beside_weights(self, each: Work) -> bool:
        """Whether it is a collective that runs beside a weight gradient."""
        return isinstance(each, Collective) and bool(each.beside) and self.ops[each.beside].phase == "W"

    def collective(self, collective: Collective, cost: CollectiveCost) -> Exposed:
        """What the collective adds to its block, of its cost alone."""
        found = partner(collective, self.ops, self.prices.chunking, with_weights=self.with_weights)
        stretch = cost.beside_s(self.prices.stretch) / cost.seconds if cost.seconds else 1.0
        beside = None if found is None else Beside(self.kernel(found), self.prices.held(found), stretch)
        return exposed(collective, cost, beside, self.prices.chunking)


def message_segment(name: str, cost: CollectiveCost, category: str) -> Segment:
    """A collective as a segment of its own; name: as results tell of it."""
    by_category: dict[str, float] = {category: cost.seconds}
    by_basis: dict[str, float] = {cost.basis: cost.seconds}
    message = Message(name, cost, category)
    return Segment(
        cost.seconds, cost.low, cost.high, by_category, by_basis, messages=(message,), pieces=(Piece(message, cost),)
    )  # fmt: skip


def _transfer(key: str, message: AllToAll, cast: Iterable[Work], regime: Regime, pricing: _Pricing) -> Segment:
    """The all-to-all, behind the cast of what it sends (both on the communication stream)."""
    name = key if regime == "alone" else f"{key}{BESIDE_COMPUTE}"
    own = message_segment(name, pricing.prices.all_to_all(message, regime), ALL_TO_ALL)
    before = _sum_work(cast, pricing)
    return add_segments((before, own))


def _is_core(each: Work) -> bool:
    return isinstance(each, Op) and KERNELS[each.shape.op].bound == "attention"


def _first_step(work: tuple[Work, ...], last: int) -> int:
    """Where a core of several kernels begins that ends with this one; what stands between them belongs to it."""
    stem, is_step, _ = work[last].name.rpartition(STEP)
    if not is_step:
        return last
    return next(i for i, each in enumerate(work) if _is_core(each) and each.name.rpartition(STEP)[0] == stem)


def _segments(name: str, work: tuple[Work, ...], pricing: _Pricing) -> Iterable[tuple[str, DrawKind, Segment]]:
    """Of a block, kernels before the attention core (of several the last: others are recomputed), the core, kernels behind it;
    in blocks without one: fixed, then routed. Cores of packed documents, whose load is drawn, each alone.
    """
    issued = pricing.issued.get(name, {})
    for suffix, draw, part in _runs(work):
        yield suffix, draw, _sum_work(part, pricing, issued)


def _runs(work: tuple[Work, ...]) -> Iterable[tuple[str, DrawKind, Sequence[Work]]]:
    if any(draw_of_core(each) != "none" for each in work):
        yield from _around_cores(work)
        return
    core = next((i for i, each in reversed([*enumerate(work)]) if _is_core(each)), None)
    if core is not None:
        first = _first_step(work, core)
        for suffix, part in (
            (".before_core", work[:first]),
            (".core", work[first : core + 1]),
            (".rest", work[core + 1 :]),
        ):
            if part:
                yield suffix, "none", part
        return
    fixed, routed = [each for each in work if not each.routed], [each for each in work if each.routed]
    if fixed:
        yield "", "none", fixed
    if routed:
        yield ".routed", "rank", routed


def draw_of_core(each: Work) -> DrawKind:
    """Which load multiplies an attention core of packed documents."""
    documents = each.shape.documents if isinstance(each, Op) else ()
    if not documents:
        return "none"
    causal = isinstance(each, Op) and each.shape.causal
    is_windowed = any(each.attended < WHOLE_KEYS * each.attended_by(causal=causal) for each in documents)
    return "windowed" if is_windowed else "documents"


def _around_cores(work: tuple[Work, ...]) -> Iterable[tuple[str, DrawKind, Sequence[Work]]]:
    runs = [(draw, tuple(run)) for draw, run in groupby(work, draw_of_core)]
    cores = [i for i, (draw, _) in enumerate(runs) if draw != "none"]
    for i, (draw, run) in enumerate(runs):
        other = ".before_core" if i < cores[0] else ".rest" if i > cores[-1] else ".between_cores"
        yield other if draw == "none" else ".core", draw, run


def _sum_work(work: Iterable[Work], pricing: _Pricing, issued: Mapping[int, float] = NO_CALLS) -> Segment:
    seconds = low = high = flop = 0.0
    by_category: dict[str, float] = {}
    by_basis: dict[str, float] = {}
    messages: tuple[Message, ...] = ()
    pieces: list[Piece] = []
    for each in work:
        if isinstance(each, Collective):
            whole = pricing.prices.collective(each)
            cost: Cost = pricing.collective(each, whole)
            category, gaps = INSIDE[each.axis], 0.0
            messages += (Message(f"{each.axis}_{each.op}", whole, category),)
        else:
            flop += each.flop
            cost, gaps = pricing.kernel(each), each.shape.num_kernels * pricing.prices.gap_s
            category = KERNELS[each.shape.op].category
        seconds, low, high = seconds + cost.seconds + gaps, low + cost.low + gaps, high + cost.high + gaps
        _bump(by_category, category, cost.seconds)
        _bump(by_category, KERNEL_GAPS, gaps)
        _bump(by_basis, cost.basis, cost.seconds + gaps)
        pieces.append(Piece(each, cost))
    issue = issue_of(pieces, issued, pricing.prices.gap_s) if issued else NO_ISSUE
    return Segment(seconds, low, high, by_category, by_basis, flop, messages, tuple(pieces), issue)


def _bump(totals: dict[str, float], key: str, seconds: float) -> None:
    if seconds:
        totals[key] = totals.get(key, 0.0) + seconds


def add_segments(segments: Iterable[Segment]) -> Segment:
    """One segment for a run of them."""
    seconds = low = high = flop = 0.0
    by_category: dict[str, float] = {}
    by_basis: dict[str, float] = {}
    messages: tuple[Message, ...] = ()
    pieces: tuple[Piece, ...] = ()
    for segment in segments:
        messages += segment.messages
        pieces += segment.pieces
        flop += segment.flop
        seconds, low, high = seconds + segment.seconds, low + segment.low, high + segment.high
        _merge(by_category, segment.by_category)
        _merge(by_basis, segment.by_basis)
    return Segment(seconds, low, high, by_category, by_basis, flop, messages, pieces)


def _merge(totals: dict[str, float], more: Mapping[str, float]) -> None:
    for key, value in more.items():
        _bump(totals, key, value)
