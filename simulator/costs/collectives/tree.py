"""A scalar summed over all ranks (gradient norm): latency only, up and down a binary tree.

    t = base + 2 ceil(log2 n) (hop + fabric latency)

NCCL takes trees where the message is small (nccl src/graph/tuning.cc). Keys: ring.base_s, ring.hop_nic_s.
"""

from __future__ import annotations

from math import ceil, log2

from hwprofiles.kernels.parameters import need
from hwprofiles.stack_records import Stack
from simulator.costs.cost import NO_COST, CollectiveCost, Counted, weakest
from simulator.network.topology import Network

NUMBER_BYTES = 4
COUNTED_AS = "bus bandwidth of nccl-tests, of one FP32 number: latency"


def scalar_all_reduce_cost(ranks: int, network: Network, stack: Stack) -> CollectiveCost:
    """Seconds of an all-reduce of one number. Raises MissingKernelError where the stack lacks a key."""
    if ranks == 1:
        return NO_COST
    base, hop = need(stack, "ring.base_s"), need(stack, "ring.hop_nic_s")
    steps = 2 * ceil(log2(ranks))
    fabric = network.latency_s(network.num_nodes)
    value, low, high = (
        b + steps * (h + fabric) for b, h in ((base.value, hop.value), (base.low, hop.low), (base.high, hop.high))
    )
    counted = Counted(ranks, network.num_nodes, NUMBER_BYTES, 2 * NUMBER_BYTES * (ranks - 1) / ranks, COUNTED_AS)
    basis = weakest(base.basis, hop.basis)
    return CollectiveCost(value, low, high, basis, base.source, bound_by="latency", counted=counted)
