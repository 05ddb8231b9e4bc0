"""What the keys of a scenario must be to one another. A rule yields (dotted field, message): both sides, a way out."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from typing import get_args

from hwprofiles.problems import show
from hwprofiles.yaml_file import BIDIRECTIONAL
from simulator.scenario import derived
from simulator.scenario.context_rules import context_problems, context_warnings
from simulator.scenario.dispatch_rules import dispatcher_warnings
from simulator.scenario.dispatchers import DEFAULT as DISPATCHER
from simulator.scenario.host_rules import host_problems, host_warnings
from simulator.scenario.layer_pattern import parse_period
from simulator.scenario.layout import LayoutError
from simulator.scenario.model import AnyAttention, ModelSpec
from simulator.scenario.module_rules import module_problems, module_warnings
from simulator.scenario.muon_rules import muon_problems, muon_warnings
from simulator.scenario.offload import offload_warnings
from simulator.scenario.packing_rules import packing_problems, packing_warnings
from simulator.scenario.phase import BatchRamp
from simulator.scenario.phase_kinds import kind_problems
from simulator.scenario.scenario import Scenario
from simulator.scenario.sharing_rules import sharing_problems, sharing_warnings
from simulator.scenario.tensor_rules import tensor_problems
from simulator.scenario.wording import FieldProblem, allowed, divisors, multiples

_UNPRINTABLE = frozenset({"Cc", "Cs", "Cf", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that scripts need to be written rightly (zero-width joiners)."""


_OF_ATTENTION = frozenset().union(*(kind.recompute_modules for kind in get_args(AnyAttention)))
"""Modules of recompute that only some kinds of attention have."""

MAX_CHUNKS = 256
"""Chunks in which the logits of a micro-batch are computed."""
MAX_LAYER_PASSES = 250_000
"""Micro-batches of a pipeline times layers that are simulated: some five million operators, tens of seconds."""


