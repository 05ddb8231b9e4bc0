"""Host costs that a stack holds itself, measured on the machine that the stack was measured on: `host.*` of its parameters.

`host.<way of issuing>.<call>`: seconds of a call; `host.torch_model.…`: of the torch model's layers (torch_model.py);
`host.in_a_model`: of calls between others over those in loops;
`host.seconds`: calls of that machine over those of the tables of dispatch. A call that was not measured takes the table's
seconds times that, by whose ranges it is as unsure as both are.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, hypot, log
from typing import Final

from hwprofiles.hosts import (
    BETWEEN,
    EXECUTORS,
    KEYS,
    CostRange,
    DispatchCosts,
    Executor,
    known_in_a_model,
    load_dispatch,
    middle,
    torch_model,
)
from hwprofiles.names import nearest
from hwprofiles.provenance import Ranged
from hwprofiles.stack_records import Parameter

KEY: Final = "host."
"""In front of `<way of issuing>.<call>`."""
RATIO: Final = "host.seconds"
IN_A_MODEL: Final = "host.in_a_model"
"""What calls take between others of a model over what each takes in a loop of its like."""
IN_A_PASS: Final = {False: "host.in_a_model_f", True: "host.in_a_model_b"}
"""The same of forwards and of backwards alone, where both were measured apart."""
TENTH: Final = 1.28
"""Standard deviations of a normal distribution beyond which a tenth lies at each end."""


def has_own(parameters: Mapping[str, Ranged]) -> bool:
    """Whether the stack of these parameters holds costs of its own host."""
    return RATIO in parameters


def own_key_problem(key: str) -> str | None:
    """Why no call is of that key, which begins with KEY; None where one is."""
    way, _, call = key.removeprefix(KEY).partition(".")
    if key in (RATIO, IN_A_MODEL, *IN_A_PASS.values()):
        return None
    if way == torch_model.WAY:
        return torch_model.key_problem(key)
    if way not in EXECUTORS:
        return f"unknown way of issuing work{nearest(way, (*EXECUTORS, torch_model.WAY, RATIO, IN_A_MODEL))}"
    return None if call in KEYS else f"is no cost of a call{nearest(call, KEYS)}"


def in_a_model(parameters: Mapping[str, Parameter] | None) -> Parameter:
    """Of the stack of these parameters, else (None: its host costs do not serve) as the catalogue has it."""
    own = parameters.get(IN_A_MODEL) if parameters is not None else None
    return own if own is not None else known_in_a_model()


def in_a_pass(parameters: Mapping[str, Parameter] | None, *, backward: bool) -> Parameter:
    """The same of forwards or of backwards."""
    own = parameters.get(IN_A_PASS[backward]) if parameters is not None else None
    return own if own is not None else in_a_model(parameters)


def own_range(executor: Executor | None, parameters: Mapping[str, Ranged]) -> CostRange:
    """What calls take on the stack's host. executor None: the geometric middle of plain modules and Transformer Engine's, with
    the outer ends of both. Raises KeyError: the stack has no host costs.
    """
    ways = [_of_way(each, parameters) for each in ((executor,) if executor else BETWEEN)]
    if len(ways) == 1:
        return ways[0]
    return CostRange(
        DispatchCosts(*(middle([getattr(each.value, key) for each in ways]) for key in KEYS)),
        DispatchCosts(*(min(getattr(each.low, key) for each in ways) for key in KEYS)),
        DispatchCosts(*(max(getattr(each.high, key) for each in ways) for key in KEYS)),
    )


def _of_way(executor: Executor, parameters: Mapping[str, Ranged]) -> CostRange:
    table, ratio = load_dispatch(executor), parameters[RATIO]
    own = {key: parameters.get(f"{KEY}{executor}.{key}") for key in KEYS}

    def end(name: str) -> DispatchCosts:
        return DispatchCosts(
            *(
                getattr(found, name) if found is not None else _times(table[key], ratio, name)
                for key, found in own.items()
            )
        )

    return CostRange(end("value"), end("low"), end("high"))


def _times(cost: Ranged, ratio: Ranged, name: str) -> float:
    """An end of a product of two that err on their own: distances in logarithms add up as squares."""
    value, of_cost = cost.value * ratio.value, getattr(cost, name)
    if name == "value" or not value or not of_cost:
        return float(of_cost * ratio.value)
    apart = hypot(log(of_cost / cost.value), log(getattr(ratio, name) / ratio.value))
    return value * exp(apart if name == "high" else -apart)
