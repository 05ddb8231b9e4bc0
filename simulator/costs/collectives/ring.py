"""Reduce-scatter, all-gather, all-reduce: rings, and inside one scale-up network the all-reduce that a switch adds up.

With n ranks each sends (n-1)/n of the bytes (twice that for an all-reduce) at the bus rate B, by the faster of two protocols
(NCCL chooses by size; LL128 lies between them):

    Simple   t = base + hops + x + sqrt(fill * x),   x = (n-1)/n * bytes / B
    LL       t = base' + hops' + x / share           a flag goes with every word: no waiting for chunks, half of the rate
    one node:      B = share * scale-up rate * steps / (steps + own_step)
    several nodes: B = min(g * share * NIC rate, share * scale-up rate * steps / (steps + own_step))

g ranks of the group in a node open g rings, each leaving the node over a NIC of its own; with one rank a node (holders
of an expert) there is one. The square root is the time to fill the pipeline of chunks (plain latency-bandwidth formulas
are 16-27 % off below 128 MB). own_step and the switch: hwprofiles/collectives/ring_formula.py. Where the GPU's stack has
`nvls.share` and the links meet in a switch, an all-reduce of one node takes the faster of ring and switch, which from five
ranks on is the switch; the high end of its range stays the ring's, as software may keep the switch out of it
(NCCL_NVLS_ENABLE=0).

Keys: link.nvlink.ring, link.nic.ring, ring.base_s, ring.hop_nvlink_s, ring.hop_nic_s, ring.fill_s, ring.own_step (none: 0),
ring.ll.base_s, ring.ll.hop_nvlink_s, ring.ll.hop_nic_s, ring.ll.share, nvls.share, nvls.base_s, nvls.fill_s (none: no switch).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hwprofiles.collectives.ring_formula import filled_seconds, flagged_seconds, switch_wire_seconds, wire_seconds
from hwprofiles.kernels.parameters import Range, find, need
from hwprofiles.provenance import Basis
from hwprofiles.stack_records import Stack
from simulator.costs.cost import NO_COST, BoundBy, CollectiveCost, Counted, weakest
from simulator.costs.links import CORNERS, Corner, filling_s, nic_path, rate_at, time_at
from simulator.network.placement import GroupShape
from simulator.network.topology import Network

RingOp = Literal["reduce_scatter", "all_gather", "all_reduce"]

COUNTED_AS: Mapping[RingOp, str] = {
    "reduce_scatter": "bus bandwidth of nccl-tests: (n-1)/n of the bytes",
    "all_gather": "bus bandwidth of nccl-tests: (n-1)/n of the bytes",
    "all_reduce": "bus bandwidth of nccl-tests: 2(n-1)/n of the bytes",
}


def ring_cost(op: RingOp, bytes_total: float, group: GroupShape, network: Network, stack: Stack) -> CollectiveCost:
    """Seconds of one ring collective with nothing else on its links.

    bytes_total: the whole vector: input of a reduce-scatter or all-reduce, output of an all-gather, on every rank.
    Raises MissingKernelError where the stack lacks a key.
    """
    if group.ranks == 1 or bytes_total == 0:
        return NO_COST
    rounds = 2 if op == "all_reduce" else 1
    sent = rounds * bytes_total * (group.ranks - 1) / group.ranks
    nic_hops = group.nodes if group.nodes > 1 else 0
    steps = rounds * (group.ranks - 1)
    over_nics = steps * nic_hops / group.ranks
    hops = _Hops(steps - over_nics, over_nics, network.latency_s(group.nodes, group.node_stride))
    wires = [_wire(sent, steps, group, network, stack, corner) for corner in CORNERS]
    simple, ll = (timed([wire.seconds for wire in wires], hops, stack) for timed in (_simple, _ll))
    faster = ll if ll.seconds[0] < simple.seconds[0] else simple
    bound_by: BoundBy = "latency" if faster.is_latency else wires[0].bound_by
    share = need(stack, "link.nvlink.ring")
    if bound_by == "nic":
        share = nic_path(stack, "link.nic.ring", network, group.nodes, group.node_stride).share
    value, low, high = (min(ends) for ends in zip(simple.seconds, ll.seconds, strict=True))
    to_nic = sent * nic_hops / group.ranks
    counted = Counted(group.ranks, group.nodes, bytes_total, sent, COUNTED_AS[op])
    basis = weakest(share.basis, *faster.bases)
    over_nics_s, inside_s = _filling_s(sent, wires[0], group, network, stack)
    ring = CollectiveCost(
        value, low, high, basis, share.source, to_nic, sent - to_nic, bound_by, counted,
        nic_s=min(value, over_nics_s), scale_up_s=min(value, inside_s),
        inside_s=_faster_s(wires[0].scale_up_s, hops, stack), latency_s=_faster_s(0.0, hops, stack),
    )  # fmt: skip
    return _by_switch(bytes_total, group, network, stack, ring) if op == "all_reduce" and group.nodes == 1 else ring


def _by_switch(
    bytes_total: float, group: GroupShape, network: Network, stack: Stack, ring: CollectiveCost
) -> CollectiveCost:
    """The all-reduce of one node by its switch where that is faster than the ring; a mesh of links has no switch."""
    share = find(stack, "nvls.share")
    if share is None or network.scale_up_peer_bytes_per_s < network.scale_up_bytes_per_s:
        return ring
    base, fill = need(stack, "nvls.base_s"), need(stack, "nvls.fill_s")
    seconds, wires = [], []
    for corner in CORNERS:
        wires.append(
            switch_wire_seconds(bytes_total, rate_at(share, corner) * network.scale_up_bytes_per_s, group.ranks)
        )
        seconds.append(filled_seconds(time_at(base, corner), wires[-1], time_at(fill, corner)))
    if seconds[0] >= ring.seconds:
        return ring
    bound_by: BoundBy = "scale_up" if wires[0] >= base.value else "latency"
    return replace(
        ring, seconds=seconds[0], low=min(seconds[1], ring.low), high=max(ring.high, seconds[0]),
        basis=weakest(share.basis, base.basis, fill.basis), source=share.source, bound_by=bound_by,
        scale_up_s=filling_s(
            stack, "link.nvlink.line", bytes_total * (1.0 + 1.0 / group.ranks), network.scale_up_bytes_per_s, wires[0]
        ),
        inside_s=seconds[0], latency_s=base.value,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Hops:
    """Steps of the ring inside nodes, and over NICs and a fabric of fabric_s seconds."""

    inside: float
    over_nics: float
    fabric_s: float

    def seconds(self, inside: Range, over_nics: Range, corner: Corner) -> float:
        """All of them, one after the other."""
        each = time_at(over_nics, corner) + self.fabric_s
        return self.over_nics * each + self.inside * time_at(inside, corner)


@dataclass(frozen=True, slots=True)
class _Timed:
    """A protocol's seconds at CORNERS, whether its hops take longer than the wire, and the bases of what it took."""

    seconds: tuple[float, ...]
    is_latency: bool
    bases: tuple[Basis, ...]


