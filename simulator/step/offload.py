"""Copies of activations to the host and back in a stage's passes, and the update of optimizer state on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simulator.assembly.chunks import Copies, Copy, Segment, StageCost
from simulator.assembly.unit_costs import add_segments, message_segment
from simulator.costs.host import Host, copy_cost, update_s
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.workload.memory import MemoryAssumptions, activation_recipe
from simulator.workload.offload import Moved, Offloaded, offloaded
from simulator.workload.op import Op, Workload
from simulator.workload.saved import ActivationRecipe
from simulator.workload.stages import layers_before, stage_parts

OFFLOAD = "offload"


def offloaded_stages(scenario: Scenario, recipe: ActivationRecipe) -> list[Offloaded]:
    """What every stage keeps of a micro-batch on the GPU and on the host."""
    layout, model, plan = derived.layout(scenario), derived.padded_model(scenario), scenario.offload
    before = layers_before(layout) if any(recipe.bf16_layers) else [0] * len(layout)
    keys = list(zip(layout, before, strict=True))
    found = {
        key: offloaded(stage_parts(model, key[0], recipe, key[1]), plan.activations, plan.activation_layers)
        for key in keys
    }
    return [found[key] for key in keys]


def with_copies(
    stages: Sequence[StageCost], scenario: Scenario, workload: Workload, host: Host | None, assumed: MemoryAssumptions
) -> tuple[StageCost, ...]:
    """The stages with their copies, of evenly loaded experts."""
    if host is None or not scenario.offload.activations or not scenario.mechanisms.offload_time:
        return tuple(stages)
    even = replace(assumed, expert_rows_frac=1.0, expert_rows_peak_frac=1.0)
    recipe = activation_recipe(scenario, even, capacity=workload.capacity)
    segments: dict[tuple[str, int], Segment] = {}

    def copy(what: str, unit: int, num_bytes: int) -> Copy:
        key = what, num_bytes
        if key not in segments:
            segments[key] = message_segment(what, copy_cost(num_bytes, host), OFFLOAD)
        return Copy(unit, segments[key])

    found = []
    of_stage = _moved(scenario, recipe)
    for stage, counted in zip(stages, workload.stages, strict=True):
        moved = of_stage[counted.layout_stage]
        units = [group.unit for group in counted.groups]
        out = tuple(copy("activations_to_host", units[each.first], each.num_bytes) for each in moved)
        back = tuple(copy("activations_from_host", units[each.last], each.num_bytes) for each in moved[::-1])
        found.append(replace(stage, copies=Copies(out, back)))
    return tuple(found)


def _moved(scenario: Scenario, recipe: ActivationRecipe) -> list[tuple[Moved, ...]]:
    return [stage.moved for stage in offloaded_stages(scenario, recipe)]


def host_update(update: Op, gradient_bytes: int, weight_bytes: int, host: Host, *, overlap: bool) -> Segment:
    """Gradients to the host, its update, weights back: one behind the other, or all at once, the longest the time of all.

    update: the optimizer's kernel on the host's share: its bytes pass the host's memory.
    """
    parts = [
        message_segment("gradients_to_host", copy_cost(gradient_bytes, host), OFFLOAD),
        _on_host(update_s(update.bytes_read + update.bytes_written, host)),
        message_segment("weights_from_host", copy_cost(weight_bytes, host), OFFLOAD),
    ]
    whole = add_segments(parts)
    return lasting(whole, max(part.seconds for part in parts)) if overlap else whole


def _on_host(seconds: float) -> Segment:
    return Segment(seconds, seconds, seconds, {OFFLOAD: seconds}, {"assumed": seconds})


def lasting(segment: Segment, seconds: float) -> Segment:
    """A segment of offload of which only so many seconds count, beside something else."""
    return replace(
        segment, seconds=seconds, low=seconds, high=seconds,
        by_category={OFFLOAD: seconds} if seconds else {}, by_basis={"assumed": seconds} if seconds else {},
    )  # fmt: skip
