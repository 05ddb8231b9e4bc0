"""Quantities that follow from a scenario by arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from simulator.scenario.dispatchers import DISPATCHERS, DispatcherRule
from simulator.scenario.layout import Layout, default_layer_counts, stage_layout
from simulator.scenario.model import ModelSpec
from simulator.scenario.recipes import RECIPES, RecipeRule
from simulator.scenario.scenario import Scenario
from simulator.scenario.software import SOFTWARE, Software

SEPARATE_ROW_PADDING: Final = 128
"""The row tile of the first grouped FP8 GEMMs and of the dispatch that fed them (DeepGEMM, DeepEP)."""


def degrees(scenario: Scenario) -> dict[str, int]:
    """Axis → its degree, as network.placement.Mesh takes them beside the number of GPUs."""
    plan = scenario.parallel
    return {"tp": plan.tp, "cp": plan.cp, "pp": plan.pp, "ep": plan.ep, "etp": plan.etp}


def dp(scenario: Scenario) -> int:
    """Data-parallel degree: GPUs over tp * cp * pp, which have sequences of their own."""
    return scenario.cluster.num_gpus // pipeline_gpus(scenario)


def pipeline_gpus(scenario: Scenario) -> int:
    """GPUs of one pipeline: tp * cp * pp."""
    return scenario.parallel.tp * scenario.parallel.cp * scenario.parallel.pp


def dense_holders(scenario: Scenario) -> int:
    """GPUs of a stage with the same dense parameters: dp * cp."""
    return dp(scenario) * scenario.parallel.cp


def sharing_tokens(scenario: Scenario) -> int:
    """GPUs that share the tokens of a sequence outside the tensor-parallel GEMMs: cp, with sequence parallelism tp * cp."""
    return scenario.parallel.cp * (scenario.parallel.tp if scenario.parallel.sequence_parallel else 1)


def micro_batch_tokens(scenario: Scenario) -> int:
    """Tokens of a micro-batch that pass a GPU's share of the GEMMs."""
    return scenario.training.micro_batch_size * scenario.training.seq_len // scenario.parallel.cp


def stage_ranks(scenario: Scenario) -> int:
    """GPUs of a pipeline rank: tp * cp * dp, over which its layers and their replicas are spread."""
    return dense_holders(scenario) * scenario.parallel.tp


def unbroken_ranks(scenario: Scenario) -> int:
    """Consecutive ranks that should not be parted: least common multiple of the attention's and the experts' groups."""
    return math.lcm(scenario.parallel.tp * scenario.parallel.cp, expert_ranks(scenario))


def edp(scenario: Scenario) -> int:
    """Replicas of a routed expert: the ranks of a stage over ep * etp."""
    return stage_ranks(scenario) // expert_ranks(scenario)


def casts_weights_each_use(scenario: Scenario) -> bool:
    """Whether GEMMs cast the weights that they read, because FSDP gathers them anew; else they are cast once a step."""
    return scenario.parallel.zero_stage == 3 and recipe(scenario).is_quantised and has_several_holders(scenario)


def has_several_holders(scenario: Scenario) -> bool:
    """Whether some parameters stand on several ranks of a stage: dense ones, or, where tp is wider than ep * etp, experts."""
    return dense_holders(scenario) > 1 or (scenario.model.moe is not None and edp(scenario) > 1)


def sharing_ranks(scenario: Scenario) -> int:
    """Ranks that share the state of a dense parameter: all that hold it, or those of a shard group (HSDP)."""
    return scenario.data_parallel.hsdp_group or dense_holders(scenario)


def expert_sharing_ranks(scenario: Scenario) -> int:
    """Ranks that share the state of a routed expert."""
    return edp(scenario) * sharing_ranks(scenario) // dense_holders(scenario)


def expert_ranks(scenario: Scenario) -> int:
    """GPUs of an expert group, which hold each routed expert once: ep * etp."""
    return scenario.parallel.ep * scenario.parallel.etp


