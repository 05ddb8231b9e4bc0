"""What share of each message's bytes between nodes leaves its leaf switch, and its pod, on the job's own placement."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import Message
from simulator.network.crossing import exchange_crossing, pairs_crossing, ring_crossing
from simulator.network.placement import IntArray, Mesh, RankGroups, rank_groups, split_holders, with_mirror
from simulator.network.topology import Network
from simulator.results.network_view import Traffic
from simulator.scenario import derived
from simulator.schedule.family import SCHEDULES
from simulator.step.prepared import PreparedStep

Floats = NDArray[np.float64]
Share = float | Floats
"""Of all pipeline ranks, or (pipeline ranks,)."""


@dataclass(frozen=True, eq=False)
class CrossingShares:
    """Knows the groups of the job. shard_ranks: as of `place`; goes_round: virtual stages send from the last rank to rank 0."""

    network: Network
    groups: RankGroups
    shard_ranks: int | None
    goes_round: bool
    known: dict[object, tuple[Share, Share]] = field(default_factory=dict)

    def of(self, message: Message, traffic: Traffic, ranks: IntArray) -> tuple[Share, Share]:
        """Shares (0 to 1) of the message's bytes over NICs that leave a leaf, and a pod. ranks: pipeline ranks that send it."""
        if not message.cost.bytes_nic:
            return 0.0, 0.0
        key = (traffic, message.name, message.cost.counted and message.cost.counted.ranks, ranks.tobytes())
        if key not in self.known:
            network = self.network
            self.known[key] = (
                self._share(message, traffic, ranks, network.nodes_per_leaf) if network.wiring.num_layers > 1 else 0.0,
                self._share(message, traffic, ranks, network.nodes_per_pod) if network.wiring.num_layers > 2 else 0.0,
            )
        return self.known[key]

    def _share(self, message: Message, traffic: Traffic, ranks: IntArray, block: int) -> Share:
        if traffic == "pp":
            return self._hops(block)
        if traffic == "ep":
            return exchange_crossing(self.groups.ep.reshape(-1, self.groups.ep.shape[-1]), self.network, block)
        if traffic == "cp" and message.name.endswith("all_to_all"):
            return exchange_crossing(self.groups.cp.reshape(-1, self.groups.cp.shape[-1]), self.network, block)
        groups = self._ring(message, traffic, ranks)
        return ring_crossing(groups.reshape(-1, groups.shape[-1]), self.network, block)

    def _ring(self, message: Message, traffic: Traffic, ranks: IntArray) -> IntArray:
        """The groups of a ring, told by the message's name and the number of its ranks."""
        size = message.cost.counted.ranks if message.cost.counted else 0
        if traffic == "tp":
            return self.groups.etp if message.name.startswith("etp_") else self.groups.tp
        if traffic == "cp":
            return self.groups.cp
        if message.name.endswith("_copies"):
            return np.moveaxis(self.groups.stages[ranks], 0, -1)[None]
        holders = self.groups.expert_dp if message.name.endswith("_expert") else self.groups.dense_dp
        candidates = [holders, with_mirror(holders)]
        if self.shard_ranks is not None:
            candidates += split_holders(holders, self.groups.dense_dp.shape[-1] // self.shard_ranks)
        return next((each for each in candidates if each.shape[-1] == size), holders)

    def _hops(self, block: int) -> Floats:
        """(pipeline ranks,): mean over the neighbours of a rank, to which it sends activations and gradients alike."""
        stages, network = self.groups.stages, self.network
        pp = len(stages)
        shares: list[list[float]] = [[] for _ in range(pp)]
        for rank in range(pp if self.goes_round else pp - 1):
            other = (rank + 1) % pp
            share = pairs_crossing(stages[rank], stages[other], network, block)
            shares[rank].append(share)
            shares[other].append(share)
        return np.array([sum(each) / len(each) if each else 0.0 for each in shares])


def crossing_shares(step: PreparedStep, num_ranks: int) -> CrossingShares:
    """Of a step's job."""
    scenario = step.scenario
    mesh = Mesh(scenario.cluster.num_gpus, **derived.degrees(scenario))
    return CrossingShares(
        step.hardware.network, rank_groups(mesh), scenario.data_parallel.hsdp_group,
        goes_round=num_ranks > 1 and SCHEDULES[scenario.parallel.schedule].placement == "round",
    )  # fmt: skip