def _faster_s(wire_s: float, hops: _Hops, stack: Stack) -> float:
    """Seconds of so many on the wire, by the faster protocol."""
    return min(timed([wire_s] * len(CORNERS), hops, stack).seconds[0] for timed in (_simple, _ll))


def _simple(wires: Sequence[float], hops: _Hops, stack: Stack) -> _Timed:
    base, fill = need(stack, "ring.base_s"), need(stack, "ring.fill_s")
    inside, over = need(stack, "ring.hop_nvlink_s"), need(stack, "ring.hop_nic_s")
    found, is_latency = [], False
    for corner, wire in zip(CORNERS, wires, strict=True):
        latency = hops.seconds(inside, over, corner)
        found.append(filled_seconds(time_at(base, corner) + latency, wire, time_at(fill, corner)))
        is_latency = is_latency or (corner == "value" and latency > wire)
    return _Timed(tuple(found), is_latency, (base.basis, fill.basis, *_bases(inside, over, hops)))


def _ll(wires: Sequence[float], hops: _Hops, stack: Stack) -> _Timed:
    base, share = need(stack, "ring.ll.base_s"), need(stack, "ring.ll.share")
    inside, over = need(stack, "ring.ll.hop_nvlink_s"), need(stack, "ring.ll.hop_nic_s")
    found, is_latency = [], False
    for corner, wire in zip(CORNERS, wires, strict=True):
        latency, moving = hops.seconds(inside, over, corner), wire / rate_at(share, corner)
        found.append(flagged_seconds(time_at(base, corner) + latency, wire, rate_at(share, corner)))
        is_latency = is_latency or (corner == "value" and latency > moving)
    return _Timed(tuple(found), is_latency, (base.basis, share.basis, *_bases(inside, over, hops)))


def _bases(inside: Range, over_nics: Range, hops: _Hops) -> tuple[Basis, ...]:
    """Of the hops that the ring makes."""
    return tuple(each.basis for each, count in ((inside, hops.inside), (over_nics, hops.over_nics)) if count)


@dataclass(frozen=True, slots=True)
class _Wire:
    """Seconds of a ring's bytes over NICs and over scale-up links; the longer of the two sets its time."""

    nic_s: float
    scale_up_s: float

    @property
    def seconds(self) -> float:
        return max(self.nic_s, self.scale_up_s)

    @property
    def bound_by(self) -> BoundBy:
        return "nic" if self.nic_s >= self.scale_up_s else "scale_up"


def _wire(sent: float, steps: float, group: GroupShape, network: Network, stack: Stack, corner: Corner) -> _Wire:
    """Of `sent` bytes in so many steps at the bus rate."""
    share, own_step = need(stack, "link.nvlink.ring"), find(stack, "ring.own_step")
    rate = rate_at(share, corner) * network.scale_up_bytes_per_s
    scale_up = wire_seconds(sent, rate, steps, time_at(own_step, corner) if own_step else 0.0)
    if group.nodes == 1:
        return _Wire(0.0, scale_up)
    nic = nic_path(stack, "link.nic.ring", network, group.nodes, group.node_stride)
    over_nics = nic.seconds(sent / group.ranks_per_node, network.nic_bytes_per_s, corner)
    return _Wire(over_nics, 0.0 if group.ranks == group.nodes else scale_up)


def _filling_s(sent: float, wire: _Wire, group: GroupShape, network: Network, stack: Stack) -> tuple[float, float]:
    """Seconds for which the ring's bytes fill NICs and scale-up links."""
    inside_s = filling_s(stack, "link.nvlink.line", sent, network.scale_up_bytes_per_s, wire.scale_up_s)
    if group.nodes == 1:
        return 0.0, inside_s
    nic = nic_path(stack, "link.nic.ring", network, group.nodes, group.node_stride)
    return nic.filling_s(sent / group.ranks_per_node, network.nic_bytes_per_s, stack), inside_s
