"""How sure the seconds of a host's calls are: by its processor, and by how much is known of the software that makes them.

Independent of one another, as logarithms that add up as squares: the processor; what brings the tables to the processor that
they are of; the tables' groups of calls, each from sources of its own; and, where nobody says how work is issued, which of two
ways it is. Of costs that were measured on the stack's own machine only the last two are open.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import exp, fsum, hypot, log
from typing import Final

from hwprofiles.hosts import BETWEEN, CostRange, DispatchCosts, Executor, dispatch_range, load_host
from hwprofiles.hosts.own import RATIO, in_a_model, own_range
from hwprofiles.hosts.torch_model import OPTIONAL, PARTS, PASSES, RECIPES, key
from hwprofiles.stack_records import Assumption, Parameter, Stack
from simulator.scenario.hardware import node_of
from simulator.scenario.module_rules import OWN
from simulator.scenario.own_host import own_costs
from simulator.scenario.scenario import Scenario

HOST_SPEED: Final = "host_speed"
"""Key of the assumption: seconds of every call over those that the catalogue has for processor and software."""
PLAIN_CPU: Final = "xeon-8480c"
"""Of a node that does not name its processor."""
BROUGHT: Final = (0.82, 1.29)
"""Of what one measured host's calls take on the tables' processor: its linear layer takes 19 to 30 us (a call in ten is
below, one above: hwprofiles/measurements/h100-host-dispatch-2026-11-27.csv) where the tables' 13.5 us stand for 24."""
GROUPS: Final = (
    ("launch_f_s", "launch_b_s", "collective_s", "sync_s"),
    (
        "module_f_s", "module_b_s", "function_f_s", "function_b_s", "attention_f_s", "attention_b_s", "cast_s",
        "parameter_s", "graph_s",
    ),
    ("looped_expert_f_s", "looped_expert_b_s", "grouped_expert_f_s", "grouped_expert_b_s", "expert_cast_s"),
    ("message_f_s", "message_b_s"),
    ("layer_f_s", "layer_b_s", "routed_f_s", "routed_b_s"),
)  # fmt: skip
"""Calls whose figures have their sources, and so their errors, in common: torch's own, modules, loops over experts,
dispatchers, and what nothing counts."""
CALLS: Final = tuple(key for keys in GROUPS for key in keys)
"""All of them; the kernels of a replayed graph are no calls, and take next to nothing."""
LARGEST: Final = 0.4
"""Share of one group in the seconds of a step at most. Qwen3-30B in MXFP8, 16 experts a GPU in a loop: experts 0.40, modules
0.31, layers 0.14, messages 0.11, launches 0.05; Qwen3-235B in BF16, 4 a GPU: 0.09, 0.32, 0.27, 0.16, 0.16 (counts of
workload/host_calls.py)."""
SHARES: Final = (0.105, 0.315, 0.245, 0.13, 0.205)
"""Of each group in the seconds of a step: the mean of those two. For costs that were measured, some groups surely, some not."""
AGAIN: Final = 1.3
"""Between two runs of a calibration on hosts of one kind, an hour apart: calls over the tables' 1.56 and 1.19, while the GPU's
kernels agree within 2 %. What else runs on a host is in its calls."""
OWN_REASON: Final = (
    "Seconds of every call that issues work over those measured on the stack's own machine; calls that were not measured are "
    "the tables' by the ratio of those that were."
)
"""Of the assumption where a stack's own host costs serve."""
PROGRAMS: Final = frozenset({"custom"})
"""Ways of issuing whose range is of different programs: all of its calls are dear or cheap together."""


def cpu_seconds(scenario: Scenario) -> Parameter:
    """Of the node's processor, over those of the one that the costs of calls are of."""
    return load_host(node_of(scenario).host_cpu or PLAIN_CPU).seconds


def counts_functions(scenario: Scenario) -> bool:
    """Whether every function of the software is counted, so that calls stand between others and nothing beside them."""
    return scenario.kernels.modules != "fused"


def has_layers(scenario: Scenario, own: Mapping[str, Parameter]) -> bool:
    """Whether a stack knows what layers of the torch model take in the recipe, and the scenario runs that model."""
    recipe = scenario.precision.recipe
    if scenario.kernels.modules != OWN or recipe not in RECIPES:
        return False
    needed = [part for part in PARTS if part not in OPTIONAL or (part == "weight" and recipe != "bf16")]
    # Layers that are computed again take so many times those with a shared expert: nothing divides by a host's unrest.
    is_whole = all(key(recipe, part, way) in own for part in needed for way in PASSES)
    return is_whole and all(own[key(recipe, "shared", way)].value > 0.0 for way in PASSES)


