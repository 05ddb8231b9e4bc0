"""The speed that a step's watts leave every pipeline rank: a fixed point of speeds and step time.

A rank's energy is that of its operators' FLOP and bytes, of the bytes that it sends, and a waiting chip's over the step. A rank
that waits more runs faster, as long as its waits are short: of one that is longer than the limiter looks back (window_s) no
more than that counts. A rank has one speed. The graph's sweep gives the step time; an uneven step is as much longer as its
first random draws.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hwprofiles.power.constants import PowerConstants
from hwprofiles.power.model import Chip, Load, solve
from simulator.assembly.chunks import Piece
from simulator.assembly.link_sharing import LinkSharing, link_sharing
from simulator.assembly.power import ByRank, Energy, at_speeds, beyond, by_rank, classes_apart, dynamic_j
from simulator.assembly.step_graph import StepGraph
from simulator.costs.cost import CollectiveCost
from simulator.engine import sweep
from simulator.step.draws import uneven_ratio
from simulator.step.prepared import PreparedStep
from simulator.workload.op import Op

Floats = NDArray[np.float64]

PASSES, CLOSE = 12, 1e-6
"""Most sweeps, and the change of every speed at which they end."""
RANGED = ("idle_share", "beta", "warm_speed", "window_s", "energy")
"""Constants whose ranges move the step, each alone; energy: that of a FLOP, of all kernels together."""


@dataclass(frozen=True, eq=False)
class StepPower:
    """A step's watts. speeds: by rank; plain: the graph at speed 1; graph: at them;
    burst_s, step_s: of even loads at speed 1 and at them. long_s: of each rank's waits what is beyond the window, at them.

    apart, own: for others that ask (speeds at the usual board's limit). uneven: a step of drawn loads over one of even loads.
    solved: whether the limit was asked at all. sharing: what messages add to one another on `graph`'s links; None: not asked.
    """

    constants: PowerConstants
    limit_w: float
    speeds: Floats
    plain: StepGraph
    graph: StepGraph
    burst_s: float
    step_s: float
    apart: ByRank = field(repr=False)
    own: Floats = field(repr=False)
    long_s: Floats = field(repr=False)
    uneven: float = 1.0
    solved: bool = True
    sharing: LinkSharing | None = None

    @property
    def is_slowed(self) -> bool:
        """Whether any rank is slower than its chip's first launches."""
        return bool((self.speeds < 1.0).any())

    @property
    def is_limited(self) -> bool:
        """Whether the limit slows any rank down, below the speed of a chip that is warm."""
        return bool((self.speeds < self.constants.value("warm_speed")).any())

    def watts(self, step_s: float) -> Floats:
        """(ranks,) mean power of a step that takes so long."""
        chip = self.constants.chip(self.limit_w)
        joules = dynamic_j(self.apart.work, [chip.scale(float(speed)) for speed in self.speeds])
        found: Floats = chip.p0_w + joules / step_s
        return found


def power_of(step: PreparedStep, graph: StepGraph) -> StepPower:
    """A prepared step's graph under the scenario's limit; at speed 1 where the mechanism or the clock is off. At these speeds
    its messages share links.
    """
    scenario, constants = step.scenario, step.kernels.power
    if scenario.device.clock == "burst" or not scenario.mechanisms.power:
        found = unlimited(graph, constants)
    else:
        found = step_power(graph, constants, scenario.device.power_cap_w, uneven_ratio(step.random, graph))
    if not scenario.mechanisms.link_sharing:
        return found
    sharing = link_sharing(found.graph)
    return replace(found, graph=sharing.apply(found.graph), sharing=sharing)


def energy_of(constants: PowerConstants) -> Energy:
    """Joules of an operator's FLOP at the reference speed, and of its bytes; of a message, of what the GPU sends."""

    def energy(piece: Piece) -> tuple[float, float]:
        op, cost = piece.what, piece.cost
        if isinstance(op, Op):
            return constants.flop_j(op.shape, op.flop), constants.byte_j(op.bytes_read + op.bytes_written)
        return 0.0, constants.sent_j(cost.bytes_nic + cost.bytes_scale_up) if isinstance(cost, CollectiveCost) else 0.0

    return energy


def step_power(graph: StepGraph, constants: PowerConstants, cap_w: float | None, uneven: float = 1.0) -> StepPower:
    """The step under the board's limit, or a lower cap.

    graph: at speed 1. uneven: as of StepPower. What was measured inside a step was so on the chip's usual board.
    """
    apart = by_rank(graph, energy_of(constants))
    limit_w = min(constants.tdp_w, cap_w or constants.tdp_w)
    burst_s, walk, speeds, own = _limited(apart, constants, limit_w, uneven)
    found = StepPower(constants, limit_w, speeds, graph, graph, burst_s, walk.step_s, apart, own, walk.long_s, uneven)
    return replace(found, graph=at_speeds(apart, speeds, own)) if found.is_slowed else found


def _limited(
    apart: ByRank, constants: PowerConstants, limit_w: float, uneven: float
) -> tuple[float, _Walk, Floats, Floats]:
    """Seconds of even loads at speed 1, the step under the limit; speeds under it and under the usual board's."""
    window_s, ones = constants.value("window_s"), np.ones(apart.graph.num_ranks)
    burst = _walk(apart, window_s, ones, ones)
    own, walk = _solved(apart, constants.chip(constants.usual_w), ones, None, burst, uneven, window_s)
    if limit_w >= constants.usual_w:
        return burst.step_s, walk, own, own
    speeds, walk = _solved(apart, constants.chip(limit_w), own, own, walk, uneven, window_s)
    return burst.step_s, walk, speeds, own


def seconds_if_longer(power: StepPower, added_s: Floats, *, is_arithmetic: bool) -> Floats:
    """(classes,) seconds of `power.apart` if its classes took `added_s` (classes,) longer at speed 1.

    Arithmetic has the speeds that the limit then leaves; what else takes longer leaves them as they are.
    """
    apart = power.apart.longer(added_s, is_arithmetic=is_arithmetic)
    if is_arithmetic and power.solved:
        _, _, speeds, own = _limited(apart, power.constants, power.limit_w, power.uneven)
        return apart.seconds(speeds, own)
    return apart.seconds(power.speeds, power.own)


def unlimited(graph: StepGraph, constants: PowerConstants) -> StepPower:
    """The same at speed 1, whatever it draws."""
    apart, ones = by_rank(graph, energy_of(constants)), np.ones(graph.num_ranks)
    burst_s = float(sweep(graph.dag, graph.class_seconds()).makespan_s)
    none = np.zeros(graph.num_ranks)
    return StepPower(constants, constants.tdp_w, ones, graph, graph, burst_s, burst_s, apart, ones, none, solved=False)


@dataclass(frozen=True, slots=True)
class _Walk:
    """A step of even loads: its seconds, and of each rank's waits what is beyond the window."""

    step_s: float
    long_s: Floats


def _walk(apart: ByRank, window_s: float, speeds: Floats, own: Floats) -> _Walk:
    times = sweep(apart.graph.dag, apart.seconds(speeds, own))
    step_s, ranks = float(times.makespan_s), apart.graph.num_ranks
    if step_s <= window_s:
        return _Walk(step_s, np.zeros(ranks))
    return _Walk(step_s, beyond(apart.graph.dag.resource, ranks, times, window_s))


def _solved(
    apart: ByRank, chip: Chip, speeds: Floats, own: Floats | None, walk: _Walk, uneven: float, window_s: float
) -> tuple[Floats, _Walk]:
    """(speeds, the step at them). own: speeds at the board's limit, None where these are looked for."""
    for _ in range(PASSES):
        found = _next(apart, chip, speeds, own, walk.step_s * uneven, walk.long_s)
        done = float(np.abs(found - speeds).max()) < CLOSE
        if done:
            break
        speeds = found
        walk = _walk(apart, window_s, speeds, speeds if own is None else own)
    return speeds, walk


def _next(apart: ByRank, chip: Chip, speeds: Floats, own: Floats | None, step_s: float, long_s: Floats) -> Floats:
    """Speeds whose mean power, but for what of its waits is long, meets the limit if a rank's waits stay as they are."""
    work, found = apart.work, np.empty(len(speeds))
    for rank in range(len(speeds)):
        compute_s = float(work.free_s[rank] + (0.0 if own is None else work.in_step_s[rank] * own[rank]))
        other_s = max(0.0, step_s - float(long_s[rank]) - compute_s / float(speeds[rank]))
        load = Load(compute_s, other_s, float(work.flop_j[rank]), float(work.byte_j[rank]))
        found[rank] = solve(load, chip)
    return found


def seconds_apart(power: StepPower, graph: StepGraph) -> Floats:
    """(classes,) seconds of `power.apart` at the step's speeds, if its operators took those of `graph`, of the same DAG."""
    if power.is_slowed:
        return by_rank(graph, energy_of(power.constants)).seconds(power.speeds, power.own)
    found: Floats = graph.class_seconds()[classes_apart(graph)]
    return found


def at_speeds_of(power: StepPower, graph: StepGraph) -> StepGraph:
    """Another graph of the step at the same speeds; what links add is as in the step where its operators are the same."""
    if power.is_slowed:
        graph = at_speeds(by_rank(graph, energy_of(power.constants)), power.speeds, power.own)
    if power.sharing is None:
        return graph
    sharing = power.sharing if power.sharing.is_of(graph) else link_sharing(graph)
    return sharing.apply(graph)


def seconds_at_end(power: StepPower, key: str, end: float) -> Floats:
    """(classes,) seconds of `power.apart` with one of RANGED elsewhere; energies are scaled, waits stay as they are."""
    constants = power.constants
    chip = constants.at(key, end).chip(power.limit_w)
    factor = end if key == "energy" else 1.0
    scaled = replace(power.apart, work=replace(power.apart.work, flop_j=power.apart.work.flop_j * factor))
    own = power.own if power.limit_w < constants.usual_w else None
    at_now = power.speeds if own is None else own
    long_s = _walk(scaled, end, power.speeds, at_now).long_s if key == "window_s" else power.long_s
    speeds = _next(scaled, chip, power.speeds, own, power.step_s * power.uneven, long_s)
    return scaled.seconds(speeds, speeds if own is None else own)
