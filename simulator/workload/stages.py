"""A model cut into pipeline stages: the units of each stage with their operators, and what they keep of a micro-batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

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
    units_of = cache(lambda part: part.units(model, recipe))
    stages = []
    for stage, codes in enumerate(layout):
        parts = forward_order(codes)
        units = _units(parts, numbers, units_of)
        counts = [part.params(model) for part in parts]
        dense, expert = sum(p.dense for p in counts), sum(p.expert // recipe.ep for p in counts)
        stages.append(StageWorkload(stage, units, dense, expert))
    return Workload(tuple(stages), 2 * recipe.tokens * model.hidden_size)


def _units(
    parts: Sequence[Part], numbers: Counter[str], units_of: Callable[[Part], tuple[Unit, ...]]
) -> tuple[Unit, ...]:
    """The units of a stage; numbers: parts of each series that stand before, counted on."""
    units: list[Unit] = []
    before: Unit | None = None
    for part in parts:
        first, *rest = (_numbered(unit, part.series, numbers) for unit in units_of(part))
        numbers[part.series] += 1
        if before is not None:
            first, before = joined(before, first), None
        if part.joins_next:
            before = first
        else:
            units += [first, *rest]
    assert before is None, "the embedding needs a layer behind it in its stage"
    return tuple(units)


def _numbered(unit: Unit, series: str, numbers: Counter[str]) -> Unit:
    return replace(unit, name=f"{unit.name}_{numbers[series]}") if series else unit


def stage_blocks(model: ModelSpec, codes: Sequence[str], recipe: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """What a stage keeps of one micro-batch: its blocks in forward order."""
    return tuple(block for part in forward_order(codes) for block in part.saved(model, recipe))
