"""What a scenario's own keys leave open and others decide: a framework release's switches, formats, the GPU's stack."""

from __future__ import annotations

from typing import Any, Final

from hwprofiles.yaml_file import KeyPath
from simulator.scenario import hardware
from simulator.scenario.dispatchers import DISPATCHERS
from simulator.scenario.inherited import gpu_of
from simulator.scenario.nested import find, put
from simulator.scenario.recipes import RECIPES
from simulator.scenario.releases import RELEASES, SetSwitch, set_switches

CASTS: Final = ("kernels", "casts")
DISPATCH_DTYPE: Final = ("moe", "dispatch_dtype")


def put_switches(data: dict[str, Any]) -> tuple[SetSwitch, ...]:
    """Put the switches of the framework's release where nothing is given; none where the name is wrong, which is refused.

    Raises CatalogError: the release's file is wrong.
    """
    name = data.get("framework")
    if not isinstance(name, str) or name not in RELEASES:
        return ()
    cluster = data.get("cluster")
    return set_switches(name, data, gpu_of(cluster.get("node")) if isinstance(cluster, dict) else None)


def complete(data: dict[str, Any]) -> None:
    """Fill in defaults that follow from other keys: formats of the recipe, the GPU's stack."""
    cluster = data.get("cluster")
    if data.get("stack") is None and isinstance(cluster, dict):
        data["stack"] = hardware.default_stack_name(cluster)
    precision = data.get("precision")
    recipe = precision.get("recipe", "bf16") if isinstance(precision, dict) else "bf16"
    if isinstance(recipe, str) and recipe in RECIPES:
        rule = RECIPES[recipe]
        _fill(data, CASTS, hardware.default_software(data.get("stack"), rule))
        if not _sends_fp8(data):
            _fill(data, DISPATCH_DTYPE, "bf16")
        for path, value in rule.defaults().items():
            _fill(data, path, value)
    assumptions = data.get("assumptions")
    assumptions = assumptions if isinstance(assumptions, dict) else {}
    for key, value in assumptions.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            assumptions[key] = {"value": value, "low": value, "high": value}
        elif isinstance(value, dict) and set(value) == {"value"}:
            assumptions[key] = {**value, "low": value["value"], "high": value["value"]}


def _sends_fp8(data: dict[str, Any]) -> bool:
    """Whether the dispatcher sends 8 bits; a wrong name is refused later."""
    name = find(data, ("moe", "dispatcher"))
    return not isinstance(name, str) or name not in DISPATCHERS or DISPATCHERS[name].sends_fp8


def _fill(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set a key that is absent or null, unless a parent is no mapping."""
    if find(data, path) is None:
        put(data, path, value)
