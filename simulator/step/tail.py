"""Seconds of a step's end: what is left of the gradients' reduction, norm, optimizer and gather of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from simulator.assembly.chunks import Piece, Segment
from simulator.assembly.collectives import StageCollectives
from simulator.assembly.tail import CopiesSum, TailCosts
from simulator.assembly.unit_costs import TP_COLLECTIVES, add_segments, message_segment
from simulator.costs.collectives.tree import NUMBER_BYTES
from simulator.costs.host_issue import issue_s
from simulator.scenario import derived
from simulator.scenario.module_rules import OWN
from simulator.scenario.muon_rules import is_muon
from simulator.scenario.scenario import Scenario
from simulator.schedule.action import Schedule
from simulator.step.data_parallel import DATA_PARALLEL, Holders, holders_of, with_held_copies
from simulator.step.host import HostPrices
from simulator.step.messages import MessagePrices
from simulator.step.muon import state_matrices, updates
from simulator.step.offload import host_update, lasting
from simulator.step.pricing import KernelPrices
from simulator.workload.buckets import WIRE_BYTES
from simulator.workload.casts.weights import weight_casts
from simulator.workload.counting import moved
from simulator.workload.modules.moesim_optimizer import optimizer_ops
from simulator.workload.op import Collective, Op, StageWorkload, Workload
from simulator.workload.vocabulary import VocabularyCopy

OPTIMIZER = "optimizer"
MOMENT_BYTES = {"adamw-bf16": 2, "adamw-bf16-moments": 2, "adamw-fp32-moments": 4, "muon": 4}
"""Bytes of one of AdamW's two moments of a parameter; muon: of those that are no matrices."""
MASTER_BYTES = {"adamw-bf16-moments": 4, "adamw-fp32-moments": 4, "muon": 4}
"""Bytes of a parameter's master copy, where there is one beside the weight."""
WEIGHT_BYTES = WIRE_BYTES["bf16"]
"""Bytes of a weight that the optimizer writes."""


def tail_costs(
    scenario: Scenario, workload: Workload, schedule: Schedule, kernels: KernelPrices, messages: MessagePrices,
    collectives: Sequence[StageCollectives], host: HostPrices | None = None,
) -> TailCosts:  # fmt: skip
    """Costs of the end of a step under a schedule, which says how many pipeline ranks hold a stage.

    collectives: as `plan_collectives` gives them. host: None: it takes no time.
    """
    workload, copies = with_held_copies(scenario, workload, schedule)
    holders = holders_of(messages, schedule, scenario.parallel.zero_stage)
    optimizer = [
        add_segments(
            (*_optimizer(scenario, stage, holders, kernels, messages), *_unissued(scenario, stage, kernels, host))
        )
        for stage in workload.stages
    ]
    reduce = [
        (*each.reduces_at_end, *_replicated(scenario, stage, messages))
        for each, stage in zip(collectives, workload.stages, strict=True)
    ]
    norm = _norms(scenario, schedule, messages)
    calls = max(map(len, reduce)) + len(copies) + bool(norm)
    return TailCosts(
        reduce=reduce,
        gather=[stage.gathers_at_end for stage in collectives],
        norm=norm,
        optimizer=[add_segments(optimizer[stage] for stage in held) for held in schedule.placement],
        overlap_reduce=derived.is_grad_reduce_overlapped(scenario),
        has_barrier=scenario.training.grad_norm_sync == "barrier",
        copies=_summed_copies(scenario, copies, schedule, messages),
        host=host.tail(calls) if host else None,
    )


