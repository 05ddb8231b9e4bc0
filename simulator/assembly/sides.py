"""The halves of an action: the units that each goes through, and the collectives beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from simulator.assembly.chunks import Copy, StageCost, UnitCost
from simulator.assembly.collectives import ActionCollectives, PassCollectives, side_by_side
from simulator.assembly.meeting import of_lone_backward, of_pair, of_shared_experts, with_shares
from simulator.assembly.pairing import Pairing
from simulator.schedule.action import Kind


@dataclass(frozen=True, slots=True)
class Side:
    """A half of an action in a stage: its units in forward order and its collectives, as they run beside one another; copies:
    to the host behind its units, or from it before them.
    """

    stage: int
    units: tuple[UnitCost, ...]
    plan: PassCollectives
    copies: tuple[Copy, ...] = ()


def sides_of(
    kind: Kind, stage: StageCost, b_stage: StageCost | None, collectives: ActionCollectives, pairing: Pairing
) -> Mapping[str, Side]:
    """ "F" and "B", those that an action has; W alone counts as a backward. b_stage: of an FB's backward half."""
    found: dict[str, Side] = {}
    if kind in ("F", "FB"):
        units, plan = side_by_side(stage.units, collectives.forward, is_forward=True)
        found["F"] = Side(stage.stage, units, plan, stage.copies.out)
    source = b_stage if kind == "FB" else stage
    if kind != "F" and source is not None:
        units = tuple(unit.of_lone_input_gradient() for unit in source.units) if kind == "I" else source.units
        units, plan = side_by_side(units, collectives.backward, is_forward=False)
        found["B"] = Side(source.stage, units, plan, () if kind == "W" else source.copies.back)
    if kind == "FB" and pairing.beside and pairing.by_layer:
        shares = of_pair(found["F"].units, found["B"].units, waits=pairing.waits_for_kernels)
        return {half: replace(side, units=with_shares(side.units, shares)) for half, side in found.items()}
    if kind == "B" and pairing.delays_lone_weights:
        found["B"] = replace(found["B"], units=with_shares(found["B"].units, of_lone_backward(found["B"].units)))
    for half, side in found.items():
        if kind != "W" and any(("shared_f_up", "overlapped") in unit.blocks for unit in side.units):
            shares = of_shared_experts(side.units, is_forward=half == "F", has_weights=kind != "I")
            found[half] = replace(side, units=with_shares(side.units, shares))
    return found
