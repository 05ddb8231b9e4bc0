"""Weights, gradients and optimizer state on a rank, by named tensor.

What a framework holds between micro-batches (Megatron-LM's distributed optimizer; DeepSeek-V3 report 3.3):
- compute weights in BF16; under a recipe of 8 or 4 bits whose weights are quantised once a step, such a copy of the layers'
  GEMM weights, a second one along the other dimension where GEMMs read both and no kernel transposes it in each micro-batch,
  and the BF16 original where it stays as the target of the parameter gather;
- gradients in the format in which micro-batches are accumulated and reduced, whole (ZeRO 0, 1, or reduced once a step) or
  sharded beside those of the unit or bucket at work (2, 3);
- FP32 master weights and two moments, sharded from ZeRO 1 on over the ranks that hold the same parameters;
- under ZeRO 3 beside the shards (torch FSDP2: the sharded parameter is the FP32 master) the gathered weights: of two
  neighbouring units, the one at work and the next (of both halves of a pair), or all of the rank's where they stay gathered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

from simulator.workload.buckets import buckets_of, size_of
from simulator.workload.op import StageWorkload
from simulator.workload.tensors import FORMAT_BITS, Tensor, tensor_bytes, weight_bytes


@dataclass(frozen=True, slots=True)
class StateRecipe:
    """Number formats and sharding of the model's state.

    weight_dtype: of the layers' GEMM weights in the kernels. keeps_quantised: the cast weights stay for the step.
    casts_each_use: a GEMM casts the gathered weight that it reads.
    keeps_transposed: so do the transposed ones. bf16_copy_frac: share of these weights whose BF16 original stays too
    (0 to 1). gradient_dtype, moment_dtype, gathered_dtype: fp32 or bf16. zero_stage: 0 to 3.
    keeps_master: FP32 weights beside the BF16 ones. keeps_placeholders: a BF16 tensor of each shape of a layer's weights, which
    autograd gets in a gradient's place.
    dense_replicas, expert_replicas: ranks of one stage that share the same dense parameters, the same routed experts.
    reduces_each: gradients are reduced in each micro-batch, so that shards can be summed. reshards: gathered parameters go
    after a unit's pass. halves: micro-batches that a rank works on at once. host_frac: share of the optimizer's state that the
    host holds (0 to 1).
    """

    weight_dtype: str = "bf16"
    keeps_quantised: bool = False
    casts_each_use: bool = False
    keeps_transposed: bool = False
    bf16_copy_frac: float = 1.0
    gradient_dtype: str = "fp32"
    moment_dtype: str = "fp32"
    zero_stage: int = 1
    dense_replicas: int = 1
    expert_replicas: int = 1
    keeps_master: bool = True
    keeps_placeholders: bool = False
    gathered_dtype: str = "bf16"
    reduces_each: bool = True
    reshards: bool = True
    halves: int = 1
    host_frac: float = 0.0

    @property
    def shards_gradients(self) -> bool:
        """Whether a rank keeps its shard of the gradients alone."""
        return self.zero_stage >= 2 and self.reduces_each


@dataclass(frozen=True, slots=True)
class StageParams:
    """Parameters of one stage on one rank.

    quantised: of these, the weights of the GEMMs that run in 8 or 4 bits. units: parameters that are gathered together, in
    forward order: of a layer, the embedding, a head. bucket: most that are reduced together. shapes: (outputs, inputs)
    of the weights of its layers' GEMMs, each once. one_moment: parameters, dense and experts', that have one moment in place of
    two. dealt: of these, what the fullest rank has of whole matrices; None: equal shards.
    """

    dense: int
    dense_quantised: int
    expert: int
    expert_quantised: int
    units: tuple[int, ...] = ()
    bucket: int = 0
    shapes: frozenset[tuple[int, int]] = frozenset()
    one_moment: tuple[int, int] = (0, 0)
    dealt: tuple[int, int] | None = None

    def sharded(self, dense_ranks: int, expert_ranks: int) -> StageParams:
        """The shard that one of the ranks keeps of each."""
        if self.dealt is not None:
            return self._with_whole_matrices(self.dealt, dense_ranks, expert_ranks)
        return StageParams(
            -(-self.dense // dense_ranks),
            -(-self.dense_quantised // dense_ranks),
            -(-self.expert // expert_ranks),
            -(-self.expert_quantised // expert_ranks),
            one_moment=(self.one_moment[0] // dense_ranks, self.one_moment[1] // expert_ranks),
        )

    def _with_whole_matrices(self, dealt: tuple[int, int], dense_ranks: int, expert_ranks: int) -> StageParams:
        dense, expert = (
            -(-(count - single) // ranks) + whole
            for count, single, ranks, whole in zip(
                (self.dense, self.expert), self.one_moment, (dense_ranks, expert_ranks), dealt, strict=True
            )
        )
        return StageParams(dense, 0, expert, 0, one_moment=dealt)


@dataclass(frozen=True, slots=True)
class RankState:
    """What a rank holds for all its stages."""

    weights: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]
    optimizer: tuple[Tensor, ...]


def stage_params(stage: StageWorkload, bucket_limit: int = 1) -> StageParams:
    """The stage's parameters; quantised weights are counted from the forward GEMMs (n × k weights a group).

    bucket_limit: parameters that close a bucket; a unit is in no bucket before all its gradients are there.
    """
    quantised = {"gemm": 0, "grouped_gemm": 0}
    shapes = set[tuple[int, int]]()
    for unit in stage.units:
        gemms = [op.shape for op in unit.ops() if op.shape.variant == "fprop" and op.phase == "F"]
        shapes |= {(gemm.n, gemm.k) for gemm in gemms if unit.kind != "head"}
        for gemm in gemms:
            if gemm.dtype not in ("bf16", "fp32"):
                quantised[gemm.op] += gemm.n * gemm.k * gemm.groups
    units = tuple(size_of([group]) for group in sorted(stage.groups, key=lambda group: group.unit))
    buckets = [size_of([bucket]) for bucket in buckets_of(stage.groups, bucket_limit)]
    return StageParams(
        stage.dense_params, quantised["gemm"], stage.expert_params, quantised["grouped_gemm"],
        units, max((*units, *buckets), default=0), frozenset(shapes),
    )  # fmt: skip


def rank_states(
    stages: Sequence[StageParams], recipe: StateRecipe, placement: Sequence[Sequence[int]]
) -> tuple[RankState, ...]:
    """The state of every pipeline rank.

    placement[rank]: the stages that it holds. A stage on several ranks (two in DualPipe) is sharded over all their
    replicas.
    """
    states = []
    for held in placement:
        parts = [(stages[stage], sum(stage in others for others in placement)) for stage in held]
        kept = [_state(params, recipe, holders) for params, holders in parts]
        state = _merge([*kept, _at_work([params for params, _ in parts], recipe)])
        if recipe.keeps_placeholders:
            shapes = {shape for stage in held for shape in stages[stage].shapes}
            state = replace(state, gradients=(*state.gradients, _placeholders(shapes)))
        states.append(state)
    return tuple(states)


def _at_work(held: Sequence[StageParams], r: StateRecipe) -> RankState:
    """What a rank has gathered of others' shards, and the gradients that it has not reduced yet."""
    weights: tuple[Tensor, ...] = ()
    gradients: tuple[Tensor, ...] = ()
    units = [count for params in held for count in params.units]
    if r.zero_stage >= 3:
        two = max((first + second for first, second in pairwise(units)), default=sum(units))
        gathered = min(r.halves * two, sum(units)) if r.reshards else sum(units)
        weights = (Tensor("weights.gathered", tensor_bytes(r.gathered_dtype, gathered)),)
    if r.casts_each_use:
        largest_shape = max((rows * columns for params in held for rows, columns in params.shapes), default=0)
        weights = (*weights, Tensor("weights.cast", weight_bytes(r.weight_dtype, largest_shape)))
    if r.shards_gradients:
        largest = max(units, default=0) if r.zero_stage >= 3 else max((params.bucket for params in held), default=0)
        gradients = (Tensor("gradients.unreduced", tensor_bytes(r.gradient_dtype, largest)),)
    return RankState(weights, gradients, ())


