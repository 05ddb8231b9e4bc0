"""Bytes that an all-to-all of an expert group puts on each kind of link, one GPU, one direction.

The path is that of node-limited dispatch (arXiv:2412.19437, section 3.2.2): one copy a destination node over RDMA to
the GPU of the same rail, from there over NVLink to the GPUs that hold the token's experts. A combine takes the same way
back, with partial sums added in the node, so that it puts the same counts on the same links.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Exchange(Protocol):
    """What a dispatch or combine must say of itself; simulator.workload.op.AllToAll does.

    tokens: of one rank; bytes_per_token: one copy; num_nodes, ranks: of the group; nodes_per_token, ranks_per_token:
    expected distinct destinations, the own node and rank included. remote_per_token: copies a token over the busiest NICs,
    None where all carry as many (nodes with as many members each); fullest_node: members on the node with most, None as well.
    """

    @property
    def tokens(self) -> int: ...
    @property
    def bytes_per_token(self) -> int: ...
    @property
    def num_nodes(self) -> int: ...
    @property
    def ranks(self) -> int: ...
    @property
    def nodes_per_token(self) -> float: ...
    @property
    def ranks_per_token(self) -> float: ...
    @property
    def remote_per_token(self) -> float | None: ...
    @property
    def fullest_node(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class ExchangeTraffic:
    """Of one GPU: by symmetry what each sends and receives, in a group that lies unevenly of the busiest one.

    nic_bytes: over the NIC. scale_up_bytes: over NVLink, own tokens and forwarded ones. remote_nodes_per_token:
    expected distinct destination nodes other than the token's own.
    """

    nic_bytes: float
    scale_up_bytes: float
    remote_nodes_per_token: float


def exchange_traffic(exchange: Exchange) -> ExchangeTraffic:
    """Bytes of one dispatch or combine, deduplicated a node; expert choice uniform over nodes and ranks.

    The own node is one destination in num_nodes: its share stays off the NIC. A copy for a rank enters the node on the
    sender's rail, which is the receiver's in one case of ranks-a-node: the others are forwarded over NVLink.
    """
    local_ranks = exchange.fullest_node or exchange.ranks / exchange.num_nodes
    remote_nodes = exchange.remote_per_token
    if remote_nodes is None:
        remote_nodes = exchange.nodes_per_token * (exchange.num_nodes - 1) / exchange.num_nodes
    payload = exchange.tokens * exchange.bytes_per_token
    forwarded = exchange.ranks_per_token * (local_ranks - 1.0) / local_ranks
    return ExchangeTraffic(payload * remote_nodes, payload * max(forwarded, 0.0), remote_nodes)
