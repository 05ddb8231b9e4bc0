"""How a router chooses experts, and everything the statistics of its choices depend on."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError

Scores = NDArray[np.float32]
Experts = NDArray[np.intp]
Balance = Literal["forced", "learned", "natural", "aux_loss"]


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """One MoE layer's router, where its experts are and what it sees. Plain values, hashable.

    num_experts, top_k: routed experts, and those of a token.
    groups, max_groups: the router divides the experts into consecutive groups and takes a token's experts from the best
        max_groups of them; equal numbers: no limit.
    group_top: a group counts by the sum of its best group_top biased scores: 2 in DeepSeek-V3 (report 2.1.2), 1 in
        DeepSeek-V2 (arXiv:2405.04434 2.1.3).
    ep, nodes: ranks and nodes of the expert group; experts are placed consecutively.
    members: ranks on each node in order; empty where every node has as many.
    sequences, seq_len: sequences in the group's micro-batch (over all its ranks), tokens of one.
    batch_sequences: sequences of a step, after which the bias is updated.
    score: the function of the router's logits. balance: what evens the load; forced: every rank receives the same.
    concentration: A. A single choice of a token is Dirichlet-multinomial with total concentration A over the experts of
        equal popularity; infinite: tokens of a sequence are independent.
    popularity_cv: coefficient of variation of the experts' mean affinities (weights of a single choice) that the data
        would have without balancing.
    popularity_drift_cv: by which the mean load of an expert changes from a step to the next while the router learns,
        relative (learned only).
    bias_update_rate: in units of the score, a step (learned only); 0: never moved. DeepSeek-V3 report 4.2: 0.001.
    aux_loss_pressure: by how much the auxiliary loss lowers an expert's log affinity at twice the mean load (aux_loss only).
    Raises InputError for numbers that no layout can have.
    """

    num_experts: int
    top_k: int
    ep: int
    nodes: int
    sequences: int
    seq_len: int
    groups: int = 1
    max_groups: int = 1
    group_top: int = 2
    batch_sequences: int = 1024
    score: Literal["sigmoid", "softmax"] = "sigmoid"
    balance: Balance = "learned"
    concentration: float = inf
    popularity_cv: float = 0.0
    popularity_drift_cv: float = 0.0
    bias_update_rate: float = 0.001
    aux_loss_pressure: float = 0.0
    members: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what cannot be divided or chosen."""
        for name, part in (("groups", self.groups), ("ep", self.ep)):
            if part < 1 or self.num_experts % part:
                raise InputError(f"{name} {part} must divide the {self.num_experts} experts of a layer")
        if self.members and (len(self.members) != self.nodes or sum(self.members) != self.ep or min(self.members) < 1):
            raise InputError(f"members {self.members} are not {self.ep} ranks on {self.nodes} nodes")
        if self.nodes < 1 or (self.ep % self.nodes and not self.members):
            raise InputError(f"nodes {self.nodes} must divide the {self.ep} ranks of the expert group")
        if not 1 <= self.max_groups <= self.groups:
            raise InputError(f"max_groups {self.max_groups} must lie between 1 and groups {self.groups}")
        if not 1 <= self.top_k <= self.max_groups * (self.num_experts // self.groups):
            raise InputError(
                f"a token cannot choose top_k {self.top_k} experts from {self.max_groups} of {self.groups} groups"
            )
        if min(self.sequences, self.seq_len, self.batch_sequences, self.group_top) < 1:
            raise InputError("sequences, seq_len, batch_sequences and group_top must be at least 1")
        if not self.concentration > 0:
            raise InputError(f"concentration must be above 0 ({self.concentration})")
        rates = (self.popularity_cv, self.popularity_drift_cv, self.bias_update_rate, self.aux_loss_pressure)
        if not all(0 <= rate < inf for rate in rates):
            raise InputError(
                "popularity, drift, bias update rate and auxiliary-loss pressure must be finite and not negative"
            )

    @property
    def load_places(self) -> int:
        """Places between which loads go together: nodes of equal size, or single ranks where nodes differ."""
        return self.ep if self.members else self.nodes

    def node_of_expert(self) -> NDArray[np.intp]:
        """(num_experts,) node that holds each."""
        members = self.members or (self.ep // self.nodes,) * self.nodes
        return np.repeat(np.arange(self.nodes), np.array(members) * (self.num_experts // self.ep))

    @property
    def is_group_limited(self) -> bool:
        """Whether some groups are closed to a token."""
        return self.max_groups < self.groups


def grouping(num_groups: int, max_groups: int, nodes: int, max_nodes: int | None) -> tuple[int, int]:
    """(groups, max_groups) of the selection: the model's own, or one group a node where the plan sets another limit.

    num_groups, max_groups: of the model's router. max_nodes: nodes that a token's experts may lie on; fewer than there are
    limits further, all of them and more than the router's groups lifts its limit. None: as the router was trained.
    """
    if max_nodes is not None and max_nodes < nodes:
        return nodes, max_nodes
    if max_nodes is not None and max_nodes > max_groups:
        return 1, 1
    return num_groups, max_groups


def select_experts(scores: Scores, rule: RoutingRule) -> Experts:
    """(tokens, top_k) experts of each token, in no order.

    scores: (tokens, num_experts), the bias added: it steers the selection, not the weight of an expert's output. Groups
    are compared by the sum of their best group_top scores, and the top_k are the best of the best max_groups groups.
    """
    if not rule.is_group_limited:
        return _best(scores, rule.top_k)
    width = rule.num_experts // rule.groups
    grouped = scores.reshape(len(scores), rule.groups, width)
    kept = _best(_group_scores(grouped, min(rule.group_top, width)), rule.max_groups)
    inside = np.take_along_axis(grouped, kept[:, :, None], axis=1).reshape(len(scores), -1)
    chosen = _best(inside, rule.top_k)
    return np.take_along_axis(kept, chosen // width, axis=1) * width + chosen % width


def _best(scores: Scores, count: int) -> Experts:
    """Indices of the highest `count` in each row."""
    if count == scores.shape[1]:
        return np.broadcast_to(np.arange(count), scores.shape)
    return np.argpartition(scores, scores.shape[1] - count, axis=1)[:, scores.shape[1] - count :]


def _group_scores(grouped: Scores, top: int) -> Scores:
    """Sum of the best `top` along the last axis; maxima are several times faster than a partition for the usual 1 and 2."""
    if top > 2:
        return np.asarray(np.partition(grouped, -top, axis=-1)[..., -top:].sum(axis=-1))
    best = grouped.max(axis=-1)
    if top == 2:
        rest = grouped.copy()
        np.put_along_axis(rest, grouped.argmax(axis=-1)[..., None], -np.inf, axis=-1)
        best = best + rest.max(axis=-1)
    return np.asarray(best)
