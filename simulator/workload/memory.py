"""The memory of a scenario by named tensor: recipes from its keys, communication buffers, what of a device is usable.

Order of reading: workload/tensors.py (formats, Tensor, BlockMemory), saved.py (how a block is written down), layers/ (what each
keeps), model_state.py (weights, gradients, optimizer); assembly/memory_peak.py walks a schedule over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import floor, inf
from typing import Final

from hwprofiles.kernels.shape import OWN_GEMMS
from simulator.scenario import derived
from simulator.scenario.hardware import operand_copies
from simulator.scenario.module_rules import OWN
from simulator.scenario.plan import LoadImbalance
from simulator.scenario.scenario import Scenario
from simulator.workload.capacity import UNLIMITED, Capacity
from simulator.workload.dispatch_buffers import dispatch_buffer
from simulator.workload.graph_memory import NO_GRAPHS, GraphNeeds
from simulator.workload.model_state import StateRecipe
from simulator.workload.recompute import checkpoint_of, module_names
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import Tensor, sent_format


@dataclass(frozen=True, slots=True)
class MemoryAssumptions:
    """Stated assumptions of the memory model; assumption `memory_<field>` holds the value, range and source of each.

    bf16_weight_copy_frac: share of the weights kept in FP8 whose BF16 original stays (0 to 1).
    expert_rows_frac, expert_rows_peak_frac: rows of the fullest rank's experts over the even load, mean of the
    micro-batches in flight, and in the fullest micro-batch.
    dispatch_nvl_tokens, dispatch_rdma_tokens: slots of a channel's receive queue a peer;
    dispatch_slot_metadata_bytes: beside a token's hidden state; dispatch_granularity_bytes: the symmetric heap is a
    multiple of it. communicator_bytes: device memory of one collective library communicator. context_bytes: driver,
    kernels, library handles. fragmentation_frac: memory that the allocator holds and cannot use, over what is
    allocated. real_over_estimate: what is really allocated over the predicted peak. graph_node_bytes: of the driver for a
    kernel in a captured graph; graph_pool_frac: what the pool of graphs holds over the tensors in it, less one;
    graph_rows_frac, graph_budget_frac: expert rows that captured experts keep, and work on, over the even load.
    """

    bf16_weight_copy_frac: float
    expert_rows_frac: float
    expert_rows_peak_frac: float
    dispatch_nvl_tokens: float
    dispatch_rdma_tokens: float
    dispatch_slot_metadata_bytes: float
    dispatch_granularity_bytes: float
    communicator_bytes: float
    context_bytes: float
    fragmentation_frac: float
    real_over_estimate: float
    graph_node_bytes: float
    graph_pool_frac: float
    graph_rows_frac: float
    graph_budget_frac: float

    @property
    def needed_frac(self) -> float:
        """What a rank needs over its predicted peak, less one."""
        return (1.0 + self.fragmentation_frac) * self.real_over_estimate - 1.0

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The assumptions' keys."""
        return tuple(f"memory_{entry.name}" for entry in fields(cls))

    @classmethod
    def of(cls, values: Mapping[str, float]) -> MemoryAssumptions:
        """From values by key; other keys are left alone. Raises KeyError for a missing one."""
        return cls(**{entry.name: float(values[f"memory_{entry.name}"]) for entry in fields(cls)})


BALANCED: Final = (1.0, 1.0)


def expert_loads(
    scenario: Scenario, assumed: MemoryAssumptions, persistent: tuple[float, float] = BALANCED
) -> tuple[float, float]:
    """Rows of the fullest rank over the even load: mean of the micro-batches in flight, and in the fullest of them.

    persistent: what balancing leaves of it in every micro-batch: mean of a rank's layers, and of its fullest layer. The
    assumptions are those of a balanced model; one that is balanced worse needs at least what the router leaves.
    """
    balance = scenario.moe.balance
    if isinstance(balance, LoadImbalance):
        return balance.load_imbalance, balance.load_imbalance
    if balance == "forced" or scenario.parallel.ep == 1 or not scenario.mechanisms.imbalance:
        return 1.0, 1.0
    mean, peak = assumed.expert_rows_frac, assumed.expert_rows_peak_frac
    fresh = peak / mean if mean > 0 else 1.0
    return max(mean, persistent[0]), max(peak, persistent[1] * fresh)