def rule_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Every broken rule that needs no hardware catalogue."""
    yield from _name_problems("name", scenario.name)
    for field, message in model_problems(scenario.model):
        yield f"model.{field}", message
    for key, message in scenario.model.attention.problems_with(scenario.training.seq_len):
        yield f"model.attention.{key}", message
    positions, seq_len = scenario.model.learned_positions, scenario.training.seq_len
    if 0 < positions < seq_len:
        text = f"{positions} positions for sequences of {seq_len}"
        yield "model.learned_positions", f"{text}; allowed at least {seq_len}, or 0 where none are learned"
    yield from _mesh_problems(scenario)
    yield from _expert_problems(scenario)
    yield from _capacity_problems(scenario)
    yield from _batch_problems(scenario)
    yield from sharing_problems(scenario)
    yield from muon_problems(scenario)
    yield from _precision_problems(scenario)
    yield from _recompute_problems(scenario)
    yield from _phase_problems(scenario)
    yield from _price_problems(scenario)
    yield from tensor_problems(scenario)
    yield from context_problems(scenario)
    yield from _chunk_problems(scenario)
    yield from packing_problems(scenario)
    yield from host_problems(scenario)
    yield from module_problems(scenario)
    for key, override in scenario.assumptions.items():
        if not override.low <= override.value <= override.high:
            yield (
                f"assumptions.{key}",
                f"needs low <= value <= high ({override.low:g}, {override.value:g}, {override.high:g})",
            )


def rule_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """What has no meaning here and is kept all the same."""
    yield from sharing_warnings(scenario)
    yield from muon_warnings(scenario)
    yield from context_warnings(scenario)
    yield from offload_warnings(scenario.offload, _most_layers(scenario))
    yield from packing_warnings(scenario)
    yield from host_warnings(scenario)
    yield from module_warnings(scenario)
    of_others = _OF_ATTENTION - scenario.model.attention.recompute_modules
    for module in sorted(of_others.intersection(scenario.recompute.modules)):
        kind = scenario.model.attention.kind
        yield "recompute.modules", f"{module} has no meaning in a model with attention of kind {kind}"
    yield from _recompute_warnings(scenario)
    yield from _dense_warnings(scenario)
    yield from dispatcher_warnings(scenario)
    if scenario.moe.drop == "position":
        yield (
            "moe.drop",
            "position drops as many rows as probs, whose time and memory are the same; loss is not modelled",
        )
    yield from _precision_warnings(scenario)
    if scenario.parallel.pipeline_buffers != "in_flight" and scenario.parallel.pp == 1:
        yield "parallel.pipeline_buffers", "has no meaning with pp 1: nothing is sent between stages"
    if scenario.head.logits != "sharded" and scenario.parallel.tp == 1:
        yield "head.logits", "has no meaning with tp 1: every GPU has all logits"
    if scenario.parallel.sequence_parallel and scenario.parallel.tp == 1:
        yield "parallel.sequence_parallel", "has no meaning with tp 1: no GPUs share a sequence"
    if scenario.parallel.overlap.tp == "chunked" and scenario.parallel.tp == 1:
        yield "parallel.overlap.tp", "chunked has no meaning with tp 1: nothing is gathered around the GEMMs"
    if not scenario.is_given("phases"):
        yield "phases", "are not given: the run is a single step; write phases: [{name: pretrain, tokens: 1e12}]"


def _dense_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Keys of experts that somebody gives a model without any; what a framework's release sets is not said of it."""
    if scenario.model.moe is not None:
        return
    text = f"has no meaning: model {show(scenario.model.name)} has no experts"
    if scenario.moe.capacity_factor is not None:
        yield "moe.capacity_factor", text
    others = ("combine_dtype", "bf16"), ("dispatcher", DISPATCHER), ("permute_fusion", True), ("expert_fusion", True)
    for key, usual in (("row_padding", None), ("router_fusion", None), ("pad_copies", None), *others):
        if getattr(scenario.moe, key) != usual and scenario.is_given(f"moe.{key}"):
            yield f"moe.{key}", text
    if scenario.kernels.grouped_gemm is not None and scenario.is_given("kernels.grouped_gemm"):
        yield "kernels.grouped_gemm", text
    is_cast = derived.recipe(scenario).is_quantised
    if scenario.kernels.casts is not None and scenario.is_given("kernels.casts") and not is_cast:
        yield "kernels.casts", f"{text}, and recipe {scenario.precision.recipe} casts nothing"


