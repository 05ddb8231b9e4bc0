"""What a result says, as sentences and texts that console, Markdown and HTML share; no layout.

Numbers come from `report.numbers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum, prod
from typing import Any, Final

from hwprofiles.stack_choice import STACK_KINDS, default_stack, is_stack, stack_provenance
from simulator.report import numbers
from simulator.report.lever_words import range_words
from simulator.results.interval import Estimate
from simulator.results.joint import sum_ends
from simulator.results.placement_result import ExpertGroups
from simulator.results.run_result import PhaseResult, RunResult
from simulator.results.step_result import AssumptionRow, StepTimes
from simulator.results.widening import as_source

BASIS_WORDS: Final = {
    "measured": "this shape, on this GPU",
    "interpolated": "between measured shapes",
    "extrapolated": "beyond the measured shapes",
    "transferred": "from other GPUs",
    "assumed": "a stated guess",
}
RULE_WORDS: Final = {
    "given": "as given",
    "groups_and_job": "a multiple of the parallel groups that divides the job",
    "groups": "a multiple of the parallel groups",
    "divisor_of_group": "a divisor of the expert group",
    "whole_domain": "no part of it fits the parallel groups",
}
MAX_WAYS: Final = 3
UNEVEN: Final = 1.1
"""Most over mean work of the pipeline ranks from which on it is told."""
PART_WORDS: Final = {
    "forward_s": "forward",
    "backward_s": "backward",
    "weight_s": "weights",
    "overlapped_f_b_s": "F&B pairs",
    "bubble_s": "bubble",
    "optimizer_s": "optimizer",
}
PART_LEGENDS: Final = {
    "weight_s": "weights: gradients of the weights, where they run alone",
    "overlapped_f_b_s": "F&B pairs: a forward overlapped with another micro-batch's backward",
    "bubble_s": "bubble: a rank waits for its pipeline neighbours",
}
"""What a newcomer does not know of the parts' names."""
CATEGORY_LEGENDS: Final = {
    "exposed_communication": "messages, and waits for them, that no computing hides",
    "kernel_gaps": "idle time between one kernel and the next",
    "expert_gemm": "the routed experts' matrix products",
    "gemm": "all other matrix products",
    "tp_collectives": "gathers and reductions around the products that ranks share",
    "cp_collectives": "keys, values or heads that ranks with parts of one sequence exchange",
    "host": "kernels that the host has not issued yet",
    "other": "what the host does between two steps",
    "link_sharing": "what messages of two kinds lose to each other on one link",
    "interference": "what data-parallel collectives take from the kernels beside them",
}
"""What a newcomer does not know of the categories' names."""
MEMORY_WORDS: Final = {
    "weights_bytes": "weights",
    "gradients_bytes": "gradients",
    "optimizer_bytes": "optimizer",
    "activations_bytes": "activations",
    "buffers_bytes": "buffers",
}


def name(result: RunResult) -> str:
    """The scenario's name."""
    return str(result.scenario.get("name", ""))


def section(result: RunResult, key: str) -> Mapping[str, Any]:
    """A section of the resolved scenario; empty where there is none (a file may hold anything)."""
    found = result.scenario.get(key)
    return found if isinstance(found, Mapping) else {}


def whole(values: Mapping[str, Any], key: str, default: int) -> int:
    """A positive whole number of a section; the default where there is none."""
    found = values.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else default


def model_line(result: RunResult) -> str:
    """The model and its parameters."""
    model = result.model
    line = f"model {label(result.scenario.get('model'))}, {numbers.amount(model.num_parameters)} parameters"
    line += f", {numbers.amount(model.num_active_parameters)} active"
    if model.num_mtp_parameters:
        line += f", {numbers.amount(model.num_mtp_parameters)} in MTP modules"
    return line


def machines_line(result: RunResult) -> str:
    """The machines, the degrees of parallelism, precision, recompute and the framework's release."""
    cluster = section(result, "cluster")
    parts = [
        f"{whole(cluster, 'num_gpus', 0):,} GPUs in {label(cluster.get('node'))} on {label(cluster.get('fabric'))}",
        plan_line(result),
        str(section(result, "precision").get("recipe", "")),
        _recomputed(str(section(result, "recompute").get("granularity", "none"))),
        label(result.scenario.get("framework") or ""),
    ]
    return " · ".join(part for part in parts if part)


def plan_line(result: RunResult) -> str:
    """ "pp16 dp128 ep64 dualpipe": the degrees above 1, what ranks share, the schedule."""
    parallel = section(result, "parallel")
    sizes = {axis: whole(parallel, axis, 1) for axis in ("tp", "cp", "pp", "vpp", "ep", "etp")} | {"dp": _dp(result)}
    degrees = [f"{axis}{sizes[axis]}" for axis in ("tp", "cp", "pp", "vpp", "dp", "ep", "etp") if sizes[axis] > 1]
    return " ".join([*degrees, *_sharing(parallel), str(parallel.get("schedule", ""))])