def of_host(stated: Assumption, scenario: Scenario, stack: Stack) -> Assumption:
    """The assumption with the range of this node's processor and of what is known of the software, or of the stack's own
    measurement.
    """
    if scenario.host.launch_s is not None:
        return stated.model_copy(update={"low": stated.value, "high": stated.value})
    own = own_costs(scenario, node_of(scenario), stack)
    if own is None:
        cpu, (down, up) = cpu_seconds(scenario), _calls_range(scenario.host.dispatch)
        down, up = hypot(log(cpu.value / cpu.low), down), hypot(log(cpu.high / cpu.value), up)
    else:
        down, up = (hypot(each, log(AGAIN)) for each in _of_own(own, scenario.host.dispatch))
    if counts_functions(scenario) and not (own is not None and has_layers(scenario, own)):
        between = in_a_model(own)
        down, up = hypot(down, log(between.value / between.low)), hypot(up, log(between.high / between.value))
    found = {"low": stated.value * exp(-down), "high": stated.value * exp(up)}
    measured = {} if own is None else {"source": own[RATIO].source, "reason": OWN_REASON}
    return stated.model_copy(update={**found, **measured})


def _of_own(own: Mapping[str, Parameter], executor: Executor | None) -> tuple[float, float]:
    """Logarithms of the ends of what was measured, and of the ratio that stands for what was not."""
    if executor is not None:
        return _own_ends(own_range(executor, own), is_program=executor in PROGRAMS)
    apart = max(_mean(own_range(None, own).value, own_range(each, own).value, CALLS) for each in BETWEEN)
    down, up = (
        max(ends) for ends in zip(*(_own_ends(own_range(e, own), is_program=False) for e in BETWEEN), strict=True)
    )
    return hypot(down, apart), hypot(up, apart)


def _own_ends(costs: CostRange, *, is_program: bool) -> tuple[float, float]:
    """Logarithms of the ends of a step's calls over their seconds: all together, or by groups that err on their own."""
    if is_program:
        return _program(costs)
    down, up = (
        hypot(*(share * _mean(costs.value, end, keys) for share, keys in zip(SHARES, GROUPS, strict=True)))
        for end in (costs.low, costs.high)
    )
    return down, up


def _program(costs: CostRange) -> tuple[float, float]:
    return _mean(costs.value, costs.low, CALLS), _mean(costs.value, costs.high, CALLS)


@cache
def _calls_range(executor: Executor | None) -> tuple[float, float]:
    """Logarithms of the ends of a step's calls over their seconds, both at least 0."""
    if executor is None:
        return _either_range()
    costs = dispatch_range(executor)
    if executor in PROGRAMS:
        return _program(costs)
    down, up = (_together(costs, end) for end in (costs.low, costs.high))
    return hypot(down, log(BROUGHT[0])), hypot(up, log(BROUGHT[1]))


def _either_range() -> tuple[float, float]:
    """Of work issued in a way that nobody says: the middle of two ways, each of which has a range of its own."""
    middle = dispatch_range(None).value
    apart = max(_mean(middle, dispatch_range(each).value, CALLS) for each in BETWEEN)
    down, up = (max(ends) for ends in zip(*map(_calls_range, BETWEEN), strict=True))
    return hypot(apart, down), hypot(apart, up)


def _together(costs: CostRange, end: DispatchCosts) -> float:
    """Of independent groups, of which the least sure one has the largest share and the others what is left, alike."""
    first, *others = sorted((_mean(costs.value, end, keys) for keys in GROUPS), reverse=True)
    rest = (1.0 - LARGEST) / len(others)
    return hypot(LARGEST * first, *(rest * each for each in others))


def _mean(value: DispatchCosts, end: DispatchCosts, keys: tuple[str, ...]) -> float:
    """Distance of the seconds from an end, in logarithms, mean over the kinds of calls that take any; 0 where none does."""
    of = [(getattr(value, key), getattr(end, key)) for key in keys]
    logs = [log(at / seconds) for seconds, at in of if seconds > 0 and at > 0]
    return abs(fsum(logs) / len(logs)) if logs else 0.0
