"""A model cut into pipeline stages: the units of each stage with their operators, and what they keep of a micro-batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from simulator.scenario.model import ModelSpec
from simulator.workload.layers.part import PARTS, Part, joined
from simulator.workload.op import StageWorkload, Unit, Workload
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import BlockMemory


def forward_order(codes: Sequence[str]) -> tuple[Part, ...]:
    """The parts of a stage in the order in which they run forward: as written, MTP modules behind the main head."""
    return tuple(sorted((PARTS[code] for code in codes), key=lambda part: part.is_behind_head))


def build_workload(model: ModelSpec, layout: Sequence[Sequence[str]], recipe: Recipe) -> Workload:
    """The workload of one micro-batch.

    layout: per stage the codes of its parts in order: E embedding, d dense layer, m MoE layer, mtp (a module with a pass
    through the head of its own), L output head. The layers are numbered over all stages.
    """
    numbers: Counter[str] = Counter()
    stages = []
    for stage, codes in enumerate(layout):
        parts = forward_order(codes)
        units = _units(model, parts, numbers, recipe)
        counts = [part.params(model) for part in parts]
        dense, expert = sum(p.dense for p in counts), sum(p.expert // recipe.ep for p in counts)
        stages.append(StageWorkload(stage, units, dense, expert))
    return Workload(tuple(stages), 2 * recipe.tokens * model.hidden_size)


def _units(model: ModelSpec, parts: Sequence[Part], numbers: Counter[str], recipe: Recipe) -> tuple[Unit, ...]:
    """The units of a stage; numbers: parts of each series that stand before, counted on."""
    units: list[Unit] = []
    before: Unit | None = None
    for part in parts:
        first, *rest = part.units(model, numbers[part.series], recipe)
        numbers[part.series] += 1
        if before is not None:
            first, before = joined(before, first), None
        if part.joins_next:
            before = first
        else:
            units += [first, *rest]
    assert before is None, "the embedding needs a layer behind it in its stage"
    return tuple(units)


def stage_blocks(model: ModelSpec, codes: Sequence[str], recipe: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """What a stage keeps of one micro-batch: its blocks in forward order."""
    return tuple(block for part in forward_order(codes) for block in part.saved(model, recipe))
