"""From a scenario to its counted work: what of it the counting needs, as plain values."""

from __future__ import annotations

from dataclasses import replace
from math import fsum, inf, sqrt

from hwprofiles.kernels.shape import OWN_GEMMS
from simulator.scenario import derived
from simulator.scenario.module_rules import OWN
from simulator.scenario.plan import Packing
from simulator.scenario.scenario import Scenario
from simulator.workload.capacity import UNLIMITED, Capacity
from simulator.workload.casts.choice import casts_of
from simulator.workload.documents import Documents
from simulator.workload.op import StageWorkload, Workload
from simulator.workload.recipe import Recipe
from simulator.workload.recompute import checkpoint_of, module_names
from simulator.workload.routing_model import RoutingStatistics
from simulator.workload.sharded_copies import IN_PLACE, ShardedCopies
from simulator.workload.stages import build_workload


def count_workload(
    scenario: Scenario, group_nodes: int, routing: RoutingStatistics | None, capacity: Capacity = UNLIMITED
) -> Workload:
    """Counted operators of every stage for one micro-batch. group_nodes: nodes that an expert group spans."""
    recipe = recipe_of(scenario, group_nodes, routing, capacity)
    workload = build_workload(derived.padded_model(scenario), derived.layout(scenario), recipe)
    return workload if scenario.mechanisms.stage_imbalance else _even(workload)


def uncut_stages(scenario: Scenario) -> tuple[StageWorkload, ...]:
    """The stages as if no ranks shared a matrix (tp and etp of 1), for the shapes of their weights alone."""
    recipe = replace(recipe_of(scenario, 1, None), tp=1, etp=1, shards_sequence=False)
    return build_workload(derived.padded_model(scenario), derived.layout(scenario), recipe).stages


def recipe_of(
    scenario: Scenario, group_nodes: int, routing: RoutingStatistics | None, capacity: Capacity = UNLIMITED
) -> Recipe:
    """One rank's micro-batch, its formats and its expert group. routing: None where all experts are on the rank."""
    saved, rule = scenario.recompute.saved, derived.recipe(scenario)
    top_k = scenario.model.moe.top_k if scenario.model.moe else 1
    nodes, ranks = (routing.nodes_per_token, routing.ranks_per_token) if routing else (1.0, 1.0)
    copies = routing.copies if routing else None
    is_eager = scenario.kernels.autograd == "eager" and not rule.is_quantised
    return Recipe(
        batch=scenario.training.micro_batch_size,
        seq=scenario.training.seq_len,
        casts=casts_of(scenario),
        software=derived.software(scenario),
        fuses_experts=scenario.moe.expert_fusion,
        pads_by_copy=derived.pads_by_copy(scenario),
        fuses_scaled_rope=scenario.kernels.autograd == "fused",
        groups_heads=scenario.kernels.autograd == "transformer_engine",
        bf16_layers=(scenario.precision.bf16_first_layers, scenario.precision.bf16_last_layers),
        dispatch_fp8=scenario.moe.dispatch_dtype == "fp8",
        combine_fp8=scenario.moe.combine_dtype == "fp8",
        recompute=module_names(scenario.recompute),
        save_attn_out_e5m6=saved.attn_out == "e5m6",
        save_swiglu_fp8=saved.swiglu_in == "fp8",
        ep=scenario.parallel.ep,
        nodes=group_nodes,
        nodes_per_token=capacity.reached(nodes, top_k),
        ranks_per_token=capacity.reached(ranks, top_k),
        remote_per_token=copies.busiest if copies else None,
        fullest_node=max(copies.members) if copies else None,
        row_padding=derived.row_padding(scenario),
        checkpoint=checkpoint_of(scenario.recompute),
        capacity=capacity,
        tp=scenario.parallel.tp,
        cp=scenario.parallel.cp,
        cp_comm=scenario.parallel.cp_comm,
        cp_kv=scenario.parallel.cp_kv,
        shards_sequence=scenario.parallel.sequence_parallel,
        etp=scenario.parallel.etp,
        gathers_logits=scenario.head.logits == "gathered",
        is_eager=is_eager,
        own_modules=scenario.kernels.modules == OWN,
        own_gemms=scenario.kernels.gemm == OWN_GEMMS,
        accumulated=1.0 - 1.0 / max(1, derived.num_micro_batches(scenario)),
        repeats_heads=scenario.kernels.grouped_heads == "repeated",
        splits_projections=scenario.kernels.projections == "separate",
        plain_modules=scenario.kernels.modules == "transformers",
        copies_gathers=scenario.parallel.tp_tensors == "batch_first" and scenario.parallel.overlap.tp == "none",
        splits_norms=scenario.kernels.norm == "eager",
        splits_activation=scenario.kernels.activation == "eager" or (is_eager and scenario.kernels.activation is None),
        casts_weights=derived.casts_weights_each_use(scenario),
        grouped_gemm=scenario.kernels.grouped_gemm or "",
        expert_rows_cv=_expert_rows_cv(scenario, routing, capacity),
        loss=scenario.head.cross_entropy,
        head_chunk=scenario.head.chunk_tokens,
        attention=scenario.kernels.attention or "",
        copies=_sharded_copies(scenario),
        documents=documents_of(scenario),
        shared_beside=scenario.parallel.overlap.ep == "shared_expert",
        dispatcher=scenario.moe.dispatcher,
        fuses_permute=scenario.moe.permute_fusion,
        host_syncs=derived.host_syncs(scenario),
    )


def _sharded_copies(scenario: Scenario) -> ShardedCopies:
    """Of parameters that ranks share by unit."""
    plan = scenario.data_parallel
    if scenario.parallel.zero_stage < 3 or not derived.has_several_holders(scenario):
        return IN_PLACE
    return ShardedCopies(
        plan.sharded_copies, plan.param_gather.dtype, plan.grad_reduce.dtype, plan.reshard_after_forward,
        derived.reduces_every_micro_batch(scenario),
    )  # fmt: skip


def documents_of(scenario: Scenario) -> Documents | None:
    """What the sequences are packed from, padding left out; None where every token attends to all before it."""
    training = scenario.training
    if not isinstance(training.packing, Packing) or training.packing.lengths == (training.seq_len,):
        return None
    packing, tokens = training.packing, derived.useful_tokens(scenario)
    if packing.lengths is not None:
        return Documents(tokens, lengths=packing.lengths, cut=packing.cut)
    assert packing.mean_tokens is not None
    return Documents(tokens, packing.mean_tokens, packing.cv, cut=packing.cut)


def _expert_rows_cv(scenario: Scenario, routing: RoutingStatistics | None, capacity: Capacity) -> float:
    """How unevenly the rows of a rank are spread over its experts: what their variance has above that of the rank's rows.

    0 where nothing is known of it: balance is forced, an imbalance of ranks is given, or one rank holds all experts.
    """
    if routing is None or not scenario.mechanisms.imbalance:
        return 0.0
    variance = routing.expert_variance(*derived.expert_group_sequences(scenario))
    inside = max(0.0, variance - routing.noise_cv**2 - routing.persistent_cv**2)
    return sqrt(inside) * (1.0 if capacity.limit == inf else capacity.relative_spread)


def _even(workload: Workload) -> Workload:
    """Every stage the one with the median FLOP: what the step would take if the layers divided evenly."""
    flop = [fsum(op.flop for unit in stage.units for op in unit.ops()) for stage in workload.stages]
    median = workload.stages[sorted(range(len(flop)), key=flop.__getitem__)[len(flop) // 2]]
    return replace(
        workload, stages=tuple(replace(median, stage=each.stage, like=median.stage) for each in workload.stages)
    )
