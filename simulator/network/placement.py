"""Where the ranks of each group live: consecutive ranks fill nodes in order, coordinates vary in the order
tp-cp-ep-dp-pp.

Rank = tp + TP*(cp + CP*(dp + DP*pp)) for dense layers. A stage's TP*CP*DP ranks are cut again for experts:
rank in stage = etp + ETP*(ep + EP*edp). So the expert group is consecutive ranks, and the holders of one expert (edp)
stand EP*ETP ranks apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mesh:
    """Degrees of the parallel axes. Invariants: num_gpus = tp*cp*dp*pp, and ep*etp divides tp*cp*dp."""

    num_gpus: int
    tp: int = 1
    cp: int = 1
    pp: int = 1
    ep: int = 1
    etp: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError where the invariants do not hold (the scenario has refused such a layout before)."""
        if min(self.num_gpus, self.tp, self.cp, self.pp, self.ep, self.etp) < 1:
            raise ValueError(f"degrees must be at least 1: {self}")
        if self.num_gpus % (self.tp * self.cp * self.pp):
            raise ValueError(f"num_gpus {self.num_gpus} is not divisible by tp*cp*pp: {self}")
        if self.stage_ranks % (self.ep * self.etp):
            raise ValueError(f"ep*etp does not divide the {self.stage_ranks} ranks of a stage: {self}")

    @property
    def stage_ranks(self) -> int:
        """Ranks that share a pipeline position: tp*cp*dp."""
        return self.num_gpus // self.pp

    @property
    def dp(self) -> int:
        """Replicas of the dense parameters, context parallel ranks not counted."""
        return self.stage_ranks // (self.tp * self.cp)

    @property
    def edp(self) -> int:
        """Replicas of an expert's parameters within a pipeline position."""
        return self.stage_ranks // (self.ep * self.etp)


@dataclass(frozen=True, slots=True)
class GroupShape:
    """How a group of ranks lies on nodes.

    ranks: size. nodes: nodes that hold members. ranks_per_node: members on the node with the fewest, whose NICs bound
    what the group can send between nodes. node_stride: nodes from one member node to the next (1: neighbours).
    """

    ranks: int
    nodes: int
    ranks_per_node: int
    node_stride: int = 1


@dataclass(frozen=True, slots=True)
class Hop:
    """From the GPUs of one pipeline position to those of the next, each to its own partner.

    same_node: every pair shares a node. node_stride: most nodes between the two of a pair. senders: most GPUs of one host
    that have their pipeline neighbour on another node, so that they send over the host's NICs together; 0: none.
    """

    same_node: bool
    node_stride: int
    senders: int


@dataclass(frozen=True, slots=True)
class Lie:
    """How some groups of one kind lie on nodes. groups: how many do; members: ranks of one by node, most first."""

    groups: int
    members: tuple[int, ...]

    @property
    def is_even(self) -> bool:
        """Whether every node has as many members."""
        return len(set(self.members)) == 1


@dataclass(frozen=True, slots=True)
class Sharing:
    """Groups of ranks that share the state of what all hold (HSDP), dense parameters and experts, and the ranks that have
    the same shard in each of the groups.
    """

    dense_shard: GroupShape
    dense_replicas: GroupShape
    expert_shard: GroupShape
    expert_replicas: GroupShape


@dataclass(frozen=True, slots=True)
class Placement:
    """Shapes of all groups of a mesh; of groups of one kind that lie differently, the one with the fewest NICs in a node.

    tp, cp, etp: the axes. dense_dp: holders of one dense parameter (dp and cp together). expert_dp: holders of one
    expert. dense_dp_mirror, expert_dp_mirror: the same where a stage has two holders, pipeline ranks p and P-1-p; equal
    to the plain ones for an only pipeline rank. pp_hops[r]: from pipeline rank r to the next one, the last one back to the
    first (virtual stages go round).
    expert_groups: how the groups of ep lie, those with most groups first.
    sharing: None where all holders share as one group.
    """

    tp: GroupShape
    cp: GroupShape
    etp: GroupShape
    dense_dp: GroupShape
    expert_dp: GroupShape
    dense_dp_mirror: GroupShape
    expert_dp_mirror: GroupShape
    pp_hops: tuple[Hop, ...]
    expert_groups: tuple[Lie, ...]
    sharing: Sharing | None = None


