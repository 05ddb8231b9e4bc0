"""What it takes the host to issue a step, as the assembly asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.assembly.host import HostPlan
from simulator.assembly.issue import UnitIssue
from simulator.scenario.scenario import Scenario
from simulator.workload.op import Op, Unit


@dataclass(frozen=True)
class HostPrices:
    """Seconds of the host. plan: of what stands outside a unit's blocks. call_s: of a kernel or collective."""

    plan: HostPlan
    call_s: float

    def unit(self, unit: Unit) -> UnitIssue:
        """What issuing a unit takes."""
        return UnitIssue(
            {
                name: {id(each): self.call_s * (each.shape.num_kernels if isinstance(each, Op) else 1) for each in work}
                for name, work in unit.blocks.items()
            },
            dict.fromkeys(unit.all_to_all, self.call_s),
        )


def host_prices(scenario: Scenario) -> HostPrices | None:
    """Of a scenario; None where nothing that a host does takes time."""
    call_s = scenario.host.launch_s
    if not call_s or not scenario.mechanisms.host_stream:
        return None
    return HostPrices(HostPlan(call_s=call_s), call_s)