def _placeholders(shapes: Iterable[tuple[int, int]]) -> Tensor:
    """A BF16 tensor of every shape, kept from the first step on.

    NVIDIA/TransformerEngine transformer_engine/pytorch/module/base.py, get_dummy_wgrad: cached by shape and format.
    """
    return Tensor("gradients.placeholders", sum(tensor_bytes("bf16", rows * columns) for rows, columns in shapes), "W")


def _state(params: StageParams, r: StateRecipe, holders: int) -> RankState:
    whole, shard = params, params.sharded(r.dense_replicas * holders, r.expert_replicas * holders)
    is_master = r.zero_stage >= 3 and r.keeps_master
    weights = () if is_master else _weights(shard if r.zero_stage >= 3 else whole, r)
    if is_master and r.host_frac:  # the host has the master: its BF16 copy is what is gathered
        gone = int(shard.dense * r.host_frac) + int(shard.expert * r.host_frac)
        weights = (Tensor("weights.bf16", tensor_bytes("bf16", gone)),)
    accumulated = shard if r.shards_gradients else whole
    gradients: tuple[Tensor, ...] = (
        Tensor("gradients.dense", tensor_bytes(r.gradient_dtype, accumulated.dense)),
        Tensor("gradients.expert", tensor_bytes(r.gradient_dtype, accumulated.expert)),
    )
    owned = shard if r.zero_stage >= 1 else whole
    optimizer = tuple(
        Tensor(f"optimizer.{what}_{kind}", tensor_bytes(dtype, count - int(count * r.host_frac)))
        for kind, number, single in (
            ("dense", owned.dense, owned.one_moment[0]), ("expert", owned.expert, owned.one_moment[1])
        )
        for what, dtype, count in (("master", "fp32", number), ("moments", r.moment_dtype, 2 * number - single))
        if r.keeps_master or what != "master"
    )  # fmt: skip
    return RankState(weights, gradients, optimizer)


def _weights(params: StageParams, r: StateRecipe) -> tuple[Tensor, ...]:
    quantised = params.dense_quantised + params.expert_quantised
    others = params.dense + params.expert - quantised
    if not r.keeps_quantised:
        return (Tensor("weights.bf16", tensor_bytes("bf16", others + quantised)),)
    copy, cast = weight_bytes(r.weight_dtype, quantised), f"weights.fp{FORMAT_BITS[r.weight_dtype]}"
    return (
        Tensor("weights.bf16", tensor_bytes("bf16", others)),
        Tensor("weights.bf16_original", ceil(tensor_bytes("bf16", quantised) * r.bf16_copy_frac)),
        Tensor(cast, copy),
        Tensor(f"{cast}_transposed", copy if r.keeps_transposed else 0),
    )


def _merge(states: Sequence[RankState]) -> RankState:
    """Tensors of the same name summed over the stages."""

    def merged(groups: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        sums: dict[str, int] = {}
        for tensor in (tensor for group in groups for tensor in group):
            sums[tensor.name] = sums.get(tensor.name, 0) + tensor.num_bytes
        return tuple(Tensor(name, num_bytes, "W") for name, num_bytes in sums.items() if num_bytes)

    return RankState(
        merged(state.weights for state in states),
        merged(state.gradients for state in states),
        merged(state.optimizer for state in states),
    )