def _recompute_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Modules that are not in the model or inside another one, and keys of granularity full without it."""
    model, recompute, modules = scenario.model, scenario.recompute, set(scenario.recompute.modules)
    experts = "no shared experts" if model.moe is not None else "no experts"
    absent = {
        "mlp": "" if model.has_dense_layers else "no dense layers",
        "moe": "" if model.moe is not None else "no experts",
        "experts": "" if model.moe is not None else "no experts",
        "shared_expert": "" if model.moe is not None and model.moe.num_shared_experts else experts,
    }
    inside = {
        "shared_expert": "moe" if "moe" in modules else "",
        "experts": "moe" if "moe" in modules else "",
        "swiglu": "mlp and moe" if {"mlp", "moe"} <= modules else "",
    }
    for module in sorted(modules):
        if "layer" in modules and module != "layer":
            yield "recompute.modules", f"{module} has no meaning beside layer, which recomputes every operator"
        elif absent.get(module):
            yield "recompute.modules", f"{module} has no meaning: model {show(model.name)} has {absent[module]}"
        elif inside.get(module):
            yield "recompute.modules", f"{module} has no meaning beside {inside[module]}, of which it is a part"
    if recompute.granularity == "full":
        most = _most_layers(scenario)
        if recompute.num_layers is not None and recompute.num_layers > most:
            text = f"{recompute.num_layers} is more than the {most} layers of a stage, and acts as {most}"
            yield "recompute.num_layers", text
        return
    for key, is_set in (("method", recompute.method == "block"), ("num_layers", recompute.num_layers is not None)):
        if is_set:
            yield f"recompute.{key}", f"has no meaning with granularity {recompute.granularity}; it acts with full"


def _most_layers(scenario: Scenario) -> int:
    """Layers of the stage with the most."""
    return max(sum(code in ("d", "m") for code in stage) for stage in derived.layout(scenario))


def model_problems(model: ModelSpec) -> Iterator[FieldProblem]:
    """Rules among the dimensions of a model."""
    layers, dense, moe = model.num_layers, model.num_dense_layers, model.moe
    yield from _name_problems("name", model.name)
    if dense > layers:
        yield "num_dense_layers", f"{dense} dense layers of num_layers {layers}; allowed 0 to {layers}"
    elif moe is None and dense != layers and model.layer_pattern is None:
        yield "num_dense_layers", f"{dense} of num_layers {layers}, but moe is null; write {layers}, or give moe"
    elif moe is not None and dense == layers:
        yield "moe", f"is given, but all {layers} layers are dense; leave moe out, or lower num_dense_layers"
    period = len(parse_period(model.layer_pattern, "dm")) if model.layer_pattern else 0
    if period and moe is None:
        yield "layer_pattern", "is given, but moe is null; give moe, or leave the pattern out"
    elif period > layers - dense >= 0:
        text = f"has a period of {period} layers, of which there are {layers - dense} behind num_dense_layers {dense}"
        yield "layer_pattern", f"{text}; shorten it, or leave it out"
    if (dense or period) and model.dense_ffn is None:
        yield "dense_ffn", f"is missing; {'layer_pattern has d' if period else f'num_dense_layers is {dense}'}"
    for key, message in model.attention.problems():
        yield f"attention.{key}", message
    if model.parallel_block and moe is not None:
        yield (
            "parallel_block",
            "is of dense models, whose FFN can read attention's input; leave it out, or leave moe out",
        )
    if moe is None:
        return
    if moe.top_k > moe.num_routed_experts:
        yield "moe.top_k", f"top_k {moe.top_k} is more than num_routed_experts {moe.num_routed_experts}"
    if moe.clamp is not None and moe.num_up == 1:
        yield "moe.clamp", f"is {moe.clamp:g}, and {moe.activation} has no gate; leave it out, or use swiglu or geglu"
    if moe.num_routed_experts % moe.num_expert_groups:
        text = f"num_expert_groups {moe.num_expert_groups} does not divide num_routed_experts {moe.num_routed_experts}"
        yield "moe.num_expert_groups", f"{text}; {multiples(moe.num_routed_experts, moe.num_expert_groups)} experts"
    if moe.max_groups_per_token > moe.num_expert_groups:
        yield (
            "moe.max_groups_per_token",
            f"max_groups_per_token {moe.max_groups_per_token} is more than num_expert_groups {moe.num_expert_groups}",
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
    layers, pp, vpp = scenario.model.num_layers, scenario.parallel.pp, scenario.parallel.vpp
    if pp * vpp > layers and scenario.parallel.layers_per_stage is None:
        product = str(pp) if vpp == 1 else f"pp {pp} * vpp {vpp} = {pp * vpp}"
        axis, most = ("vpp", layers // pp) if pp <= layers else ("pp", layers // vpp or layers)
        other = f", or pp up to {layers // vpp}" if axis == "vpp" and layers >= vpp else ""
        yield f"parallel.{axis}", f"{product} pipeline stages for {layers} layers; allowed {axis} up to {most}{other}"
        return
    try:
        derived.layout(scenario)
    except LayoutError as error:
        yield "parallel.layers_per_stage", str(error)


def _expert_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    moe, ep = scenario.model.moe, scenario.parallel.ep
    stage_ranks = derived.stage_ranks(scenario)
    if moe is None:
        if ep > 1:
            yield "parallel.ep", f"ep {ep}, but model {show(scenario.model.name)} has no experts; use ep: 1"
        return
    if moe.num_routed_experts % ep and (not derived.is_mesh_whole(scenario) or stage_ranks % ep == 0):
        text = f"ep {ep} does not divide num_routed_experts {moe.num_routed_experts}"
        yield "parallel.ep", f"{text}; {allowed(divisors(math.gcd(stage_ranks, moe.num_routed_experts)))}"


def _capacity_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """A capacity and what happens beyond it come together, as Megatron-LM's moe_expert_capacity_factor and its drop policy."""
    factor, drop = scenario.moe.capacity_factor, scenario.moe.drop
    if factor is None and drop != "none":
        yield "moe.drop", f"{drop}, but there is no capacity_factor; give one, or write drop: none"
    elif factor is None and scenario.moe.pad_to_capacity:
        yield (
            "moe.pad_to_capacity",
            "true, but there is no capacity_factor; give one with drop, or write false",
        )
    elif factor is not None and drop == "none":
        text = f"{factor:g}, but drop is none: no row is dropped"
        yield "moe.capacity_factor", f"{text}; write drop: probs (or position), or capacity_factor: null"


