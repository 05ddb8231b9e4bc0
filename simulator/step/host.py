"""What it takes the host to issue a step, as the assembly asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hwprofiles.hosts import dispatch_range
from hwprofiles.schema import Assumption
from simulator.assembly.host import HostPlan
from simulator.assembly.issue import UnitIssue
from simulator.costs.host_issue import HostCosts, issue_s, preprocess_s, unit_s
from simulator.scenario.host_speed import HOST_SPEED, cpu_seconds
from simulator.scenario.scenario import Scenario
from simulator.workload.op import BlockName, Op, Unit

_BEGINS: Final[tuple[tuple[BlockName, ...], ...]] = (
    ("attn_f", "mlp_f_local"), ("attn_r", "mlp_r_local", "mlp_r_routed"), ("mlp_b_routed", "mlp_b_local", "attn_b"),
)  # fmt: skip
"""Blocks that a forward, one that is repeated, and a backward begin with: the first of each that the unit has."""


@dataclass(frozen=True)
class HostPrices:
    """Seconds of the host. plan: of what stands outside a unit's blocks. costs: of each kind of call; None: every kernel and
    collective takes plan.call_s.
    """

    plan: HostPlan
    costs: HostCosts | None

    def unit(self, unit: Unit) -> UnitIssue:
        """What issuing a unit takes: its operators, its messages with what stands before them, and what a layer does beside
        its operators, which counts to the first one of a forward or backward.
        """
        costs = self.costs
        if costs is None:
            return self._by_kernel(unit)
        blocks = {name: {id(each): issue_s(each, name, costs) for each in work} for name, work in unit.blocks.items()}
        for begins in _BEGINS:
            first = next((name for name in begins if unit.blocks.get(name)), None)
            if first is not None:
                blocks[first][id(unit.blocks[first][0])] += unit_s(first, costs)
        messages = {
            key: issue_s(each, key, costs) + preprocess_s(each, key, costs) for key, each in unit.all_to_all.items()
        }
        return UnitIssue(blocks, messages)

    def _by_kernel(self, unit: Unit) -> UnitIssue:
        call_s = self.plan.call_s
        return UnitIssue(
            {
                name: {id(each): call_s * (each.shape.num_kernels if isinstance(each, Op) else 1) for each in work}
                for name, work in unit.blocks.items()
            },
            dict.fromkeys(unit.all_to_all, call_s),
        )


def host_costs(scenario: Scenario, assumptions: Mapping[str, Assumption]) -> HostCosts:
    """Seconds of each kind of call on the node's processor, by the way in which the scenario issues work."""
    costs = dispatch_range(scenario.host.dispatch).value
    return costs.times(cpu_seconds(scenario).value * assumptions[HOST_SPEED].value)


def host_prices(scenario: Scenario, assumptions: Mapping[str, Assumption]) -> HostPrices | None:
    """Of a scenario; None where nothing that a host does takes time."""
    call_s = scenario.host.launch_s
    if not scenario.mechanisms.host_stream or call_s == 0:
        return None
    if call_s is not None:
        return HostPrices(HostPlan(call_s=call_s), None)
    costs = host_costs(scenario, assumptions)
    return HostPrices(HostPlan(call_s=costs.collective_s, sync_s=costs.sync_s), costs)