def activation_recipe(
    scenario: Scenario,
    assumed: MemoryAssumptions,
    persistent: tuple[float, float] = BALANCED,
    capacity: Capacity = UNLIMITED,
) -> ActivationRecipe:
    """Sizes and formats of a micro-batch's activations on one rank. persistent: as in expert_loads."""
    recompute = scenario.recompute
    act = derived.recipe(scenario).gemm_dtype
    saved = {"bf16": "bf16", "e5m6": "e5m6", "fp8": sent_format(act)}
    loads = expert_loads(scenario, assumed, persistent)
    mean_load, peak_load = (load if capacity.limit == inf else capacity.load(load) for load in loads)
    return ActivationRecipe(
        tokens=derived.micro_batch_tokens(scenario),
        cp=scenario.parallel.cp,
        cp_comm=scenario.parallel.cp_comm,
        cp_kv=scenario.parallel.cp_kv,
        tp=scenario.parallel.tp,
        shards_sequence=scenario.parallel.sequence_parallel,
        ep=scenario.parallel.ep,
        etp=scenario.parallel.etp,
        act_dtype=act,
        dispatch_dtype=saved[scenario.moe.dispatch_dtype],
        combine_dtype=saved[scenario.moe.combine_dtype],
        attn_out_dtype=saved[recompute.saved.attn_out],
        swiglu_in_dtype=saved[recompute.saved.swiglu_in],
        keeps_casts=derived.keeps_casts(scenario),
        bf16_layers=(scenario.precision.bf16_first_layers, scenario.precision.bf16_last_layers),
        recompute=module_names(recompute),
        checkpoint=checkpoint_of(recompute),
        expert_rows_frac=mean_load,
        expert_rows_peak_frac=max(mean_load, peak_load),
        row_padding=derived.row_padding(scenario),
        autograd=scenario.kernels.autograd,
        fuses_experts=scenario.moe.expert_fusion,
        keeps_outputs=keeps_per_micro_batch(scenario),
        gathers_logits=scenario.head.logits == "gathered",
        is_loss_fused=scenario.head.cross_entropy == "fused",
        head_chunk=scenario.head.chunk_tokens,
        attention=scenario.kernels.attention or "",
        plain_modules=scenario.kernels.modules == "transformers",
        seq=scenario.training.seq_len,
        own_modules=scenario.kernels.modules == OWN,
        own_gemms=scenario.kernels.gemm == OWN_GEMMS,
        accumulates=derived.num_micro_batches(scenario) > 1,
        sends=derived.dispatcher(scenario).sends if scenario.parallel.ep > 1 else "distinct",
    )


def state_recipe(scenario: Scenario, assumed: MemoryAssumptions) -> StateRecipe:
    """Formats and sharding of the model's state. A second copy of the cast weights is kept where casts are joined; else kernels
    transpose the first one in each micro-batch.
    """
    rule, joins = derived.recipe(scenario), derived.software(scenario).joins_casts
    is_cast_once = rule.is_quantised and not derived.casts_weights_each_use(scenario)
    keeps_quantised = is_cast_once and scenario.precision.fp8_weight_cache == "per_step"
    original = 1.0 if joins else assumed.bf16_weight_copy_frac
    zero = scenario.parallel.zero_stage
    is_own = scenario.kernels.modules == OWN
    return StateRecipe(
        weight_dtype=rule.gemm_dtype,
        casts_each_use=derived.casts_weights_each_use(scenario),
        keeps_quantised=keeps_quantised,
        keeps_transposed=keeps_quantised and (is_own or (joins and operand_copies(scenario) > 1)),
        bf16_copy_frac=0.0 if is_own or scenario.precision.primary_weights == "quantised" else original,
        gradient_dtype=scenario.data_parallel.grad_reduce.dtype,
        moment_dtype="fp32" if scenario.training.optimizer in ("adamw-fp32-moments", "muon") else "bf16",
        keeps_master=scenario.training.optimizer != "adamw-bf16",
        keeps_placeholders=scenario.kernels.autograd == "transformer_engine",
        zero_stage=zero if derived.has_several_holders(scenario) else min(1, zero),
        dense_replicas=derived.sharing_ranks(scenario),
        expert_replicas=derived.expert_sharing_ranks(scenario),
        gathered_dtype=scenario.data_parallel.param_gather.dtype,
        reduces_each=derived.reduces_every_micro_batch(scenario),
        reshards=scenario.data_parallel.reshard_after_forward,
        host_frac=scenario.offload.optimizer,
    )