def batch_line(result: RunResult) -> str:
    """Tokens of a step, and the micro-batches in which a pipeline runs them."""
    training = section(result, "training")
    line = f"{whole(training, 'global_batch_size', 0):,} × {whole(training, 'seq_len', 0):,} tokens a step"
    return line + _micro_batches(training, _dp(result))


def stack_line(result: RunResult) -> str:
    """The stack, what it rests on, and which would serve the GPU if none were named, where that is another."""
    line = f"stack {result.stack}, {result.stack_kind}: {STACK_KINDS[result.stack_kind]}"
    if not is_stack(result.stack):  # a document of another release, or the stack of a folder
        return line
    usual = default_stack(stack_provenance(result.stack).gpu)
    return line if usual == result.stack else f"{line} (its GPU's default is {usual})"


def other_kind_line(result: RunResult) -> str:
    """That the stack is of another kind than that of what the scenario came from; "" where it is not."""
    base = result.base
    if base is None or base.stack_kind == result.stack_kind:
        return ""
    words = f"not to be compared as it is with {base.scenario}, which rests on {base.stack}, {base.stack_kind}"
    return f"{words}: they differ in kind, not only in hardware (see the warning)"


def _dp(result: RunResult) -> int:
    parallel = section(result, "parallel")
    pipeline = prod(whole(parallel, axis, 1) for axis in ("tp", "cp", "pp"))
    return whole(section(result, "cluster"), "num_gpus", 1) // pipeline or 1


def _sharing(parallel: Mapping[str, Any]) -> list[str]:
    """What ranks share beside the degrees, where it is not the default."""
    shared = ["sp"] if parallel.get("sequence_parallel") else []
    zero = parallel.get("zero_stage", 1)
    return shared if zero == 1 else [*shared, f"zero{zero}"]


def _recomputed(granularity: str) -> str:
    return "" if granularity == "none" else f"{granularity} recompute"


def _micro_batches(training: Mapping[str, Any], dp: int) -> str:
    """', 32 micro-batches of 1': how many a pipeline runs in a step, and sequences of each."""
    size = whole(training, "micro_batch_size", 1)
    number = whole(training, "global_batch_size", 0) // (dp * size)
    return f", {number:,} micro-{'batch' if number == 1 else 'batches'} of {size:,}"


def placement_line(result: RunResult) -> str:
    """GPUs used of each scale-up domain and GPUs that idle there; empty where the job fills what it pays."""
    placed = result.placement
    if placed is None:
        return ""
    parts = []
    if placed.gpus_idle or placed.gpus_per_domain < placed.domain_gpus:
        if placed.num_domains == 1:
            used = f"{placed.gpus_used} of the {placed.domain_gpus} GPUs of a scale-up domain used"
        else:
            used = f"{placed.gpus_per_domain} of {placed.domain_gpus} GPUs used of "
            used += f"{placed.num_domains:,} scale-up domains ({RULE_WORDS[placed.rule]})"
        parts.append(f"{used}: {placed.gpus_paid:,} paid, {placed.gpus_idle:,} idle")
    groups = placed.expert_groups or ()
    if len(groups) > 1:
        ways = ", ".join(f"{each.groups:,} as {_parts(each)}" for each in groups[:MAX_WAYS])
        more = ", …" if len(groups) > MAX_WAYS else ""
        slowest = next(_parts(each) for each in groups if each.is_simulated)
        parts.append(f"expert groups lie in {len(groups)} ways ({ways}{more}): the step waits for {slowest}")
    return " · ".join(parts)


def _parts(groups: ExpertGroups) -> str:
    return " + ".join(map(str, groups.ranks_by_domain))


def ramp_note(phase: PhaseResult, full: int) -> str:
    """What of the ramp is really run: all of it, or what a short phase has tokens for."""
    ramp, full = phase.ramp, phase.global_batch_size or full
    assert ramp is not None
    sizes = f"batch {ramp.first_global_batch_size:,} to {ramp.last_global_batch_size:,}"
    words = f"{phase.name}: {sizes} over {numbers.amount(ramp.tokens)} tokens, {numbers.whole(ramp.steps)} steps"
    if ramp.last_global_batch_size < full:
        words += f"; the phase ends inside its ramp: the full batch of {full:,}, whose step is above, is never run"
    words += f"; {len(ramp.points)} batch sizes simulated"
    if ramp.interpolation_error_frac is not None:
        words += f", the others interpolated within {numbers.percent(ramp.interpolation_error_frac)}"
    return words


def power_words(times: StepTimes) -> str:
    """What a GPU draws on the mean, and what the limit leaves of its speed; "" in documents that do not tell."""
    power = times.power
    if power is None:
        return ""
    slowest = min(rank.speed for rank in power.by_rank)
    speed = f"the slowest rank's chip at {slowest:.2f} of its burst speed" if power.limited else "not limited by it"
    energy = f"{power.kwh_per_step:,.3g} kWh a step"
    return f"power: a GPU draws {power.mean_w:.0f} W of {power.limit_w:.0f}, {speed}; all GPUs {energy}"


