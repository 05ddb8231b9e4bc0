"""Where the job's ranks lie, for the result."""

from __future__ import annotations

from simulator.network.placement import Lie
from simulator.results.placement_result import ExpertGroups, Placement
from simulator.scenario.hardware import node_of
from simulator.step.prepared import PreparedStep, expert_group


def placement_result(step: PreparedStep) -> Placement:
    """The result document's placement section."""
    use, scenario = step.hardware.domains, step.scenario
    groups = None
    if scenario.parallel.ep > 1:
        simulated = expert_group(scenario, step.hardware)
        groups = tuple(_expert_groups(lie, simulated) for lie in step.hardware.placement.expert_groups)
    return Placement(
        gpus_per_domain=use.gpus_per_domain,
        domain_gpus=node_of(scenario).scale_up_domain_gpus,
        rule=use.rule,
        num_domains=use.num_domains,
        gpus_used=use.gpus_used,
        gpus_paid=use.gpus_paid,
        gpus_idle=use.gpus_idle,
        expert_groups=groups,
    )


def _expert_groups(lie: Lie, simulated: Lie) -> ExpertGroups:
    return ExpertGroups(groups=lie.groups, ranks_by_domain=lie.members, is_simulated=lie == simulated)
