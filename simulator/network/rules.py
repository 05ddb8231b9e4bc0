"""What stands against, and what is odd about, how a job lies on its scale-up domains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from simulator.network.domains import domain_use_of
from simulator.network.placement import Lie, Mesh, place
from simulator.scenario import derived
from simulator.scenario.hardware import node_of
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

MAX_PARTS: Final = 6
"""Parts of a group that a message lists."""


def placement_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Groups that lie across domains, and domains that could be spared."""
    yield from _domain_warnings(scenario)
    yield from _straddling_warnings(scenario)


def expert_group_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """A limit of nodes a token that leaves too few experts, or that groups in unequal parts cannot have."""
    moe, limit, ep = scenario.model.moe, scenario.moe.max_nodes_per_token, scenario.parallel.ep
    if moe is None or limit is None or moe.num_routed_experts % ep or not _has_whole_groups(scenario):
        return
    domain, group = domain_use_of(scenario).gpus_per_domain, derived.expert_ranks(scenario)
    if group >= domain:
        experts_per_node = moe.num_routed_experts * domain // group
        if limit * experts_per_node < moe.top_k:
            text = f"{limit} nodes of {experts_per_node} experts hold fewer than top_k {moe.top_k}"
            yield "moe.max_nodes_per_token", f"{text}; allowed at least {-(-moe.top_k // experts_per_node)}"
            return
    uneven = [lie for lie in _lies_of_expert_groups(scenario) if not lie.is_even and limit < len(lie.members)]
    if uneven:
        text = f"not modelled yet (a limit of {limit} nodes with groups that lie as {_parts(uneven[0])})"
        yield "moe.max_nodes_per_token", f"{text}; {_remedy(scenario)}, or leave the limit out"


def _straddling_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Expert groups that lie across scale-up domains though one would hold them, or in unequal parts."""
    domain, group = domain_use_of(scenario).gpus_per_domain, derived.expert_ranks(scenario)
    if not _straddles(domain, group) or not _has_whole_groups(scenario):
        return
    lies = _lies_of_expert_groups(scenario)
    across = [lie for lie in lies if len(lie.members) > 1]
    if not across:
        return
    total = sum(lie.groups for lie in lies)
    text = f"groups of {group} GPUs do not divide the {domain} GPUs used of a scale-up domain: "
    text += f"{sum(lie.groups for lie in across)} of {total} lie across domains ({', '.join(map(_parts, across[:4]))})"
    yield "parallel.ep", f"{text}, and the step waits for the slowest; {_remedy(scenario)}"


def _straddles(domain: int, group: int) -> bool:
    """Whether neither divides the other, so that groups of consecutive GPUs begin inside a scale-up domain."""
    return domain % group > 0 and group % domain > 0


def _remedy(scenario: Scenario) -> str:
    """The way out: the most GPUs of a domain, in whole hosts, that the group divides or that divide the group."""
    node, group = node_of(scenario), derived.expert_ranks(scenario)
    host = node.gpus_per_node
    fitting = [
        size for size in range(host, node.scale_up_domain_gpus + 1, host) if size % group == 0 or group % size == 0
    ]
    if fitting:
        return f"with cluster.gpus_per_domain: {max(fitting)} every group lies alike"
    return f"with an ep that divides the {host} GPUs of a host, or is a multiple of them, every group lies alike"


def _parts(lie: Lie) -> str:
    """'56 + 8'; of many nodes the first and the last."""
    members = lie.members if len(lie.members) <= MAX_PARTS else (*lie.members[:2], "…", lie.members[-1])
    return " + ".join(map(str, members))


def _has_whole_groups(scenario: Scenario) -> bool:
    """Whether there is a mesh to lay out."""
    return derived.is_mesh_whole(scenario) and derived.stage_ranks(scenario) % derived.expert_ranks(scenario) == 0


def _lies_of_expert_groups(scenario: Scenario) -> tuple[Lie, ...]:
    """How the expert groups lie on the scale-up domains."""
    mesh = Mesh(scenario.cluster.num_gpus, **derived.degrees(scenario))
    return place(mesh, domain_use_of(scenario).gpus_per_domain).expert_groups


def domain_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """GPUs used of a domain that are more than it has, or no whole hosts."""
    node, given = node_of(scenario), scenario.cluster.gpus_per_domain
    domain, host = node.scale_up_domain_gpus, node.gpus_per_node
    if given is not None and (given > domain or given % host):
        what = f"more than the {domain}" if given > domain else f"no whole number of hosts of {host}"
        allowed = f"{host}, or null" if host == domain else f"multiples of {host} up to {domain}, or null"
        yield "cluster.gpus_per_domain", f"{given} GPUs of a domain of {node.name}, {what}; allowed {allowed}"


def _domain_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Domains that are paid for and could be spared: with more GPUs used of each, fewer would do."""
    use, domain = domain_use_of(scenario), node_of(scenario).scale_up_domain_gpus
    unit = math.lcm(node_of(scenario).gpus_per_node, derived.unbroken_ranks(scenario))
    most = domain // unit * unit
    if most > use.gpus_per_domain and (fewer := -(-use.gpus_used // most)) < use.num_domains:
        text = f"{use.gpus_per_domain} GPUs used of each of {use.num_domains} domains of {domain}: {use.gpus_idle} idle"
        yield "cluster.gpus_per_domain", f"{text}; {most} would take {fewer} domains, the last filled in part"