def expert_group_sequences(scenario: Scenario) -> tuple[int, int]:
    """(sequences, tokens of each) that the ranks of an expert group dispatch together in a micro-batch.

    Of its ranks cp (under sequence parallelism tp * cp) share the sequences of one; a smaller group has a part of them.
    """
    training, group = scenario.training, expert_ranks(scenario)
    sharing = sharing_tokens(scenario)
    sequences = max(1, group * training.micro_batch_size // sharing)
    return sequences, max(1, group * training.micro_batch_size * training.seq_len // sharing // sequences)


def useful_tokens(scenario: Scenario) -> int:
    """Tokens of a sequence that are no padding."""
    training = scenario.training
    return max(1, round(training.seq_len * (1.0 - training.padding_fraction)))


def is_mesh_whole(scenario: Scenario) -> bool:
    """Whether the GPUs are a whole number of pipelines of stages tp * cp wide."""
    return scenario.cluster.num_gpus % pipeline_gpus(scenario) == 0


def padded_model(scenario: Scenario) -> ModelSpec:
    """The model, its vocabulary padded as the head pads it: each of the tp parts to a multiple."""
    model, pad = scenario.model, scenario.head.vocab_padding * scenario.parallel.tp
    return model.model_copy(update={"vocab_size": -(-model.vocab_size // pad) * pad})


def num_stages(scenario: Scenario) -> int:
    """Pipeline stages: vpp a rank. (In DualPipe a rank holds two of pp stages, and a stage has two holders.)"""
    return scenario.parallel.pp * scenario.parallel.vpp


def layout(scenario: Scenario) -> Layout:
    """Unit codes of every stage, in forward order."""
    return stage_layout(scenario.model, num_stages(scenario), scenario.parallel.layers_per_stage)


def with_light_end(scenario: Scenario) -> Scenario:
    """The scenario of a pipeline whose last stage is on the first one's rank: layers that it does not cut itself are cut by the
    rule, but that the last stage may have none.
    """
    plan, model, stages = scenario.parallel, scenario.model, num_stages(scenario)
    if plan.layers_per_stage is not None or model.num_layers % stages == 0 or model.num_layers < stages:
        return scenario
    counts = default_layer_counts(model.num_layers, stages, model.mtp.num_modules, least_last=0)
    return scenario.model_copy(update={"parallel": plan.model_copy(update={"layers_per_stage": counts})})


def num_micro_batches(scenario: Scenario, global_batch_size: int | None = None) -> int:
    """Micro-batches that a pipeline runs in a step of `global_batch_size` sequences (default: the full batch)."""
    batch = scenario.training.global_batch_size if global_batch_size is None else global_batch_size
    return batch // (dp(scenario) * scenario.training.micro_batch_size)


def is_grad_reduce_overlapped(scenario: Scenario) -> bool:
    """Whether gradients are reduced beside the backward: both switches say so."""
    return scenario.parallel.overlap.dp and scenario.data_parallel.grad_reduce.overlap


def is_param_gather_overlapped(scenario: Scenario) -> bool:
    """Whether parameters are gathered beside compute."""
    asked = scenario.data_parallel.param_gather.overlap
    wanted = scenario.parallel.zero_stage == 3 if asked is None else asked
    return scenario.parallel.overlap.dp and wanted


def reduces_every_micro_batch(scenario: Scenario) -> bool:
    """Whether gradients are reduced behind each backward, else behind the last of a step; shared ones of a step's only
    micro-batch are, since nothing is added up before.
    """
    every, shares = scenario.data_parallel.grad_reduce.every, scenario.parallel.zero_stage >= 2
    if every is None or (shares and num_micro_batches(scenario) == 1):
        return shares
    return every == "micro_batch"


def sums_groups_each(scenario: Scenario) -> bool:
    """Whether shards of gradients are summed over the shard groups as often as gradients are reduced."""
    return scenario.data_parallel.grad_reduce.over_groups != "step" or not reduces_every_micro_batch(scenario)


def has_collectives_beside_compute(scenario: Scenario) -> bool:
    """Whether data-parallel collectives may take SMs from kernels."""
    on = scenario.mechanisms
    overlapped = is_grad_reduce_overlapped(scenario) or is_param_gather_overlapped(scenario)
    return on.zero_collectives and on.sm_partition and overlapped and has_several_holders(scenario)


def overlaps_pairs(scenario: Scenario) -> bool:
    """Whether dispatch and combine run beside the other half of an overlapped pair, where the schedule has pairs."""
    return scenario.parallel.overlap.ep in (None, "pair")


def recipe(scenario: Scenario) -> RecipeRule:
    """The precision recipe."""
    return RECIPES[scenario.precision.recipe]


def software_name(scenario: Scenario) -> str:
    """The generation of the kernels around the GEMMs: the scenario's, else that of the published recipe."""
    return scenario.kernels.casts or recipe(scenario).software[0]


def software(scenario: Scenario) -> Software:
    """What that generation does, with what the scenario says otherwise."""
    generation, fuses = SOFTWARE[software_name(scenario)], scenario.moe.router_fusion
    return generation if fuses is None else replace(generation, fuses_router=fuses)


def pads_by_copy(scenario: Scenario) -> bool:
    """Whether the rows of experts are padded, and cut again, by copies."""
    given, arrive_padded = scenario.moe.pad_copies, dispatcher(scenario).pads_rows or scenario.moe.pad_to_capacity
    return scenario.kernels.autograd == "transformer_engine" and not arrive_padded if given is None else given


def scaling(scenario: Scenario) -> str | None:
    """How scales of whole tensors are found; None in a recipe without them, whatever the scenario says."""
    allowed = recipe(scenario).scalings
    return (scenario.precision.scaling or allowed[0]) if allowed else None


def keeps_casts(scenario: Scenario) -> bool:
    """Whether what is cast forward for the weight gradients is kept, beside or in place of the BF16 tensor."""
    return recipe(scenario).is_quantised and software(scenario).joins_casts


def row_padding(scenario: Scenario) -> int:
    """Rows of an expert are padded to a multiple of it."""
    rule, given = recipe(scenario), scenario.moe.row_padding
    if given is not None:
        return given
    if not rule.is_quantised:
        return 1
    return rule.row_padding if software(scenario).joins_casts else SEPARATE_ROW_PADDING


def dispatcher(scenario: Scenario) -> DispatcherRule:
    """The library of dispatch and combine."""
    return DISPATCHERS[scenario.moe.dispatcher]


def comm_sms(scenario: Scenario) -> int:
    """SMs of dispatch and combine: the scenario's, else the dispatcher's own."""
    given = scenario.parallel.comm_sms
    return dispatcher(scenario).comm_sms if given is None else given


def dispatched_tokens(scenario: Scenario) -> int:
    """Tokens of a micro-batch that a GPU dispatches: its own, under sequence parallelism its share of them."""
    plan = scenario.parallel
    return -(-micro_batch_tokens(scenario) // (plan.tp if plan.sequence_parallel else 1))


def host_syncs(scenario: Scenario) -> int:
    """How often the host waits for counts in a layer's forward; with ep 1 for those of the router alone."""
    is_padded = scenario.moe.pad_to_capacity
    return int(not is_padded) if scenario.parallel.ep == 1 else dispatcher(scenario).host_syncs(is_padded=is_padded)
