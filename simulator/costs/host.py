"""Copies between a GPU and its host, and the update of optimizer state by the host's processors.

A GPU has its share of the link and of the host's memory, as if all GPUs of the host copied at the same time; a copy runs at the
slower of the two. Both directions of a link are taken as independent.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwprofiles.schema import Node
from hwprofiles.stack_records import Assumption
from simulator.costs.cost import NO_COST, CollectiveCost, Counted


@dataclass(frozen=True, slots=True)
class Host:
    """What one GPU has of its host: achieved bytes/s of copies one way, and of the memory of the host."""

    name: str
    copy_bytes_per_s: float
    memory_bytes_per_s: float


def host_of(node: Node, num_gpus: int, link_frac: Assumption, memory_frac: Assumption) -> Host | None:
    """The host of a node of which at most num_gpus GPUs are used; None where it states no link.

    link_frac, memory_frac: achieved over stated rates.
    """
    rate, memory = node.host_link_bytes_per_s, node.host_memory_bytes_per_s
    if rate is None or memory is None or node.host_link_name is None:
        return None
    share = memory * memory_frac.value / min(node.gpus_per_node, num_gpus)
    link = rate * link_frac.value / min(node.host_link_gpus or 1, num_gpus)
    return Host(node.host_link_name, min(link, share), share)


def copy_cost(num_bytes: float, host: Host) -> CollectiveCost:
    """One copy to the host or from it."""
    if not num_bytes:
        return NO_COST
    seconds = num_bytes / host.copy_bytes_per_s
    return CollectiveCost(
        seconds, seconds, seconds, "assumed", f"{host.name}: bytes over its achieved rate", bound_by="host_link",
        counted=Counted(1, 1, num_bytes, num_bytes, "bytes of one GPU, one way"),
    )  # fmt: skip


def update_s(num_bytes: float, host: Host) -> float:
    """Seconds of an update that moves so many bytes of the host's memory, by all processes of the host at once.

    AdamW is bound by memory on a host too (ZeRO-Offload, arXiv:2101.06840, 5: its CPU-Adam uses vector units and all cores).
    """
    return num_bytes / host.memory_bytes_per_s
