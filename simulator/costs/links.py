"""Seconds on a link: bytes over the rate that software achieves, at the middle and the ends of its range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hwprofiles.kernels.parameters import Range, find, need
from hwprofiles.stack_records import Stack
from simulator.costs.cost import weakest
from simulator.network.hashing import even_share
from simulator.network.topology import Network

Corner = Literal["value", "fast", "slow"]
"""Which end of every range: the stated value, or all of them at the end that gives less, or more, seconds."""

CORNERS: tuple[Corner, ...] = ("value", "fast", "slow")

EVEN = Range(1.0, 1.0, 1.0, "measured", "routes that spread flows evenly")


def rate_at(share: Range, corner: Corner) -> float:
    """A share of a link rate at a corner: fast takes the high end."""
    return {"value": share.value, "fast": share.high, "slow": share.low}[corner]


def time_at(seconds: Range, corner: Corner) -> float:
    """A time at a corner: fast takes the low end."""
    return {"value": seconds.value, "fast": seconds.low, "slow": seconds.high}[corner]


@dataclass(frozen=True, slots=True)
class NicPath:
    """How a group's traffic uses NIC and leaf uplinks.

    share: achieved / datasheet rate of the NIC. crossing_frac: part of the bytes that leaves a leaf. uplink_share: part
    of the NIC rate that a GPU has on the uplinks when all send: 1/oversubscription, less where flows are hashed (ECMP).
    """

    share: Range
    crossing_frac: float
    uplink_share: Range

    def seconds(self, num_bytes: float, nic_bytes_per_s: float, corner: Corner) -> float:
        """Seconds for `num_bytes` of one GPU: the NIC, or the uplinks where they carry less."""
        rate = nic_bytes_per_s * rate_at(self.share, corner)
        uplinks = rate * rate_at(self.uplink_share, corner)
        return max(num_bytes / rate, num_bytes * self.crossing_frac / uplinks)

    def filling_s(self, num_bytes: float, nic_bytes_per_s: float, stack: Stack) -> float:
        """Seconds for which `num_bytes` of one GPU fill its NIC, or the uplinks, whoever sends."""
        alone_s = self.seconds(num_bytes, nic_bytes_per_s, "value")
        uplinks = nic_bytes_per_s * self.share.value * self.uplink_share.value
        own_s = filling_s(stack, "link.nic.line", num_bytes, nic_bytes_per_s, alone_s)
        return max(own_s, num_bytes * self.crossing_frac / uplinks)


def filling_s(stack: Stack, key: str, num_bytes: float, bytes_per_s: float, alone_s: float) -> float:
    """Seconds for which bytes fill a link: at the share of its datasheet rate that messages reach together (`key`), no longer
    than a message of its own takes; that where the stack says nothing.
    """
    line = find(stack, key)
    return alone_s if line is None else min(alone_s, num_bytes / (line.value * bytes_per_s))


def nic_path(stack: Stack, key: str, network: Network, nodes: int, node_stride: int = 1) -> NicPath:
    """The path of a group of `nodes` nodes; `key` is the stack's share of the NIC rate ("link.nic.ring" …).

    Raises MissingKernelError where the stack lacks the key, or `link.nic.flows` on a fabric that hashes flows to its uplinks.
    """
    over = network.wiring.oversubscription
    crossing = network.crossing_frac(nodes, node_stride)
    routing = _hashed(need(stack, "link.nic.flows"), crossing * over, network) if network.routing == "ecmp" else EVEN
    uplink = Range(routing.value / over, routing.low / over, routing.high / over, routing.basis, routing.source)
    share = need(stack, key)
    if crossing > 0.0:
        share = Range(share.value, share.low, share.high, weakest(share.basis, routing.basis), share.source)
    return NicPath(share, crossing, uplink)


def _hashed(flows: Range, per_uplink: float, network: Network) -> Range:
    """What hashing leaves of the uplinks' rate. flows: of a NIC at a time; per_uplink: NICs' worth of traffic on an uplink."""
    value, low, high = (
        even_share(each * per_uplink, network.wiring.up_ports) for each in (flows.value, flows.low, flows.high)
    )
    return Range(value, low, high, flows.basis, flows.source)


def reference_rate(stack: Stack, key: str, otherwise: float) -> float:
    """Datasheet rate in bytes/s of the link on which the stack's rows were measured; `otherwise` where it says none."""
    found = find(stack, key)
    return otherwise if found is None else found.value
