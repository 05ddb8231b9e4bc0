"""What the router is asked: where a token's experts lie, and how unevenly the ranks of an expert group are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

from hwprofiles.stack_records import Assumption
from simulator.network.placement import Lie
from simulator.scenario import derived
from simulator.scenario.model import MoeFfn
from simulator.scenario.plan import LoadImbalance
from simulator.scenario.scenario import Scenario
from simulator.workload.capacity import UNLIMITED, Capacity, capacity_law
from simulator.workload.expert_load import LoadModel, TokenLaw, token_law
from simulator.workload.group_law import cv_of_maximum
from simulator.workload.routing_model import RoutingStatistics, persistent_ratio, routing_statistics
from simulator.workload.routing_rule import Balance, RoutingRule, grouping
from simulator.workload.uneven_group import nic_copies


def ask_router(scenario: Scenario, group: Lie, assumptions: Mapping[str, Assumption]) -> RoutingStatistics | None:
    """What the simulated router does to an expert group that lies so on nodes; None where no expert is elsewhere."""
    moe = scenario.model.moe
    if moe is None or scenario.parallel.ep == 1:
        return None
    return routing_statistics(_rule(scenario, moe, group, assumptions), scenario.seed)


ROUTER: Mapping[str, frozenset[Balance]] = {
    "expert_popularity_cv": frozenset({"natural", "aux_loss"}),
    "expert_popularity_drift_cv": frozenset({"learned"}),
    "bias_update_rate": frozenset({"learned"}),
    "aux_loss_pressure": frozenset({"aux_loss"}),
}
"""Assumptions of the router's dynamics, and the ways of balancing in which they move what persists between experts."""


def persistent_at(
    scenario: Scenario, group: Lie, assumptions: Mapping[str, Assumption], changed: Assumption
) -> float | None:
    """What persists between experts with one of these assumptions elsewhere, over what does; None where it moves nothing."""
    moe, found = scenario.model.moe, ask_router(scenario, group, assumptions)
    if moe is None or found is None or isinstance(scenario.moe.balance, LoadImbalance):
        return None
    if _balance(scenario, moe) not in ROUTER[changed.key]:
        return None
    was, now = (_rule(scenario, moe, group, each) for each in (assumptions, {**assumptions, changed.key: changed}))
    return persistent_ratio(was, now, found, scenario.seed)


def _rule(scenario: Scenario, moe: MoeFfn, group: Lie, assumptions: Mapping[str, Assumption]) -> RoutingRule:
    """What is simulated token by token."""
    nodes, ep, training = len(group.members), scenario.parallel.ep, scenario.training
    groups = (1, 1)
    if scenario.mechanisms.node_limited_dispatch:
        limit = scenario.moe.max_nodes_per_token
        groups = grouping(moe.num_expert_groups, moe.max_groups_per_token, nodes, limit)
    sequences, seq_len = derived.expert_group_sequences(scenario)
    value = {key: entry.value for key, entry in assumptions.items()}
    return RoutingRule(
        num_experts=moe.num_routed_experts, top_k=moe.top_k, ep=ep, nodes=nodes,
        sequences=sequences, seq_len=seq_len,
        groups=groups[0], max_groups=groups[1], group_top=2 if moe.router_bias else 1,
        batch_sequences=training.global_batch_size, score=moe.score, balance=_balance(scenario, moe),
        concentration=value["routing_concentration"], popularity_cv=value["expert_popularity_cv"],
        popularity_drift_cv=value["expert_popularity_drift_cv"], bias_update_rate=value["bias_update_rate"],
        aux_loss_pressure=value["aux_loss_pressure"], members=() if group.is_even else group.members,
    )  # fmt: skip


def _balance(scenario: Scenario, moe: MoeFfn) -> Balance:
    """What evens the load; a given imbalance says nothing of single tokens, which are then spread evenly."""
    given = scenario.moe.balance
    if isinstance(given, LoadImbalance) or given == "forced":
        return "forced"
    if given == "learned":
        return "learned" if moe.router_bias else "aux_loss"
    return "natural"