def fullest_rank(times: StepTimes) -> str:
    """The pipeline rank with the most work, and by how much, where the others wait for it; "" where ranks are even."""
    work = [times.step_s - rank.bubble_s - rank.optimizer_s for rank in times.by_rank]
    most, mean = max(work), fsum(work) / len(work)
    if most < UNEVEN * mean:
        return ""
    rank = times.by_rank[work.index(most)].pp_rank
    text = f"pipeline rank {rank} works {numbers.plain(most / mean)} times as long as a mean one, and the others wait for it"
    return f"{text}: parallel.layers_per_stage moves layers"


def packed_words(times: StepTimes) -> str:
    """What packed documents do to a step; "" where nothing is packed."""
    packed = times.documents
    if packed is None:
        return ""
    share = numbers.percent(packed.attended_frac)
    text = f"documents attend to themselves alone: {share} of the pairs of whole sequences"
    if packed.added_s <= 0:  # alike, or within the noise of a few draws
        return text
    longest, added = numbers.plain(packed.longest_over_mean), numbers.seconds(packed.added_s)
    return f"{text}; the longest takes {longest} times the mean's attention, which adds {added}"


def useful_words(times: StepTimes) -> str:
    """Throughput without padding; "" where there is none."""
    if times.useful_tokens_per_s_per_gpu is None or times.useful_tokens_per_step is None:
        return ""
    padding = numbers.percent(1.0 - times.useful_tokens_per_step / times.tokens_per_step)
    return (
        f"{numbers.whole(times.useful_tokens_per_s_per_gpu)} without the {padding} of padding, and the run counts these"
    )


def step_notes(times: StepTimes) -> list[str]:
    """What the interval is made of, and what packed documents and padding do, in whole sentences."""
    useful = useful_words(times)
    words = (
        interval_words(times), software_words(times), packed_words(times), f"tokens/s/GPU: {useful}" if useful else "",
    )  # fmt: skip
    return [f"{each[0].upper()}{each[1:]}." for each in words if each]


def moves(row: AssumptionRow, result: RunResult) -> bool:
    """Whether the effect is more than nothing, as it is printed."""
    effect, total = row.effect_on_gpu_hours, result.totals.gpu_hours.value
    if effect is None or not total:
        return False
    return any(numbers.signed_percent(end / total) != numbers.signed_percent(0.0) for end in (effect.low, effect.high))


def effect_size(row: AssumptionRow) -> float:
    """The larger end of the effect on the GPU-hours; 0 where not computed."""
    effect = row.effect_on_gpu_hours
    return 0.0 if effect is None else max(abs(effect.low), abs(effect.high))


NUM_RANGES: Final = 4
"""Ranges that are told of an interval, the greatest first."""


def interval_words(times: StepTimes) -> str:
    """What the step's interval is made of, the greatest first; "" in documents that do not tell it."""
    if not times.ranges:
        return ""
    told = (
        f"{range_words(part.what)}, {numbers.signed_percent_range(part.low, part.high)}"
        for part in times.ranges[:NUM_RANGES]
    )
    return f"the interval is mostly: {'; '.join(told)}"


def software_words(times: StepTimes) -> str:
    """How much narrower the interval would be with the software stated; "" where it is."""
    parts = times.ranges or ()
    others = [part for part in parts if part.what != "software.unknown"]
    if len(others) == len(parts):
        return ""
    was = times.interval.low / times.step_s - 1.0, times.interval.high / times.step_s - 1.0
    whole, rest = (sum_ends(map(as_source, each)) for each in (parts, others))
    # What the sources do together stays: their sum alone is known without the draws.
    ends = min(0.0, was[0] + rest[0] - whole[0]), max(0.0, was[1] + rest[1] - whole[1])
    before, now = (numbers.signed_percent_range(*each) for each in (was, ends))
    return (
        f"no framework is stated: naming one (moesim list frameworks) narrows the interval from {before} to about {now}"
    )


def range_of(row: AssumptionRow) -> str:
    """The ends of an assumption's range; "" where there is none."""
    return " to ".join(numbers.by_key(row.key, end) for end in (row.low, row.high) if end is not None)


def effect_of(row: AssumptionRow, result: RunResult) -> str:
    """Relative changes of the GPU-hours at the ends of the range; "" where not computed."""
    effect, total = row.effect_on_gpu_hours, result.totals.gpu_hours.value
    if effect is None or not total:
        return ""
    return " to ".join(numbers.signed_percent(end / total) for end in (effect.low, effect.high))


def cut(words: str, longest: int) -> str:
    """At most so many letters, the last a "…" where some are left out."""
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def estimate_range(found: Estimate) -> str:
    """The ends of its interval."""
    return numbers.amount_range(found.low, found.high)


def estimate(found: Estimate) -> str:
    """A value with the digits that its interval bears."""
    return numbers.quantity(found.value, found.interval.width / 2)


def label(value: Any) -> str:
    """A catalogue name, or the name of an inline mapping."""
    return str(value.get("name", "")) if isinstance(value, Mapping) else str(value)
