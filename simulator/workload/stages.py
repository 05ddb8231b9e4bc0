"""A model cut into pipeline stages: the units of each stage with their operators, and what they keep of a micro-batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from simulator.scenario.model import ModelSpec
from simulator.workload.casts.gathered import with_weight_casts
from simulator.workload.casts.joint import JointCasts
from simulator.workload.layers.layer import LAYER_INPUT
from simulator.workload.layers.part import PARTS, Part, Shard, joined
from simulator.workload.modules.moesim_memory import with_torch_functions
from simulator.workload.modules.moesim_torch import with_torch_modules
from simulator.workload.op import ParamGroup, StageWorkload, Unit, Workload
from simulator.workload.own_kernels import with_own_kernels
from simulator.workload.plain.memory import plain_blocks
from simulator.workload.plain.units import with_plain_modules
from simulator.workload.plain_norms import with_plain_norms
from simulator.workload.plain_projections import with_separate_projections
from simulator.workload.recipe import Recipe
from simulator.workload.recompute import Checkpoint, checkpoint_groups
from simulator.workload.saved import ActivationRecipe, checkpointed
from simulator.workload.sharded_copies import with_copies
from simulator.workload.tensors import BlockMemory

WHOLE_LAYER: Final = frozenset({"layer"})
"""Recompute of a layer that is computed again whole."""


def forward_order(codes: Sequence[str]) -> tuple[Part, ...]:
    """The parts of a stage in the order in which they run forward: as written, MTP modules behind the main head."""
    return tuple(sorted((PARTS[code] for code in codes), key=lambda part: part.is_behind_head))


def build_workload(model: ModelSpec, layout: Sequence[Sequence[str]], recipe: Recipe) -> Workload:
    """The workload of one micro-batch.

    layout: per stage the codes of its parts in order: E embedding, d dense layer, m MoE layer, mtp (a module with a pass
    through the head of its own), L output head. The layers are numbered over all stages.
    """
    numbers: Counter[str] = Counter()
    shard = Shard(recipe.tp, recipe.etp)
    whole = replace(recipe, recompute=WHOLE_LAYER)

    @cache
    def units_of(part: Part, seen: ModelSpec, is_again: bool, is_bf16: bool = False) -> tuple[Unit, ...]:
        rule = whole if is_again else recipe
        rule = rule.plain() if is_bf16 else rule
        units = _units_of(part, seen, rule)
        if not rule.own_gemms:
            return units
        return tuple(with_own_kernels(unit, streams=not rule.own_modules) for unit in units)

    stages = []
    for stage, codes in enumerate(layout):
        parts = forward_order(codes)
        stays = [is_bf16_layer(model, number, recipe.bf16_layers) for number in _layer_numbers(parts, numbers["layer"])]
        units = _units(model, parts, numbers, units_of, _replays(parts, recipe.checkpoint), stays)
        counts = [part.params(model, shard) for part in parts]
        firsts = first_units(parts, [len(units_of(part, model, False)) for part in parts])
        groups = tuple(ParamGroup(unit, p.dense, p.expert // recipe.ep) for unit, p in zip(firsts, counts, strict=True))
        dense, expert = sum(group.dense for group in groups), sum(group.expert for group in groups)
        units = with_copies(units, groups, recipe.copies)
        stages.append(StageWorkload(stage, units, dense, expert, groups, sum(p.replicated for p in counts)))
    return Workload(tuple(stages), 2 * recipe.sequence_tokens * model.hidden_size, recipe.capacity)


def is_bf16_layer(model: ModelSpec, number: int | None, bf16_layers: tuple[int, int]) -> bool:
    """Whether the layer of that number is one of those at the start or at the end that stay in BF16; None: no layer."""
    first, last = bf16_layers
    return number is not None and (number < first or number >= model.num_layers - last)


def layers_before(layout: Sequence[Sequence[str]]) -> list[int]:
    """Layers of the main model in front of each stage."""
    counts = [sum(PARTS[code].series == "layer" for code in codes) for codes in layout]
    return [sum(counts[:stage]) for stage in range(len(counts))]


def _layer_numbers(parts: Sequence[Part], before: int) -> tuple[int | None, ...]:
    """The number of each part that is a layer of the main model. before: layers of earlier stages."""
    numbers: list[int | None] = []
    for part in parts:
        is_layer = part.series == "layer"
        numbers.append(before if is_layer else None)
        before += is_layer
    return tuple(numbers)


def _units_of(part: Part, model: ModelSpec, recipe: Recipe) -> tuple[Unit, ...]:
    """A part's units, with casts of their weights where GEMMs make them, and modules as their library runs them."""
    units, casts = part.units(model, recipe), recipe.casts
    if recipe.plain_modules:
        units = tuple(with_separate_projections(unit, model, recipe.tp) for unit in units)
        return tuple(with_plain_modules(unit, model, recipe) for unit in units)
    if recipe.splits_norms and model.norm == "rmsnorm":
        units = tuple(with_plain_norms(unit) for unit in units)
    if recipe.splits_projections:
        units = tuple(with_separate_projections(unit, model, recipe.tp) for unit in units)
    if recipe.own_modules:
        return tuple(with_torch_modules(unit, model, recipe) for unit in units)
    if not recipe.casts_weights or not isinstance(casts, JointCasts):
        return units
    return tuple(with_weight_casts(unit, casts) for unit in units)


