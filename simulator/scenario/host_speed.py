"""How sure the seconds of a host's calls are: by its processor, and by how much is known of the software that makes them."""

from __future__ import annotations

from functools import cache
from math import exp, fsum, log, sqrt
from typing import Final

from hwprofiles.hosts import KEYS, Executor, dispatch_range, load_host
from hwprofiles.schema import Assumption, Parameter
from simulator.scenario.hardware import node_of
from simulator.scenario.scenario import Scenario

HOST_SPEED: Final = "host_speed"
"""Key of the assumption: seconds of every call over those that the catalogue has for processor and software."""
PLAIN_CPU: Final = "xeon-8480c"
"""Of a node that does not name its processor."""


def cpu_seconds(scenario: Scenario) -> Parameter:
    """Of the node's processor, over those of the one that the costs of calls are of."""
    return load_host(node_of(scenario).host_cpu or PLAIN_CPU).seconds


def of_host(stated: Assumption, scenario: Scenario) -> Assumption:
    """The assumption with the range of this node's processor and of what is known of the software. Both may be off, each on
    its own: logarithms of their ranges add up as squares.
    """
    if scenario.host.launch_s is not None:
        return stated.model_copy(update={"low": stated.value, "high": stated.value})
    cpu, (low, high) = cpu_seconds(scenario), _calls_range(scenario.host.dispatch)
    below = exp(-sqrt(log(cpu.value / cpu.low) ** 2 + log(low) ** 2))
    above = exp(sqrt(log(cpu.high / cpu.value) ** 2 + log(high) ** 2))
    return stated.model_copy(update={"low": stated.value * below, "high": stated.value * above})


@cache
def _calls_range(executor: Executor | None) -> tuple[float, float]:
    """Ends of the calls' seconds over the seconds: geometric means over the kinds of calls that take any."""
    costs = dispatch_range(executor)
    ends = []
    for end in (costs.low, costs.high):
        ratios = [
            log(getattr(end, key) / value)
            for key in KEYS
            if (value := getattr(costs.value, key)) > 0 and getattr(end, key) > 0
        ]
        ends.append(exp(fsum(ratios) / len(ratios)))
    return ends[0], ends[1]
