"""Ring collectives: reduce-scatter, all-gather, all-reduce.

With n ranks each sends (n-1)/n of the bytes (twice that for an all-reduce) at the bus rate B:

    t = base + hops + x + sqrt(fill * x),   x = (n-1)/n * bytes / B
    one node:      B = share * scale-up rate
    several nodes: B = min(g * share * NIC rate, share * scale-up rate)

g ranks of the group in a node open g rings, each leaving the node over a NIC of its own; with one rank a node (holders
of an expert) there is one. The square root is the time to fill the pipeline of chunks (plain latency-bandwidth formulas
are 16-27 % off below 128 MB). Keys: link.nvlink.ring, link.nic.ring, ring.base_s, ring.hop_nvlink_s, ring.hop_nic_s,
ring.fill_s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from hwprofiles.kernels.parameters import need
from hwprofiles.schema import Stack
from simulator.costs.cost import NO_COST, BoundBy, CollectiveCost, Counted, weakest
from simulator.costs.links import CORNERS, Corner, nic_path, rate_at, time_at
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
    base, fill = need(stack, "ring.base_s"), need(stack, "ring.fill_s")
    hop, hop_nic = need(stack, "ring.hop_nvlink_s"), need(stack, "ring.hop_nic_s")
    nic_hops = group.nodes if group.nodes > 1 else 0
    steps = rounds * (group.ranks - 1)
    steps_nic = steps * nic_hops / group.ranks
    fabric_s = network.latency_s(group.nodes, group.node_stride)
    seconds: list[float] = []
    bound_by: BoundBy = "none"
    for corner in CORNERS:
        wire, bound = _wire_seconds(sent, group, network, stack, corner)
        bound_by = bound if corner == "value" else bound_by
        latency = steps_nic * (time_at(hop_nic, corner) + fabric_s) + (steps - steps_nic) * time_at(hop, corner)
        seconds.append(time_at(base, corner) + latency + wire + math.sqrt(time_at(fill, corner) * wire))
        if corner == "value" and latency > wire:
            bound_by = "latency"
    share = need(stack, "link.nvlink.ring")
    if bound_by == "nic":
        share = nic_path(stack, "link.nic.ring", network, group.nodes, group.node_stride).share
    to_nic = sent * nic_hops / group.ranks
    value, low, high = seconds
    hops = [each.basis for each, count in ((hop, steps - steps_nic), (hop_nic, steps_nic)) if count]
    basis = weakest(share.basis, base.basis, fill.basis, *hops)
    counted = Counted(group.ranks, group.nodes, bytes_total, sent, COUNTED_AS[op])
    return CollectiveCost(value, low, high, basis, share.source, to_nic, sent - to_nic, bound_by, counted)


def _wire_seconds(
    sent: float, group: GroupShape, network: Network, stack: Stack, corner: Corner
) -> tuple[float, BoundBy]:
    """Seconds of `sent` bytes at the bus rate, and the link that sets it."""
    share = need(stack, "link.nvlink.ring")
    scale_up = sent / (rate_at(share, corner) * network.scale_up_bytes_per_s)
    if group.nodes == 1:
        return scale_up, "scale_up"
    nic = nic_path(stack, "link.nic.ring", network, group.nodes, group.node_stride)
    over_nics = nic.seconds(sent / group.ranks_per_node, network.nic_bytes_per_s, corner)
    if group.ranks == group.nodes or over_nics >= scale_up:
        return over_nics, "nic"
    return scale_up, "scale_up"