@dataclass(frozen=True, eq=False)
class RankGroups:
    """The ranks of every group, (pp, groups, members); stages: (pp, ranks of a pipeline position).

    tp, cp, ep, etp: the axes. dense_dp: holders of one dense parameter; expert_dp: of one expert.
    """

    stages: IntArray
    tp: IntArray
    cp: IntArray
    ep: IntArray
    etp: IntArray
    dense_dp: IntArray
    expert_dp: IntArray


def rank_groups(mesh: Mesh) -> RankGroups:
    """The groups of a mesh."""
    dense = np.arange(mesh.num_gpus, dtype=np.int64).reshape(mesh.pp, mesh.dp, mesh.cp, mesh.tp)
    expert = dense.reshape(mesh.pp, mesh.edp, mesh.ep, mesh.etp)

    def listed(groups: IntArray) -> IntArray:
        return groups.reshape(mesh.pp, -1, groups.shape[-1])

    return RankGroups(
        stages=dense.reshape(mesh.pp, -1),
        tp=listed(dense),
        cp=listed(dense.transpose(0, 1, 3, 2)),
        ep=listed(expert.transpose(0, 1, 3, 2)),
        etp=listed(expert),
        dense_dp=listed(dense.reshape(mesh.pp, mesh.dp * mesh.cp, mesh.tp).transpose(0, 2, 1)),
        expert_dp=listed(expert.transpose(0, 2, 3, 1)),
    )


@lru_cache(maxsize=128)
def place(mesh: Mesh, gpus_per_node: int, host_gpus: int | None = None, *, shard_ranks: int | None = None) -> Placement:
    """The shapes of all groups when rank r is on node r // gpus_per_node.

    host_gpus: GPUs of one host, a divisor of gpus_per_node; None: a node is one host.
    shard_ranks: neighbouring holders of a dense parameter that share its state, in whole expert groups; None: all of them.
    """
    groups = rank_groups(mesh)
    stages = groups.stages
    node = stages // gpus_per_node

    def shape(groups: IntArray) -> GroupShape:
        return group_shape(groups.reshape(-1, groups.shape[-1]), gpus_per_node)

    return Placement(
        tp=shape(groups.tp),
        cp=shape(groups.cp),
        etp=shape(groups.etp),
        dense_dp=shape(groups.dense_dp),
        expert_dp=shape(groups.expert_dp),
        dense_dp_mirror=shape(with_mirror(groups.dense_dp)),
        expert_dp_mirror=shape(with_mirror(groups.expert_dp)),
        expert_groups=lies(groups.ep.reshape(-1, mesh.ep), gpus_per_node),
        pp_hops=_pp_hops(stages, node, host_gpus or gpus_per_node),
        sharing=None if shard_ranks is None else _sharing(groups, shard_ranks, gpus_per_node),
    )


