"""What the keys of a scenario must be to one another. A rule yields (dotted field, message): both sides, a way out."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping
from typing import get_args

from hwprofiles.problems import show
from hwprofiles.yaml_file import BIDIRECTIONAL
from simulator.scenario import derived
from simulator.scenario.layout import LayoutError
from simulator.scenario.model import AnyAttention, ModelSpec
from simulator.scenario.plan import BatchRamp
from simulator.scenario.scenario import Scenario

FieldProblem = tuple[str, str]

_UNPRINTABLE = frozenset({"Cc", "Cs", "Cf", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that scripts need to be written rightly (zero-width joiners)."""


_MESH = ("parallel.tp", "parallel.cp", "parallel.pp", "cluster.num_gpus", "cluster.node")
_BATCH = ("training.global_batch_size", "training.micro_batch_size", *_MESH)
_INVOLVED: Mapping[str, tuple[str, ...]] = {
    "cluster.num_gpus": _MESH,
    "parallel.pp": ("model", "parallel.vpp", "parallel.schedule"),
    "parallel.ep": ("model", "parallel.etp", *_MESH),
    "parallel.layers_per_stage": ("model", "parallel.pp", "parallel.vpp"),
    "training.global_batch_size": (*_BATCH, "parallel.schedule"),
    "batch_ramp.from": (*_BATCH, "parallel.schedule"),
    "moe.max_nodes_per_token": ("model", "parallel.ep", "cluster.node"),
    "moe.dispatch_dtype": ("precision.recipe",),
    "recompute.saved.swiglu_in": ("precision.recipe",),
    "precision.fp8_weight_cache": ("precision.recipe",),
    "precision.recipe": ("cluster.node",),
    "recompute.modules": ("recompute.granularity", "model"),
    "parallel.overlap.ep": ("parallel.schedule",),
    "parallel.comm_sms": ("cluster.node", "parallel.ep"),
    "prices": ("prices.usd_per_gpu_hour", "prices.sheet"),
    "prices.sheet": ("cluster.node",),
    "prices.usd_per_gpu_hour": ("cluster.node",),
    "stack": ("cluster.node",),
}
"""Field → other keys whose change may have broken its rule: the position named is that of the key given last."""


_OF_ATTENTION = frozenset().union(*(kind.recompute_modules for kind in get_args(AnyAttention)))
"""Modules of recompute that only some kinds of attention have."""

MAX_LAYER_PASSES = 250_000
"""Micro-batches of a pipeline times layers that are simulated: some five million operators, tens of seconds."""


def involved(field: str) -> tuple[str, ...]:
    """The field and the keys that its rule compares it with."""
    name = "batch_ramp.from" if field.endswith(".batch_ramp.from") else field
    return (field, *_INVOLVED.get(name, ()))


