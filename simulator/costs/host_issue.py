"""Seconds that a host needs to issue an operator, a message, or what of a layer no operator stands for.

    seconds = sum over the kinds of calls of their number times the seconds of one

Numbers are workload/host_calls.py's, seconds hwprofiles.hosts' (which says where they come from), of one processor and one way
of issuing work.
"""

from __future__ import annotations

import math
from typing import Final

from hwprofiles.hosts import DispatchCosts
from simulator.workload.host_calls import Calls, calls_of, is_backward, preprocess_calls
from simulator.workload.op import AllToAll, Work

HostCosts = DispatchCosts
"""One end of a range: seconds of each kind of call."""

_TWO_WAYS: Final = ("launch", "module", "function", "attention", "looped_expert", "grouped_expert", "message")
"""Kinds whose call in a forward and node in a backward differ."""
_ONE_WAY: Final = ("cast", "expert_cast", "parameter", "collective")


def calls_s(calls: Calls, costs: HostCosts) -> float:
    """Seconds of some calls."""
    way = "b" if calls.is_backward else "f"
    kinds = [(kind, f"{kind}_{way}_s") for kind in _TWO_WAYS] + [(kind, f"{kind}_s") for kind in _ONE_WAY]
    return math.fsum(getattr(calls, kind) * getattr(costs, seconds) for kind, seconds in kinds)


def issue_s(work: Work | AllToAll, block: str, costs: HostCosts) -> float:
    """Seconds of all calls that issue it once. block: the block of a unit that it stands in, or a message's key.

    In front of a dispatch stand the calls that work out its counts (`preprocess_s`), which are not in this.
    """
    return calls_s(calls_of(work, block), costs)


def preprocess_s(message: AllToAll, block: str, costs: HostCosts) -> float:
    """Seconds of what stands between the router and a dispatch forward; 0 of any other message. Scope: moe_preprocess."""
    if message.op != "dispatch" or is_backward(block):
        return 0.0
    return calls_s(preprocess_calls(message), costs)


def unit_s(block: str, costs: HostCosts) -> float:
    """Seconds of what a layer does beside its counted operators, of which a forward or a backward has as much."""
    return costs.layer_b_s if is_backward(block) else costs.layer_f_s


def routed_s(block: str, costs: HostCosts) -> float:
    """Seconds of what a layer with experts does more of that."""
    return costs.routed_b_s if is_backward(block) else costs.routed_f_s
