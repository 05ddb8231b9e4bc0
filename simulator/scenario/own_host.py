"""Whether a stack's own host costs serve a scenario: those measured on the machine on which its kernels were.

They serve where the node has the processor that they were measured on, so that a stack measured on one machine does not bring
its slow or fast processor to another one. `host.costs` says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from hwprofiles.hosts import load_host
from hwprofiles.hosts.own import has_own
from hwprofiles.schema import Node
from hwprofiles.stack_records import Parameter, Stack
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

STACK: Final = "stack"


def own_costs(scenario: Scenario, node: Node, stack: Stack) -> Mapping[str, Parameter] | None:
    """The stack's parameters where its host costs serve; None: the catalogue's do."""
    if not has_own(stack.parameters):
        return None
    wanted = scenario.host.costs
    serves = wanted == STACK if wanted else is_measured_on(node, stack.provenance.host_cpu)
    return stack.parameters if serves else None


def is_measured_on(node: Node, reported: str) -> bool:
    """Whether a processor of that reported name is the node's."""
    return bool(reported and node.host_cpu) and any(
        each.lower() in reported.lower() for each in load_host(str(node.host_cpu)).reported
    )


def own_host_problems(scenario: Scenario, stack: Stack) -> Iterator[FieldProblem]:
    """Costs of a stack that has none."""
    if scenario.host.costs == STACK and not has_own(stack.parameters):
        text = (
            f"stack, but {scenario.stack} has no host costs of its own (host.* of its parameters); use processor, or null, "
            "or measure them: moesim calibrate"
        )
        yield "host.costs", text