def pipeline_buffer(boundary_bytes: int, held: Sequence[int], num_stages: int, num_ranks: int) -> Tensor:
    """Sends and receives in flight: an activation and a gradient at each inner end of each stage held.

    num_ranks: pipeline ranks. With virtual stages a rank works on one of its chunks at a time and has two neighbours
    whatever their number.
    """
    if num_stages > num_ranks:
        ends = any(stage > 0 for stage in held) + any(stage < num_stages - 1 for stage in held)
    else:
        ends = _inner_ends(held, num_stages)
    return Tensor("buffers.pipeline", 2 * boundary_bytes * ends)


def _inner_ends(held: Sequence[int], num_stages: int) -> int:
    """Neighbours of the stages held."""
    return sum((stage > 0) + (stage < num_stages - 1) for stage in held)


def keeps_per_micro_batch(scenario: Scenario) -> bool:
    """Whether buffers between stages and the last stage's outputs are held for every micro-batch."""
    return scenario.parallel.pp > 1 and scenario.parallel.pipeline_buffers == "per_micro_batch"


def receive_buffers(boundary_bytes: int, held: Sequence[int], num_stages: int, num_micro_batches: int) -> Tensor:
    """A buffer for every activation and gradient that the stages held receive in a step.

    pytorch/pytorch torch/distributed/pipelining/stage.py: _prepare_forward_infra and _create_grad_recv_info make one a
    micro-batch. A stage's input is its buffer; its output, kept for the backward, is counted in that one's place.
    """
    ends = _inner_ends(held, num_stages)
    return Tensor("buffers.pipeline", boundary_bytes * ends * num_micro_batches)


def num_communicators(scenario: Scenario) -> int:
    """Collective library communicators of a rank: one for each axis with more than one member.

    Axes: tp, cp, pp, the replicas of dense parameters, the ranks that share a routed expert and the replicas of it, the expert
    group where the library dispatches; of replicas in shard groups, a group's and those of one place in each.
    """
    holders, edp = derived.dense_holders(scenario), derived.edp(scenario)
    is_cut, plan = scenario.parallel.zero_stage > 0, scenario.parallel
    shard, expert_shard = derived.sharing_ranks(scenario), derived.expert_sharing_ranks(scenario)
    degrees = [plan.tp, plan.cp, plan.pp, *((shard, holders // shard) if is_cut else (holders,))]
    if scenario.model.moe is not None:
        degrees += [scenario.parallel.etp, *((expert_shard, edp // expert_shard) if is_cut else (edp,))]
        degrees += [scenario.parallel.ep] if derived.dispatcher(scenario).is_library else []
    return sum(degree > 1 for degree in degrees)


def buffer_tensors(
    scenario: Scenario, assumed: MemoryAssumptions, boundary_bytes: int, held: Sequence[int], gpus_per_node: int,
    num_micro_batches: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Buffers of a rank that holds the stages `held`: constant over a step of so many micro-batches."""
    num_stages = derived.num_stages(scenario)
    if keeps_per_micro_batch(scenario):
        between = receive_buffers(boundary_bytes, held, num_stages, num_micro_batches)
    else:
        between = pipeline_buffer(boundary_bytes, held, num_stages, scenario.parallel.pp)
    return (
        dispatch_buffer(scenario, assumed, gpus_per_node),
        between,
        Tensor("buffers.communicators", round(num_communicators(scenario) * assumed.communicator_bytes)),
        Tensor("buffers.context", round(assumed.context_bytes)),
    )


def usable_bytes(device_bytes: float, needed_frac: float) -> int:
    """The largest predicted peak that a device's bytes (as its driver reports them) hold, with what is needed beyond it."""
    return floor(device_bytes / (1.0 + needed_frac))


def margin(
    scenario: Scenario,
    peak_bytes: int,
    assumed: MemoryAssumptions,
    end: MemoryAssumptions,
    graphs: GraphNeeds = NO_GRAPHS,
) -> float:
    """Bytes that a rank needs beyond its peak, which was predicted with `assumed`, where the truth is `end` (a lower or higher
    end of all ranges): the allocator's share and the error of estimates, and libraries and graphs that hold more or less.
    """
    libraries = num_communicators(scenario) * (end.communicator_bytes - assumed.communicator_bytes)
    libraries += end.context_bytes - assumed.context_bytes
    libraries += graphs.num_bytes(end) - graphs.num_bytes(assumed)
    return peak_bytes * end.needed_frac + libraries