def _norms(scenario: Scenario, schedule: Schedule, messages: MessagePrices) -> list[Segment]:
    """Of every rank: the sum over all GPUs; with post-validation over those of its stage, and the number that it sends on."""
    ranks, sync = schedule.num_ranks, scenario.training.grad_norm_sync
    if sync == "none":
        return []
    if sync == "barrier":
        return [message_segment("grad_norm", messages.norm(), OPTIMIZER)] * ranks
    of_stage = message_segment("grad_norm", messages.norm(messages.network.num_gpus // ranks), OPTIMIZER)
    sent = [
        message_segment("grad_norm_partial", messages.send(NUMBER_BYTES, hop), OPTIMIZER)
        for hop in messages.placement.pp_hops[: ranks - 1]
    ]
    return [*(add_segments([of_stage, each]) for each in sent), of_stage]


def _summed_copies(
    scenario: Scenario, copies: Sequence[VocabularyCopy], schedule: Schedule, messages: MessagePrices
) -> list[CopiesSum]:
    """The all-reduce of each copied matrix's gradient over the ranks that hold it, when each has reduced its own.

    Shards of it where no rank keeps more than its shard of the gradients (Megatron-LM sums the whole gradient otherwise).
    """
    if not scenario.mechanisms.zero_collectives:
        return []
    found = []
    for copy in copies:
        count = copy.parameters
        if scenario.parallel.zero_stage >= 2 and derived.reduces_every_micro_batch(scenario):
            count = -(-count // derived.sharing_ranks(scenario))
        num_bytes = count * WIRE_BYTES[scenario.data_parallel.grad_reduce.dtype]
        cost = messages.between_stages(copy.ranks, schedule.num_ranks, num_bytes)
        label = f"all_reduce_{copy.matrix}_copies"
        held = {schedule.placement[rank] for rank in copy.ranks}
        ranks = [rank for rank, stages in enumerate(schedule.placement) if stages in held]
        found.append(CopiesSum(ranks, label, message_segment(label, cost, DATA_PARALLEL)))
    return found


def _replicated(scenario: Scenario, stage: StageWorkload, messages: MessagePrices) -> Iterator[tuple[str, Segment]]:
    """Gradients of what every tensor-parallel rank holds whole and used for its own tokens only (Megatron-LM
    core/distributed/finalize_model_grads.py): summed over the ranks, once a step.
    """
    if scenario.parallel.tp > 1 and scenario.parallel.sequence_parallel and stage.replicated_params:
        num_bytes = stage.replicated_params * WIRE_BYTES[scenario.data_parallel.grad_reduce.dtype]
        cost = messages.collective(Collective("replicated_grads", "all_reduce", "tp", num_bytes, "W"))
        yield "all_reduce_replicated", message_segment("tp_all_reduce_gradients", cost, TP_COLLECTIVES)


def _optimizer(
    scenario: Scenario, stage: StageWorkload, holders: Holders, kernels: KernelPrices, messages: MessagePrices
) -> Iterator[Segment]:
    """AdamW on the shard, the host's share of it beside the GPU's, then the casts of the held weights that are made once a
    step.
    """
    if scenario.kernels.modules == OWN:
        yield from (_kernel(op, kernels) for op in _own_optimizer(scenario, stage))
        return
    shard = _shard(scenario, stage, holders)
    if is_muon(scenario):
        groups = {False: holders.dense.shard, True: holders.expert.shard}
        yield from updates(scenario, stage, groups, kernels, messages)
    on_host = int(shard * scenario.offload.optimizer)
    segment = _kernel(_adamw(scenario, shard - on_host), kernels)
    yield segment
    if on_host and messages.host and scenario.mechanisms.offload_time:
        gradients = on_host * WIRE_BYTES[scenario.data_parallel.grad_reduce.dtype]
        host = host_update(
            _adamw(scenario, on_host), gradients, on_host * WEIGHT_BYTES, messages.host,
            overlap=scenario.offload.optimizer_overlap,
        )  # fmt: skip
        yield lasting(host, max(0.0, host.seconds - segment.seconds))
    yield from (_kernel(op, kernels) for op in weight_casts(scenario, stage))


def _own_optimizer(scenario: Scenario, stage: StageWorkload) -> tuple[Op, ...]:
    """Of the torch model, whose parameters move one by one."""
    return tuple(optimizer_ops(stage, scenario.model.hidden_size, derived.padded_model(scenario).vocab_size))


def _unissued(
    scenario: Scenario, stage: StageWorkload, kernels: KernelPrices, host: HostPrices | None
) -> Iterator[Segment]:
    """What a host takes longer to issue an optimizer of many small calls than these run."""
    if scenario.kernels.modules != OWN or host is None or host.costs is None or host.is_whole:
        return
    ops = _own_optimizer(scenario, stage)
    issued_s = sum(issue_s(op, "attn_f", host.costs) for op in ops)
    waits_s = max(0.0, issued_s - sum(_kernel(op, kernels).seconds for op in ops))
    yield Segment(waits_s, waits_s, waits_s, {OPTIMIZER: waits_s}, {"assumed": waits_s})


def _kernel(op: Op, kernels: KernelPrices) -> Segment:
    if not op.shape.bytes:
        return Segment(0.0, 0.0, 0.0)
    cost = kernels.unshared_seconds(op)
    return Segment(
        cost.seconds, cost.low, cost.high, {OPTIMIZER: cost.seconds}, {cost.basis: cost.seconds}, pieces=(Piece(op, cost),)
    )  # fmt: skip


def _shard(scenario: Scenario, stage: StageWorkload, holders: Holders) -> int:
    """Parameters that a rank updates of a stage by AdamW."""
    matrices = state_matrices(scenario, stage) if is_muon(scenario) else (0, 0)
    dense, expert = stage.dense_params - matrices[0], stage.expert_params - matrices[1]
    if scenario.parallel.zero_stage:
        dense, expert = -(-dense // holders.dense.shard.ranks), -(-expert // holders.expert.shard.ranks)
    return dense + expert


def _adamw(scenario: Scenario, count: int) -> Op:
    """Gradient read; master and two moments read and written; weight written."""
    gradient, name = WIRE_BYTES[scenario.data_parallel.grad_reduce.dtype], scenario.training.optimizer
    master = MASTER_BYTES.get(name, 0)
    state = (master or WEIGHT_BYTES) + 2 * MOMENT_BYTES[name]
    op = moved("adamw", "adamw", "W", count * (gradient + state), count * (state + (WEIGHT_BYTES if master else 0)))
    library = "torch" if scenario.kernels.modules == "transformers" else ""
    return replace(op, shape=replace(op.shape, m=count, library=library))