def _pp_hops(ranks: IntArray, node: IntArray, host_gpus: int) -> tuple[Hop, ...]:
    """The hops from each pipeline position to the next, round to the first. ranks, node: (pp, ranks of a position)."""
    steps = np.abs(np.roll(node, -1, axis=0) - node)
    crosses = steps > 0
    ends = (ranks[crosses], np.roll(ranks, -1, axis=0)[crosses])
    senders = max(int(np.bincount(each // host_gpus).max(initial=0)) for each in ends)
    return tuple(
        Hop(same_node=not hop.any(), node_stride=int(hop.max()), senders=senders if hop.any() else 0) for hop in steps
    )


def _sharing(groups: RankGroups, shard_ranks: int, gpus_per_node: int) -> Sharing:
    """The shapes of groups of neighbours that share, and of the ranks that stand at one place of each."""

    def shape(each: IntArray) -> GroupShape:
        return group_shape(each.reshape(-1, each.shape[-1]), gpus_per_node)

    num_groups = groups.dense_dp.shape[-1] // shard_ranks
    dense, expert = (split_holders(holders, num_groups) for holders in (groups.dense_dp, groups.expert_dp))
    return Sharing(shape(dense[0]), shape(dense[1]), shape(expert[0]), shape(expert[1]))


def split_holders(holders: IntArray, num_groups: int) -> tuple[IntArray, IntArray]:
    """Holders (pp, groups, size) cut into num_groups of neighbours that share, and the ranks at one place of each."""
    split = holders.reshape(*holders.shape[:2], num_groups, -1)
    pp = holders.shape[0]
    return split.reshape(pp, -1, split.shape[-1]), split.swapaxes(2, 3).reshape(pp, -1, num_groups)


def group_shape(groups: IntArray, gpus_per_node: int) -> GroupShape:
    """The shape of the slowest group: of those on several nodes the one with the fewest members on a node, then on most
    nodes, then with its nodes farthest apart.

    groups: (number, size) ranks.
    """
    nodes, starts = _by_node(groups, gpus_per_node)
    num_nodes = starts.sum(axis=1)
    several = np.flatnonzero(num_nodes > 1) if num_nodes.max() > 1 else np.arange(len(nodes))
    fewest = _fewest_members(starts[several])
    slowest = several[fewest == fewest.min()]
    widest = slowest[num_nodes[slowest] == num_nodes[slowest].max()]
    shapes = [_shape_of_row(nodes[i], starts[i]) for i in widest[: _representatives(len(widest))]]
    return max(shapes, key=lambda shape: shape.node_stride)


def lies(groups: IntArray, gpus_per_node: int) -> tuple[Lie, ...]:
    """The distinct ways in which groups (number, size) lie on nodes: most groups first, then fewest nodes."""
    if groups.shape[1] == 1:
        return (Lie(len(groups), (1,)),)
    _, starts = _by_node(groups, gpus_per_node)
    patterns, counts = np.unique(starts, axis=0, return_counts=True)
    found: dict[tuple[int, ...], int] = {}
    for pattern, count in zip(patterns, counts.tolist(), strict=True):
        members = np.diff(np.append(np.flatnonzero(pattern), groups.shape[1])).tolist()
        key = tuple(sorted(members, reverse=True))
        found[key] = found.get(key, 0) + count
    return tuple(Lie(found[key], key) for key in sorted(found, key=lambda key: (-found[key], len(key), key)))


def _by_node(groups: IntArray, gpus_per_node: int) -> tuple[IntArray, NDArray[np.bool_]]:
    """(number, size) each: nodes of a group's members in order, and where the next node begins."""
    nodes = np.sort(groups // gpus_per_node, axis=1)
    starts = np.ones_like(nodes, dtype=np.bool_)
    starts[:, 1:] = nodes[:, 1:] != nodes[:, :-1]
    return nodes, starts


def _fewest_members(starts: NDArray[np.bool_]) -> IntArray:
    """(number,) members on the node of each group that has the fewest."""
    first = np.flatnonzero(starts.ravel())
    members = np.diff(np.append(first, starts.size))
    groups = np.flatnonzero(first % starts.shape[1] == 0)
    return np.minimum.reduceat(members, groups)


def _shape_of_row(nodes: IntArray, starts: NDArray[np.bool_]) -> GroupShape:
    first = np.flatnonzero(starts)
    members = np.diff(np.append(first, len(nodes)))
    strides = np.diff(nodes[first])
    stride = int(np.median(strides)) if len(strides) else 1
    return GroupShape(len(nodes), len(first), int(members.min()), stride)


def _representatives(count: int) -> int:
    """Groups of one kind repeat along the ranks: as many as one node can offset are enough."""
    return min(count, 256)


def with_mirror(groups: IntArray) -> IntArray:
    """(pp, groups, size) → holders over a pipeline position and its mirror: (pp/2 rounded up, groups, 2*size)."""
    pp = groups.shape[0]
    if pp == 1:
        return groups
    half = pp // 2
    return np.concatenate([groups[:half], groups[::-1][:half]], axis=2)
