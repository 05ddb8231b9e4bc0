"""Rules of what data-parallel ranks share: ZeRO stages, shard groups, buckets, gathers. As those of rules.py."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem, allowed, divisors

ZERO = "parallel.zero_stage"
PLAN = "data_parallel"


def sharing_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Contradictions of the keys of data parallelism with the degrees and the precision recipe."""
    if not derived.is_mesh_whole(scenario):
        return
    plan, dp, edp = scenario.data_parallel, derived.dense_holders(scenario), derived.edp(scenario)
    group, is_moe = plan.hsdp_group, scenario.model.moe is not None
    if group is not None and (dp % group or (is_moe and edp % (dp // group))):
        holders = f" and the {edp} holders of an expert into as many groups" if is_moe and dp % group == 0 else ""
        least = 2 if scenario.parallel.zero_stage >= 2 else 1
        sizes = allowed(size for size in divisors(dp) if size >= least and (not is_moe or edp % (dp // size) == 0))
        yield (
            f"{PLAN}.hsdp_group",
            f"{group} does not divide {_holders(scenario)}{holders}; {sizes}, or null for one group",
        )
    elif group is not None:
        yield from _group_problems(scenario, group)
    if scenario.parallel.zero_stage == 3 and derived.recipe(scenario).is_quantised:
        yield from _cast_problems(scenario)
    recompute, layers = scenario.recompute, scenario.recompute.num_layers or 1
    in_groups = recompute.granularity == "full" and recompute.method == "uniform" and layers > 1
    if scenario.parallel.zero_stage == 3 and in_groups:
        text = f"not modelled yet (3 with {layers} layers that are recomputed together, each gathered once more)"
        yield ZERO, f"{text}; use recompute.num_layers: 1, or zero_stage: 1 or 2"


def _group_problems(scenario: Scenario, group: int) -> Iterator[FieldProblem]:
    """Groups that share nothing, and sums over groups more often than inside them."""
    zero, reduce = scenario.parallel.zero_stage, scenario.data_parallel.grad_reduce
    if group == 1 and zero >= 2:
        text = f"1 shares nothing of what zero_stage {zero} shards: it is data parallelism with whole copies"
        yield f"{PLAN}.hsdp_group", f"{text}; use zero_stage: 0, or groups of at least 2"
    if reduce.over_groups == "micro_batch" and not derived.reduces_every_micro_batch(scenario):
        text = "micro_batch, and gradients are reduced once a step inside the groups"
        yield f"{PLAN}.grad_reduce.over_groups", f"{text}; use over_groups: step, or grad_reduce.every: micro_batch"


def _holders(scenario: Scenario) -> str:
    """'dp 8', 'dp * cp = 16': the ranks with the same dense parameters."""
    return f"{'dp' if scenario.parallel.cp == 1 else 'dp * cp ='} {derived.dense_holders(scenario)}"


def _cast_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """FSDP of cast weights: they are gathered uncast, and cast for each use by software that joins casts."""
    if not derived.software(scenario).joins_casts:
        name = scenario.precision.recipe
        text = f"not modelled yet (3 with precision.recipe {name} in kernels that cast weights once a step)"
        yield ZERO, f"{text}; use zero_stage: 1 or 2, recipe: bf16, or kernels.casts: transformer-engine-2025"
    elif scenario.precision.primary_weights == "quantised":
        text = "not modelled yet (quantised with zero_stage 3: gathers of cast weights)"
        yield "precision.primary_weights", f"{text}; use primary_weights: bf16, or zero_stage: 1 or 2"


def sharing_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Keys of data parallelism that have no meaning in the scenario."""
    plan, zero = scenario.data_parallel, scenario.parallel.zero_stage
    dp, gather = derived.dense_holders(scenario), scenario.data_parallel.param_gather
    if not derived.has_several_holders(scenario):
        # The format of the gradients is that of memory too.
        usual = plan.model_copy(update={"grad_reduce": plan.grad_reduce.model_copy(update={"dtype": "fp32"})})
        if zero != 1 or usual != type(plan)():
            field = ZERO if zero != 1 else PLAN
            yield field, f"has no meaning with {_holders(scenario)}: every rank is the only holder of its parameters"
        return
    if zero >= 2 and scenario.model.moe is not None and derived.edp(scenario) == 1:
        yield ZERO, f"{zero} shares nothing of the routed experts: each has one holder (edp 1)"
    if zero == 0 and (gather.overlap is not None or gather.dtype != "bf16"):
        yield f"{PLAN}.param_gather", "has no meaning with zero_stage 0: every rank updates all its parameters"
    if gather.overlap and not scenario.parallel.overlap.dp:
        yield f"{PLAN}.param_gather.overlap", "has no meaning with parallel.overlap.dp: false"
    if zero < 3 and not plan.reshard_after_forward:
        yield f"{PLAN}.reshard_after_forward", f"has no meaning with zero_stage {zero}: parameters are not sharded"
    if zero < 3 and plan.sharded_copies != "none":
        yield f"{PLAN}.sharded_copies", f"has no meaning with zero_stage {zero}: parameters are not sharded"
    if zero >= 2 and plan.grad_reduce.every == "step" and derived.num_micro_batches(scenario) == 1:
        yield f"{PLAN}.grad_reduce.every", "step has no meaning with one micro-batch a step"
    yield from _bucket_warnings(scenario)
    if plan.hsdp_group is not None and (zero == 0 or plan.hsdp_group == dp):
        why = (
            "zero_stage 0: nothing is shared"
            if zero == 0
            else f"{_holders(scenario)}: all ranks share as one group anyway"
        )
        yield f"{PLAN}.hsdp_group", f"has no meaning with {why}"
    if plan.grad_reduce.over_groups is not None and plan.hsdp_group in (None, dp):
        yield f"{PLAN}.grad_reduce.over_groups", "has no meaning without groups: set hsdp_group below dp"


def _bucket_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    field, zero = f"{PLAN}.bucket_bytes", scenario.parallel.zero_stage
    if scenario.data_parallel.bucket_bytes is None:
        return
    reduced = derived.is_grad_reduce_overlapped(scenario) or derived.reduces_every_micro_batch(scenario)
    if zero == 3:
        yield field, "has no meaning with zero_stage 3: a layer, the embedding or a head is one unit"
    elif not reduced and not derived.is_param_gather_overlapped(scenario):
        yield field, "has no meaning where nothing is reduced or gathered beside compute: all gradients are one bucket"
