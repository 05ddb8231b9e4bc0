"""One send from a GPU to another: pipeline activations and gradients.

    t = base + hop + fabric latency + bytes / min(share * link rate, rate of the channels)

The stack's keys: link.nic.p2p or link.nvlink.p2p (shares of the link rate), ring.base_s, ring.hop_nic_s, ring.hop_nvlink_s.
Inside a scale-up network a send and a receive also share the few channels that NCCL gives them, which carry
link.nvlink.p2p_bytes_per_s each way where the two have different partners, and link.nvlink.pair_bytes_per_s where two ranks
exchange with each other; a stack without these keys has the share of the link alone.
"""

from __future__ import annotations

from hwprofiles.kernels.parameters import find, need
from hwprofiles.stack_records import Stack
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
    is_pair: bool = False,
) -> CollectiveCost:
    """Seconds of one send of `num_bytes`, launch included.

    node_stride: distance in nodes of sender and receiver, which says whether the send leaves a leaf.
    senders: GPUs of the sender's host that send between nodes at the same time, itself included; None: all of them.
    is_pair: the ranks have no other partners, as in a pipeline or ring of two.
    Raises MissingKernelError where the stack lacks a key.
    """
    if num_bytes == 0:
        return NO_COST
    base = need(stack, "ring.base_s")
    hop = need(stack, "ring.hop_nvlink_s" if same_node else "ring.hop_nic_s")
    nic = nic_path(stack, "link.nic.p2p", network, 2, node_stride)
    share = need(stack, "link.nvlink.p2p") if same_node else nic.share
    channels = find(stack, f"link.nvlink.{'pair' if is_pair else 'p2p'}_bytes_per_s") if same_node else None
    fabric_s = 0.0 if same_node else network.latency_s(2, node_stride)
    nic_rate = network.nic_bytes_per_s if senders is None else network.nic_bytes_per_s_of(senders)
    seconds: list[float] = []
    wires: list[float] = []
    for corner in CORNERS:
        if same_node:
            rate = rate_at(share, corner) * network.scale_up_peer_bytes_per_s
            wires.append(num_bytes / (min(rate, rate_at(channels, corner)) if channels else rate))
        else:
            wires.append(nic.seconds(num_bytes, nic_rate, corner))
        seconds.append(time_at(base, corner) + time_at(hop, corner) + fabric_s + wires[-1])
    bound_by: BoundBy = "scale_up" if same_node else "nic"
    value, low, high = seconds
    inside_s = (
        filling_s(stack, "link.nvlink.line", num_bytes, network.scale_up_bytes_per_s, wires[0]) if same_node else 0.0
    )
    return CollectiveCost(
        value, low, high, weakest(share.basis, base.basis, hop.basis), (channels or share).source,
        bytes_nic=0.0 if same_node else float(num_bytes), bytes_scale_up=float(num_bytes) if same_node else 0.0,
        bound_by=bound_by, nic_s=0.0 if same_node else nic.filling_s(num_bytes, nic_rate, stack),
        scale_up_s=inside_s, inside_s=value - (0.0 if same_node else wires[0]), latency_s=value - wires[0],
        counted=Counted(2, 1 if same_node else 2, num_bytes, num_bytes, COUNTED_AS),
    )  # fmt: skip
