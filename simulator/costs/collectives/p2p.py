"""One send from a GPU to another: pipeline activations and gradients.

    t = base + hop + fabric latency + bytes / (share * link rate)

The stack's keys: link.nic.p2p or link.nvlink.p2p (shares of the link rate), ring.base_s, ring.hop_nic_s,
ring.hop_nvlink_s.
"""

from __future__ import annotations

from hwprofiles.kernels.parameters import need
from hwprofiles.schema import Stack
from simulator.costs.cost import NO_COST, BoundBy, CollectiveCost, Counted, weakest
from simulator.costs.links import CORNERS, filling_s, nic_path, rate_at, time_at
from simulator.network.topology import Network

COUNTED_AS = "bytes sent (sendrecv of nccl-tests)"


def p2p_cost(
    num_bytes: float,
    network: Network,
    stack: Stack,
    same_node: bool,
    node_stride: int = 1,
    senders: int | None = None,
) -> CollectiveCost:
    """Seconds of one send of `num_bytes`, launch included.

    node_stride: distance in nodes of sender and receiver, which says whether the send leaves a leaf.
    senders: GPUs of the sender's host that send between nodes at the same time, itself included; None: all of them.
    Raises MissingKernelError where the stack lacks a key.
    """
    if num_bytes == 0:
        return NO_COST
    base = need(stack, "ring.base_s")
    hop = need(stack, "ring.hop_nvlink_s" if same_node else "ring.hop_nic_s")
    nic = nic_path(stack, "link.nic.p2p", network, 2, node_stride)
    share = need(stack, "link.nvlink.p2p") if same_node else nic.share
    fabric_s = 0.0 if same_node else network.latency_s(2, node_stride)
    nic_rate = network.nic_bytes_per_s if senders is None else network.nic_bytes_per_s_of(senders)
    seconds: list[float] = []
    wires: list[float] = []
    for corner in CORNERS:
        if same_node:
            wires.append(num_bytes / (rate_at(share, corner) * network.scale_up_peer_bytes_per_s))
        else:
            wires.append(nic.seconds(num_bytes, nic_rate, corner))
        seconds.append(time_at(base, corner) + time_at(hop, corner) + fabric_s + wires[-1])
    bound_by: BoundBy = "scale_up" if same_node else "nic"
    value, low, high = seconds
    inside_s = (
        filling_s(stack, "link.nvlink.line", num_bytes, network.scale_up_bytes_per_s, wires[0]) if same_node else 0.0
    )
    return CollectiveCost(
        value, low, high, weakest(share.basis, base.basis, hop.basis), share.source,
        bytes_nic=0.0 if same_node else float(num_bytes), bytes_scale_up=float(num_bytes) if same_node else 0.0,
        bound_by=bound_by, nic_s=0.0 if same_node else nic.filling_s(num_bytes, nic_rate, stack),
        scale_up_s=inside_s,
        counted=Counted(2, 1 if same_node else 2, num_bytes, num_bytes, COUNTED_AS),
    )  # fmt: skip