def _batch_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Batches that are too large, and the first batch of a ramp. (check.py asks for whole micro-batches.)"""
    training, dp = scenario.training, derived.dp(scenario)
    if not derived.is_mesh_whole(scenario):
        return
    unit, batch = dp * training.micro_batch_size, training.global_batch_size
    if batch % unit == 0 and batch // unit * scenario.model.num_layers > MAX_LAYER_PASSES:
        most = max(1, MAX_LAYER_PASSES // scenario.model.num_layers) * unit
        text = f"{batch} sequences are {batch // unit} micro-batches a pipeline, too many to simulate"
        yield "training.global_batch_size", f"{text}; allowed up to {most}, or more GPUs or a larger micro_batch_size"
    for phase in scenario.phases:
        if phase.batch_ramp is not None and not phase.changes:
            yield from _ramp_problems(
                f"phases.{phase.name}.batch_ramp.from", phase.batch_ramp, unit, training.global_batch_size
            )


def _ramp_problems(field: str, ramp: BatchRamp, unit: int, batch: int) -> Iterator[FieldProblem]:
    if ramp.from_ > batch:
        text = f"{ramp.from_} is more than training.global_batch_size {batch}"
        yield field, f"{text}; lower it, or write batch_ramp: null"
    elif ramp.from_ % unit:
        yield (
            field,
            f"{ramp.from_} sequences do not divide by dp * micro_batch_size = {unit}; {multiples(ramp.from_, unit)}",
        )


def _precision_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    recipe, is_quantised = scenario.precision.recipe, derived.recipe(scenario).is_quantised
    if not is_quantised and scenario.moe.dispatch_dtype == "fp8":
        yield "moe.dispatch_dtype", f"not modelled yet (fp8 with precision.recipe {recipe}); use dispatch_dtype: bf16"
    if not is_quantised and scenario.moe.combine_dtype == "fp8":
        yield "moe.combine_dtype", f"fp8, but precision.recipe {recipe} has no 8-bit format; use combine_dtype: bf16"
    if not is_quantised and scenario.recompute.saved.swiglu_in == "fp8":
        yield "recompute.saved.swiglu_in", f"not modelled yet (fp8 with precision.recipe {recipe}); use swiglu_in: bf16"
    if is_quantised and scenario.precision.fp8_weight_cache == "none":
        yield "precision.fp8_weight_cache", f"not modelled yet (none with recipe {recipe}); use per_step"
    first, last, layers = (
        scenario.precision.bf16_first_layers,
        scenario.precision.bf16_last_layers,
        scenario.model.num_layers,
    )
    if first + last > layers:
        text = f"{first} layers at the start and {last} at the end of {layers}; allowed up to {layers} together"
        yield "precision.bf16_first_layers", text
    casts, able = scenario.kernels.casts, derived.recipe(scenario).software
    if casts is not None and casts not in able:
        yield "kernels.casts", f"{casts} has no kernels for recipe {recipe}; use {' or '.join(able)}"


def _precision_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    precision, rule = scenario.precision, derived.recipe(scenario)
    text = f"has no meaning with recipe {precision.recipe}"
    if not rule.is_quantised and precision.fp8_weight_cache != "none":
        yield "precision.fp8_weight_cache", text
    for key in ("bf16_first_layers", "bf16_last_layers"):
        if not rule.is_quantised and getattr(precision, key):
            yield f"precision.{key}", text
    if not rule.is_quantised and precision.primary_weights != "bf16":
        yield "precision.primary_weights", text
    if not rule.scalings and precision.scaling is not None:
        yield "precision.scaling", f"{text}, whose scales are not of whole tensors"


def _recompute_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    recompute = scenario.recompute
    repeated = {module for module in recompute.modules if recompute.modules.count(module) > 1}
    if repeated:
        yield "recompute.modules", f"{min(repeated)} stands there twice"
    if recompute.granularity == "none" and recompute.modules:
        yield "recompute.modules", "are given, but granularity is none; write granularity: selective, or modules: []"
    if recompute.granularity == "selective" and not recompute.modules:
        yield "recompute.modules", "is empty, but granularity is selective; name modules, or write granularity: none"
    model = scenario.model
    if "gemms" in recompute.modules and (
        model.moe is not None or model.attention.kind != "gqa" or model.parallel_block
    ):
        text = "not modelled yet (gemms in a model with experts, latent attention or a parallel block)"
        yield "recompute.modules", f"{text}; use other modules, or granularity: full"
    if recompute.granularity == "full" and recompute.modules:
        yield (
            "recompute.modules",
            "are given, but full recomputes every operator; write granularity: selective, or modules: []",
        )
    if recompute.method == "block" and recompute.granularity == "full" and recompute.num_layers is None:
        yield "recompute.num_layers", "is missing; method block recomputes the first num_layers layers of each stage"


def _phase_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    seen: set[str] = set()
    for phase in scenario.phases:
        field = f"phases.{phase.name}"
        yield from _name_problems("phases", phase.name)
        if phase.name in seen:
            yield "phases", f"two phases have the name {show(phase.name)}; names are unique"
        seen.add(phase.name)
        for key, message in kind_problems(
            phase, tokens=phase.tokens, steps=phase.steps, has_ramp=phase.batch_ramp is not None
        ):
            yield f"{field}.{key}", message
        if phase.kind == "pretrain" and (phase.tokens is None) == (phase.steps is None):
            found = "neither is given" if phase.tokens is None else "both are given"
            yield field, f"needs either tokens or steps; {found}"


def _chunk_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Chunks of logits that are too many to simulate one by one."""
    chunk, training = scenario.head.chunk_tokens, scenario.training
    tokens = training.micro_batch_size * training.seq_len // scenario.parallel.cp
    if chunk is not None and tokens > MAX_CHUNKS * chunk:
        text = f"{chunk} are {-(-tokens // chunk):,} chunks of the {tokens:,} tokens of a GPU's micro-batch"
        yield "head.chunk_tokens", f"{text}; allowed at least {-(-tokens // MAX_CHUNKS)}, or null"


def _price_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    prices = scenario.prices
    if prices is None:
        return
    for key, value in prices.wanted.given.items() if prices.sheet is None else ():
        instead = "leave it out" if prices.usd_per_gpu_hour is None else "leave it or prices.usd_per_gpu_hour out"
        text = f"{show(value)} chooses among the offers of a sheet, and no prices.sheet is given"
        yield f"prices.{key}", f"{text}; name one of `moesim list prices`, or {instead}"
    if (prices.usd_per_gpu_hour is None) == (prices.sheet is None):
        found = "neither is given" if prices.sheet is None else "both are given"
        yield "prices", f"needs either usd_per_gpu_hour or sheet; {found}"