def rule_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Every broken rule that needs no hardware catalogue."""
    yield from _name_problems("name", scenario.name)
    for field, message in model_problems(scenario.model):
        yield f"model.{field}", message
    yield from _mesh_problems(scenario)
    yield from _expert_problems(scenario)
    yield from _batch_problems(scenario)
    yield from _precision_problems(scenario)
    yield from _recompute_problems(scenario)
    yield from _phase_problems(scenario)
    yield from _price_problems(scenario)
    for key, override in scenario.assumptions.items():
        if not override.low <= override.value <= override.high:
            yield (
                f"assumptions.{key}",
                f"needs low <= value <= high ({override.low:g}, {override.value:g}, {override.high:g})",
            )


def rule_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """What has no meaning here and is kept all the same."""
    schedule = scenario.parallel.schedule
    if scenario.parallel.overlap.ep == "pair" and not has_pairs(schedule):
        yield "parallel.overlap.ep", f"pair has no meaning in {schedule}: it has no overlapped forward and backward"
    of_others = _OF_ATTENTION - scenario.model.attention.recompute_modules
    for module in sorted(of_others.intersection(scenario.recompute.modules)):
        kind = scenario.model.attention.kind
        yield "recompute.modules", f"{module} has no meaning in a model with attention of kind {kind}"
    if scenario.precision.recipe == "bf16" and scenario.precision.fp8_weight_cache != "none":
        yield "precision.fp8_weight_cache", "has no meaning with recipe bf16"


def has_pairs(schedule: str) -> bool:
    """Whether a schedule overlaps the forward of one micro-batch with the backward of another."""
    return schedule.startswith("dualpipe") or schedule.endswith("_ep_overlap")


def model_problems(model: ModelSpec) -> Iterator[FieldProblem]:
    """Rules among the dimensions of a model."""
    layers, dense, moe = model.num_layers, model.num_dense_layers, model.moe
    yield from _name_problems("name", model.name)
    if dense > layers:
        yield "num_dense_layers", f"{dense} dense layers of num_layers {layers}; allowed 0 to {layers}"
    elif moe is None and dense != layers:
        yield "num_dense_layers", f"{dense} of num_layers {layers}, but moe is null; write {layers}, or give moe"
    elif moe is not None and dense == layers:
        yield "moe", f"is given, but all {layers} layers are dense; leave moe out, or lower num_dense_layers"
    if dense and model.dense_ffn is None:
        yield "dense_ffn", f"is missing; num_dense_layers is {dense}"
    for key, message in model.attention.problems():
        yield f"attention.{key}", message
    if moe is None:
        return
    if moe.top_k > moe.num_routed_experts:
        yield "moe.top_k", f"{moe.top_k} is more than num_routed_experts {moe.num_routed_experts}"
    if moe.num_routed_experts % moe.num_expert_groups:
        yield (
            "moe.num_expert_groups",
            f"{moe.num_expert_groups} does not divide num_routed_experts {moe.num_routed_experts}",
        )
    if moe.max_groups_per_token > moe.num_expert_groups:
        yield (
            "moe.max_groups_per_token",
            f"{moe.max_groups_per_token} is more than num_expert_groups {moe.num_expert_groups}",
        )
    elif moe.top_k <= moe.num_routed_experts < moe.top_k * moe.num_expert_groups / moe.max_groups_per_token:
        yield "moe.top_k", f"{moe.top_k} experts do not fit in max_groups_per_token {moe.max_groups_per_token} groups"


def _name_problems(field: str, name: str) -> Iterator[FieldProblem]:
    for char in name:
        category = unicodedata.category(char)
        if char in BIDIRECTIONAL or (category in _UNPRINTABLE and char not in _JOINERS):
            yield field, f"the character U+{ord(char):04X} is not allowed ({show(name)}); allowed printable characters"
            return
    if not name.strip():
        yield field, "has no visible character"


def _mesh_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    parallel = scenario.parallel
    if sorted(parallel.rank_order.split("-")) != sorted(("tp", "cp", "ep", "dp", "pp")):
        yield "parallel.rank_order", f"needs each of tp, cp, ep, dp, pp once ({show(parallel.rank_order)})"
    try:
        derived.layout(scenario)
    except LayoutError as error:
        stages = derived.num_stages(scenario)
        field = "parallel.pp" if stages > scenario.model.num_layers else "parallel.layers_per_stage"
        yield field, str(error)


def _expert_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    parallel, moe = scenario.parallel, scenario.model.moe
    ranks = parallel.tp * parallel.cp * parallel.pp
    ep, group = parallel.ep * parallel.etp, derived.dp(scenario) * parallel.cp * parallel.tp
    if moe is None:
        if ep > 1:
            yield "parallel.ep", f"ep {parallel.ep}, but model {show(scenario.model.name)} has no experts; use ep: 1"
        return
    if scenario.cluster.num_gpus % ranks == 0 and group % ep:
        yield "parallel.ep", f"ep {ep} does not divide dp {group}; {_degrees(math.gcd(group, moe.num_routed_experts))}"
    elif moe.num_routed_experts % parallel.ep:
        text = f"ep {parallel.ep} does not divide num_routed_experts {moe.num_routed_experts}"
        yield "parallel.ep", f"{text}; {_degrees(math.gcd(group, moe.num_routed_experts))}"


def _batch_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    parallel, training = scenario.parallel, scenario.training
    dp = derived.dp(scenario)
    if dp == 0 or scenario.cluster.num_gpus % (parallel.tp * parallel.cp * parallel.pp):
        return
    unit, batch = dp * training.micro_batch_size, training.global_batch_size
    if batch % unit:
        text = f"{batch} sequences do not divide by dp {dp} * micro_batch_size {training.micro_batch_size}"
        yield "training.global_batch_size", f"{text} = {unit}; {multiples(batch, unit)}"
    elif batch // unit * scenario.model.num_layers > MAX_LAYER_PASSES:
        most = max(1, MAX_LAYER_PASSES // scenario.model.num_layers) * unit
        text = f"{batch} sequences are {batch // unit} micro-batches a pipeline, too many to simulate"
        yield "training.global_batch_size", f"{text}; allowed up to {most}, or more GPUs or a larger micro_batch_size"
    for phase in scenario.phases:
        if phase.batch_ramp is not None:
            yield from _ramp_problems(
                f"phases.{phase.name}.batch_ramp.from", phase.batch_ramp, unit, training.global_batch_size
            )


def _ramp_problems(field: str, ramp: BatchRamp, unit: int, batch: int) -> Iterator[FieldProblem]:
    if ramp.from_ > batch:
        yield field, f"{ramp.from_} is more than training.global_batch_size {batch}"
    elif ramp.from_ % unit:
        yield (
            field,
            f"{ramp.from_} sequences do not divide by dp * micro_batch_size = {unit}; {multiples(ramp.from_, unit)}",
        )


def _precision_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    recipe = scenario.precision.recipe
    if recipe == "bf16" and scenario.moe.dispatch_dtype == "fp8":
        yield "moe.dispatch_dtype", "not modelled yet (fp8 with precision.recipe bf16); use dispatch_dtype: bf16"
    if recipe == "bf16" and scenario.recompute.saved.swiglu_in == "fp8":
        yield "recompute.saved.swiglu_in", "not modelled yet (fp8 with precision.recipe bf16); use swiglu_in: bf16"
    if recipe != "bf16" and scenario.precision.fp8_weight_cache == "none":
        yield "precision.fp8_weight_cache", f"not modelled yet (none with recipe {recipe}); use per_step"


def _recompute_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    recompute = scenario.recompute
    repeated = {module for module in recompute.modules if recompute.modules.count(module) > 1}
    if repeated:
        yield "recompute.modules", f"{min(repeated)} stands there twice"
    if recompute.granularity == "none" and recompute.modules:
        yield "recompute.modules", "are given, but granularity is none; write granularity: selective, or modules: []"
    if recompute.granularity == "selective" and not recompute.modules:
        yield "recompute.modules", "is empty, but granularity is selective; name modules, or write granularity: none"


def _phase_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    seen: set[str] = set()
    for phase in scenario.phases:
        field = f"phases.{phase.name}"
        yield from _name_problems("phases", phase.name)
        if phase.name in seen:
            yield "phases", f"two phases have the name {show(phase.name)}; names are unique"
        seen.add(phase.name)
        if (phase.tokens is None) == (phase.steps is None):
            found = "neither is given" if phase.tokens is None else "both are given"
            yield field, f"needs either tokens or steps; {found}"


def _price_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    prices = scenario.prices
    if prices is not None and (prices.usd_per_gpu_hour is None) == (prices.sheet is None):
        found = "neither is given" if prices.sheet is None else "both are given"
        yield "prices", f"needs either usd_per_gpu_hour or sheet; {found}"


def multiples(value: int, unit: int) -> str:
    """'next valid 15360, 15488': the multiples of `unit` around a value."""
    below = value // unit * unit
    return f"next valid {', '.join(str(number) for number in (below, below + unit) if number)}"


def _degrees(largest: int) -> str:
    """'allowed 1, 2, 4': the divisors of a number."""
    divisors = [number for number in range(1, min(largest, 100_000) + 1) if largest % number == 0]
    return f"allowed {', '.join(map(str, divisors[:20]))}"
