"""What a step puts on the links of its network: by kind of link and of traffic, and the network folded to be drawn.

Links are told in one direction: what a GPU sends. By symmetry as much comes back, on the other direction of the same links.
"""

from __future__ import annotations

from math import fsum
from typing import Final, Literal, get_args

from pydantic import Field

from simulator.network.picture import LinkKind, NodeKind
from simulator.results.document import ResultModel, Seconds

Traffic = Literal["ep", "pp", "dp", "tp", "cp"]
"""Dispatch and combine; transfers between pipeline stages; gradients and parameters; gathers and reductions inside layers;
exchanges of context parallelism."""
TRAFFICS: Final[tuple[Traffic, ...]] = get_args(Traffic)


class TrafficLoad(ResultModel):
    """One kind of traffic on one kind of link. bytes: on the fullest link, in a step. mean_bytes: of all links.

    message_s: summed durations, each alone, of the messages of a GPU at the fullest link that use such links.
    """

    traffic: Traffic
    bytes: float = Field(ge=0)
    mean_bytes: float = Field(ge=0)
    message_s: Seconds


class LinkLoad(ResultModel):
    """Links of one kind. count: of them; bytes_per_s: what one carries in one direction; by_traffic: all kinds, in order.

    pp_rank: the pipeline rank of the GPU at the fullest link; absent between switches.
    """

    kind: LinkKind
    count: int = Field(ge=1)
    bytes_per_s: float = Field(gt=0)
    by_traffic: tuple[TrafficLoad, ...]
    pp_rank: int | None = None

    def load(self, traffic: Traffic | None = None) -> float:
        """Bytes on the fullest link in a step: of one kind of traffic, or of all."""
        return fsum(each.bytes for each in self.by_traffic if traffic in (None, each.traffic))

    def mean_load(self, traffic: Traffic | None = None) -> float:
        """The same, mean over the links."""
        return fsum(each.mean_bytes for each in self.by_traffic if traffic in (None, each.traffic))

    def message_s(self, traffic: Traffic | None = None) -> float:
        """Seconds of messages, each alone, that use the fullest link."""
        return fsum(each.message_s for each in self.by_traffic if traffic in (None, each.traffic))


class DrawnNode(ResultModel):
    """A node of the folded picture. of: the domain of a GPU or scale-up network, the tree of a switch. times: how many
    switches it stands for.
    """

    key: str
    kind: NodeKind
    of: int
    times: int


class DrawnLink(ResultModel):
    """From a node to one of the layer above."""

    kind: LinkKind
    lower: str
    upper: str


class NetworkView(ResultModel):
    """The network of a job under one step of it.

    node, fabric: their names; fabric is absent where one scale-up domain holds the job. scale_up: what it is called
    (NVLink 4); is_mesh: without a switch. gpus_per_domain: used of each; hosts_per_domain. leaves, spines, cores: switches
    that the job reaches, in `trees` separate trees (planes). links: bottom up. notes: what is counted in a simpler way.
    """

    step_s: float = Field(gt=0)
    node: str
    scale_up: str
    is_mesh: bool
    fabric: str | None = None
    topology: str | None = None
    num_gpus: int = Field(ge=1)
    gpus_per_domain: int = Field(ge=1)
    num_domains: int = Field(ge=1)
    hosts_per_domain: int = Field(ge=1)
    nics_per_host: int = Field(ge=1)
    trees: int = Field(ge=0)
    leaves: int = Field(ge=0)
    spines: int = Field(ge=0)
    cores: int = Field(ge=0)
    links: tuple[LinkLoad, ...]
    nodes: tuple[DrawnNode, ...]
    drawn: tuple[DrawnLink, ...]
    notes: tuple[str, ...]

    def share(self, link: LinkLoad, traffic: Traffic | None = None) -> float:
        """Load of the fullest link over what it could carry in the step."""
        return link.load(traffic) / (link.bytes_per_s * self.step_s)

    def hottest(self, traffic: Traffic | None = None) -> LinkLoad | None:
        """The kind of link with the highest share; None where nothing is sent."""
        found = max(self.links, key=lambda link: self.share(link, traffic), default=None)
        return found if found is not None and found.load(traffic) > 0 else None
