"""What a collective costs, and how its uncertainty is carried."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from hwprofiles.kernels.parameters import Range
from hwprofiles.provenance import Basis

BoundBy = Literal["nic", "scale_up", "sms", "latency", "host_link", "none"]
"""The resource that sets a collective's time."""


def weakest(*bases: Basis) -> Basis:
    """The basis of something derived from several: the least certain, in the order of provenance.Basis."""
    order: tuple[Basis, ...] = get_args(Basis)
    return max(bases, key=order.index)


@dataclass(frozen=True, slots=True)
class Counted:
    """A message as people compare it: group, size, and the bytes that its community divides by the seconds.

    ranks, nodes: of the group. num_bytes: the message. rate_bytes: what is divided by the seconds. counted_as: which bytes
    those are, and who counts so.
    """

    ranks: int
    nodes: int
    num_bytes: float
    rate_bytes: float
    counted_as: str


@dataclass(frozen=True, slots=True)
class CollectiveCost:
    """Duration of one collective on one GPU.

    seconds, with low and high. basis, source: how it was obtained, from what. bytes_nic, bytes_scale_up: what the GPU
    sends over each kind of link, one direction. bound_by: the resource that sets the time.
    nic_s, scale_up_s: seconds, of these, for which the bytes would fill each kind of link at the rate that software achieves.
    inside_s: its seconds if NICs took none, latency included; latency_s: those of no bytes.
    counted: the message as its community counts it; None where nothing is sent, or nobody counts it.
    Invariant: 0 <= low <= seconds <= high, no link is filled for longer.
    """

    seconds: float
    low: float
    high: float
    basis: Basis
    source: str
    bytes_nic: float = 0.0
    bytes_scale_up: float = 0.0
    bound_by: BoundBy = "none"
    counted: Counted | None = None
    nic_s: float = 0.0
    scale_up_s: float = 0.0
    inside_s: float = 0.0
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError where the invariant does not hold."""
        if not 0.0 <= self.low <= self.seconds <= self.high < float("inf"):
            raise ValueError(f"needs 0 <= low <= seconds <= high, finite: {self}")
        if not (0.0 <= self.nic_s <= self.seconds and 0.0 <= self.scale_up_s <= self.seconds):
            raise ValueError(f"a link is filled for longer than the message takes: {self}")

    def beside_s(self, stretch: float) -> float:
        """Seconds while kernels run: bytes inside nodes take `stretch` (1 or more) times as long, others not."""
        return max(self.seconds, self.inside_s + (stretch - 1.0) * max(0.0, self.inside_s - self.latency_s))

    def times(self, factor: Range) -> CollectiveCost:
        """The same collective, slower by a factor with a range."""
        return replace(
            self,
            seconds=self.seconds * factor.value,
            nic_s=min(self.nic_s, self.seconds * factor.value),
            scale_up_s=min(self.scale_up_s, self.seconds * factor.value),
            inside_s=self.inside_s * factor.value,
            latency_s=self.latency_s * factor.value,
            low=self.low * factor.low,
            high=self.high * factor.high,
            basis=weakest(self.basis, factor.basis),
            source=f"{self.source}; times {factor.value:g}: {factor.source}",
        )


NO_COST = CollectiveCost(0.0, 0.0, 0.0, "measured", "nothing is sent")
"""A collective of one rank, or of no bytes."""
