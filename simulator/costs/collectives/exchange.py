"""An all-to-all of equal parts, and one hop of a ring in which every rank sends to its neighbour (NCCL, grouped sends).

n ranks of which g stand in a node; each has `bytes`, keeps 1/n and sends 1/n to each other rank, to all at once:

    t = base + hop + fabric latency + max(x + sqrt(fill * x), far / (share * NIC rate))
    x = near / (share * many * scale-up rate) * (g - 1 + own_step) / (g - 1)
    near = bytes * (g - 1) / n,   far = bytes * (n - g) / n

Inside a node rates, launch, filling and the copy of a rank's own part are those of a ring's steps
(hwprofiles/collectives/ring_formula.py); between nodes the share is that of single sends. Where links join each pair of GPUs
alone, all are used at once. many: what is left of the ring's rate with more than RING_LIKE ranks in a node
(`ring.exchange_share`; none: all), each of whose messages has few of the channels.
"""

from __future__ import annotations

from dataclasses import replace

from hwprofiles.collectives.ring_formula import RING_LIKE, filled_seconds, wire_seconds
from hwprofiles.kernels.parameters import find, need
from hwprofiles.stack_records import Stack
from simulator.costs.collectives.p2p import p2p_cost
from simulator.costs.cost import NO_COST, BoundBy, CollectiveCost, Counted, weakest
from simulator.costs.links import CORNERS, Corner, filling_s, nic_path, rate_at, time_at
from simulator.network.placement import GroupShape
from simulator.network.topology import Network

COUNTED_AS = "bus bandwidth of nccl-tests: (n-1)/n of the bytes"


def exchange_cost(num_bytes: float, group: GroupShape, network: Network, stack: Stack) -> CollectiveCost:
    """Seconds of one all-to-all with nothing else on its links. num_bytes: what a rank has, of which it sends (n-1)/n.

    Raises MissingKernelError where the stack lacks a key.
    """
    if group.ranks == 1 or num_bytes == 0:
        return NO_COST
    n, inside = group.ranks, group.ranks if group.nodes == 1 else group.ranks_per_node
    near, far = num_bytes * (inside - 1) / n, num_bytes * (n - inside) / n
    base, share = need(stack, "ring.base_s"), need(stack, "link.nvlink.ring")
    hop = need(stack, "ring.hop_nic_s" if far else "ring.hop_nvlink_s")
    nic = nic_path(stack, "link.nic.p2p", network, group.nodes, group.node_stride) if far else None
    latency_s = network.latency_s(group.nodes, group.node_stride) if far else 0.0
    found: list[float] = []
    near_of = latency = 0.0
    bound_by: BoundBy = "latency"
    for corner in CORNERS:
        near_s = _near_seconds(near, inside, rate_at(share, corner) * network.scale_up_bytes_per_s, stack, corner)
        far_s = nic.seconds(far, network.nic_bytes_per_s, corner) if nic else 0.0
        start_s = time_at(base, corner) + time_at(hop, corner) + latency_s
        found.append(start_s + max(near_s, far_s))
        if corner == "value":
            near_of, latency = near_s, start_s
            if max(near_s, far_s) > start_s:
                bound_by = "nic" if far_s > near_s else "scale_up"
    source = nic.share if nic else share
    value, low, high = found
    return CollectiveCost(
        value, low, high, weakest(source.basis, base.basis, hop.basis), source.source, bytes_nic=far, bytes_scale_up=near,
        bound_by=bound_by, counted=Counted(n, group.nodes, num_bytes, near + far, COUNTED_AS),
        nic_s=nic.filling_s(far, network.nic_bytes_per_s, stack) if nic else 0.0,
        scale_up_s=filling_s(stack, "link.nvlink.line", near, network.scale_up_bytes_per_s, near_of),
        inside_s=latency + near_of, latency_s=latency,
    )  # fmt: skip


def _near_seconds(near: float, inside: int, rate: float, stack: Stack, corner: Corner) -> float:
    """Seconds of `near` bytes to the other ranks of a node with `inside` of them."""
    if not near:
        return 0.0
    own_step, many = find(stack, "ring.own_step"), find(stack, "ring.exchange_share")
    if many and inside > RING_LIKE:
        rate *= rate_at(many, corner)
    wire_s = wire_seconds(near, rate, inside - 1, time_at(own_step, corner) if own_step else 0.0)
    return filled_seconds(0.0, wire_s, time_at(need(stack, "ring.fill_s"), corner))


def neighbour_cost(num_bytes: float, group: GroupShape, network: Network, stack: Stack) -> CollectiveCost:
    """Seconds of one hop: every rank of the group sends `num_bytes` to the next, all at once. On several nodes the hop between
    nodes holds the others: the last of the group's members there sends over its NIC. Raises as `exchange_cost`.
    """
    if group.ranks == 1 or num_bytes == 0:
        return NO_COST
    if group.nodes == 1:
        cost = p2p_cost(num_bytes, network, stack, same_node=True, is_pair=group.ranks == 2)
        return replace(cost, counted=Counted(group.ranks, 1, num_bytes, num_bytes, "bytes that each rank sends"))
    senders = min(network.host_gpus, max(1, network.gpus_per_node // group.ranks_per_node))
    cost = p2p_cost(num_bytes, network, stack, same_node=False, node_stride=group.node_stride, senders=senders)
    to_nic = num_bytes * group.nodes / group.ranks
    return replace(
        cost, bytes_nic=to_nic, bytes_scale_up=num_bytes - to_nic,
        counted=Counted(group.ranks, group.nodes, num_bytes, num_bytes, "bytes that each rank sends"),
    )  # fmt: skip