def capacity_of(
    scenario: Scenario, group: Lie, routing: RoutingStatistics | None, assumptions: Mapping[str, Assumption]
) -> Capacity:
    """What the experts' capacity leaves of the rows, as uneven as one rank's micro-batch is."""
    moe, limit, given = scenario.model.moe, scenario.moe.capacity_factor, scenario.moe.balance
    if moe is None or limit is None:
        return UNLIMITED
    training, ranks = scenario.training, scenario.parallel.ep
    variance = 0.0
    if isinstance(given, LoadImbalance):
        variance = cv_of_maximum(given.load_imbalance, ranks) ** 2 if ranks > 1 else 0.0
    elif given != "forced" and scenario.mechanisms.imbalance:
        found = routing or routing_statistics(_rule(scenario, moe, group, assumptions), scenario.seed)
        sharing = derived.sharing_tokens(scenario)
        variance = found.expert_variance(training.micro_batch_size, max(1, training.seq_len // sharing))
    return capacity_law(limit, variance, is_padded=scenario.moe.pad_to_capacity)


def load_model(
    scenario: Scenario, group: Lie, routing: RoutingStatistics | None, capacity: Capacity = UNLIMITED
) -> LoadModel | None:
    """How unevenly experts are loaded; None where they are even or there are none to spread. group: how it lies on nodes."""
    load = _load_model(scenario, group, routing)
    if load is None or capacity.limit == inf:
        return load
    share = capacity.relative_spread
    if share == 0.0:
        return None
    noise, persistent = ((None if cv is None else cv * share) for cv in (load.node_noise_cv, load.node_persistent_cv))
    return replace(
        load, noise_cv=load.noise_cv * share, persistent_cv=load.persistent_cv * share, node_noise_cv=noise,
        node_persistent_cv=persistent, limit=capacity.limit / capacity.kept,
    )  # fmt: skip


def _load_model(scenario: Scenario, group: Lie, routing: RoutingStatistics | None) -> LoadModel | None:
    """The same without a capacity."""
    given, ranks = scenario.moe.balance, scenario.parallel.ep
    nodes = len(group.members) if group.is_even else ranks
    if routing is None or given == "forced" or not scenario.mechanisms.imbalance:
        return None
    if isinstance(given, LoadImbalance):
        cv = cv_of_maximum(given.load_imbalance, ranks)
        if cv == 0:
            return None
        load = LoadModel(cv, 0.0, ranks, nodes, tokens=_token_law(scenario, routing))
    else:
        load = LoadModel(
            routing.noise_cv, routing.persistent_cv, ranks, nodes, routing.node_noise_cv, routing.node_persistent_cv,
            tokens=_token_law(scenario, routing),
        )  # fmt: skip
    copies = routing.copies
    if copies is None:
        return load
    weights = tuple(max(pair) / copies.busiest for pair in zip(copies.arriving, copies.leaving, strict=True))
    return replace(load, members=group.members, nic_weights=weights)


def slowest_lie(lies: Sequence[Lie], top_k: int) -> Lie:
    """The way of lying whose busiest NICs carry most, where each of a token's experts is on any rank alike."""

    def copies(lie: Lie) -> float:
        if len(lie.members) == 1:
            return 0.0
        ranks = sum(lie.members)
        return nic_copies(lie.members, [1.0 - (1.0 - here / ranks) ** top_k for here in lie.members]).busiest

    return max(lies, key=copies)


def _token_law(scenario: Scenario, routing: RoutingStatistics) -> TokenLaw | None:
    moe = scenario.model.moe
    if moe is None:
        return None
    return token_law(moe.num_routed_experts, moe.top_k, scenario.parallel.ep, routing.ranks_per_token)