def _replays(parts: Sequence[Part], checkpoint: Checkpoint | None) -> dict[int, int]:
    """Index of each part that is computed again whole → layers that are before its backward: its group's, or 0."""
    groups = checkpoint_groups(parts, checkpoint)
    return {idx: len(group) if idx == group[-1] else 0 for group in groups for idx in group}


def first_units(parts: Sequence[Part], num_units: Sequence[int]) -> tuple[int, ...]:
    """Index of each part's first unit in its stage; a part that joins the next one shares that one's.

    num_units: of every part.
    """
    starts, count = [], 0
    for part, number in zip(parts, num_units, strict=True):
        starts.append(count)
        count += 0 if part.joins_next else number
    return tuple(starts)


def _units(
    model: ModelSpec, parts: Sequence[Part], numbers: Counter[str],
    units_of: Callable[[Part, ModelSpec, bool, bool], tuple[Unit, ...]], replays: Mapping[int, int], stays: Sequence[bool],
) -> tuple[Unit, ...]:  # fmt: skip
    """The units of a stage; numbers: parts of each series that stand before, counted on. replays: as of _replays. stays: which
    parts stay in BF16.

    An MTP module has the attention of the layer that would follow the last.
    """
    units: list[Unit] = []
    before: Unit | None = None
    for idx, part in enumerate(parts):
        seen = model.at_layer(numbers[part.series] + (model.num_layers if part.is_behind_head else 0))
        first, *rest = (
            _numbered(unit, part.series, numbers) for unit in units_of(part, seen, idx in replays, stays[idx])
        )
        first = replace(first, replays=replays.get(idx, 1))
        numbers[part.series] += 1
        if before is not None:
            first, before = joined(before, first), None
        if part.joins_next:
            before = first
        else:
            units += [first, *rest]
    return tuple(units) if before is None else (*units, before)


def _numbered(unit: Unit, series: str, numbers: Counter[str]) -> Unit:
    return replace(unit, name=f"{unit.name}_{numbers[series]}") if series else unit


def _is_behind_a_head(parts: Sequence[Part], idx: int) -> bool:
    """Whether a part takes the hidden state that the part in front of it on the stage keeps for a head."""
    before = parts[idx - 1] if idx and parts[idx].is_behind_head else None
    return before is not None and (before.is_behind_head or before is PARTS["L"])


@dataclass(frozen=True, slots=True)
class PartBlocks:
    """The blocks of parts first to last of a stage, several where they are recomputed together. is_layer: of the main model."""

    first: int
    last: int
    is_layer: bool
    blocks: tuple[BlockMemory, ...]


def stage_blocks(
    model: ModelSpec, codes: Sequence[str], recipe: ActivationRecipe, before: int = 0
) -> tuple[BlockMemory, ...]:
    """What a stage keeps of one micro-batch: its blocks in forward order. before: layers of earlier stages."""
    return tuple(block for part in stage_parts(model, codes, recipe, before) for block in part.blocks)


def stage_parts(
    model: ModelSpec, codes: Sequence[str], recipe: ActivationRecipe, before: int = 0
) -> tuple[PartBlocks, ...]:
    """`stage_blocks`, by part."""
    parts = forward_order(codes)
    stays = [is_bf16_layer(model, number, recipe.bf16_layers) for number in _layer_numbers(parts, before)]
    groups = checkpoint_groups(parts, recipe.checkpoint)
    group_of = {idx: group for group in groups for idx in group}
    whole, found = replace(recipe, recompute=WHOLE_LAYER), list[PartBlocks]()
    for idx, part in enumerate(parts):
        group, is_layer = group_of.get(idx, ()), part.series == "layer"
        if len(group) <= 1:
            rule = whole if group else recipe
            rule = rule.plain() if stays[idx] else rule
            blocks = tuple(_saved(part, model, replace(rule, has_hidden=_is_behind_a_head(parts, idx))))
            found.append(PartBlocks(idx, idx, is_layer, blocks))
        elif idx == group[0]:
            rules = {i: recipe.plain() if stays[i] else recipe for i in group}
            blocks = checkpointed([each for i in group for each in _saved(parts[i], model, rules[i])], LAYER_INPUT)
            found.append(PartBlocks(idx, group[-1], is_layer, blocks))
    return tuple(found)


def _saved(part: Part, model: ModelSpec, recipe: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """What a part's blocks keep, by its kernels or by the functions of plain torch that its modules are."""
    if recipe.plain_modules:
        return plain_blocks(next(code for code in PARTS if PARTS[code] is part), model, recipe)
    blocks = part.saved(model, recipe)
    return with_torch_functions(blocks, model, recipe) if recipe.own_modules else blocks
