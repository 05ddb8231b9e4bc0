"""What the report says of the whole run: who and where, GPU-hours and money, what was assumed, how well founded it is.

Every section takes the result and the columns that it may fill, and gives what rich prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hwprofiles.stack_choice import STACK_KINDS
from simulator.report import numbers
from simulator.report.layout import bars, grid, needed_width, plain_table, shortened, text
from simulator.results.interval import Estimate
from simulator.results.placement_result import ExpertGroups
from simulator.results.run_result import PhaseResult, RunResult
from simulator.results.step_result import BASIS_NAMES, AssumptionRow

NUM_ASSUMPTIONS: Final = 8
MAX_VALUE_WIDTH: Final = 18
MAX_NAME_WIDTH: Final = 18
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
RUN_LENGTH: Final = "phases: [{name: pretrain, tokens: 1e12}]"
"""How a scenario says how long its run is."""


def _sharing(parallel: Mapping[str, Any]) -> list[str]:
    """What ranks share beside the degrees, where it is not the default."""
    shared = ["sp"] if parallel.get("sequence_parallel") else []
    zero = parallel.get("zero_stage", 1)
    return shared if zero == 1 else [*shared, f"zero{zero}"]


def _recomputed(granularity: str) -> str:
    return "" if granularity == "none" else f"{granularity} recompute"


def _micro_batches(training: Mapping[str, Any], dp: int) -> str:
    """', 32 micro-batches of 1': how many a pipeline runs in a step, and sequences of each."""
    size = training.get("micro_batch_size", 1)
    number = training.get("global_batch_size", 0) // (dp * size)
    return f", {number:,} micro-{'batch' if number == 1 else 'batches'} of {size:,}"


def heading(result: RunResult) -> RenderableType:
    """Who: model, machines, plan, stack; what a changed key dropped, and where the stack is of another kind than that of
    what the scenario came from.
    """
    cluster, parallel, training = (result.scenario.get(key, {}) for key in ("cluster", "parallel", "training"))
    dp = cluster.get("num_gpus", 1) // (parallel.get("tp", 1) * parallel.get("pp", 1))
    sizes = {**parallel, "dp": dp}
    degrees = [f"{axis}{sizes[axis]}" for axis in ("tp", "pp", "vpp", "dp", "ep", "etp") if sizes.get(axis, 1) > 1]
    model = result.model
    first = f"model {_name(result.scenario.get('model'))}, {numbers.amount(model.num_parameters)} parameters"
    first += f", {numbers.amount(model.num_active_parameters)} active"
    if model.num_mtp_parameters:
        first += f", {numbers.amount(model.num_mtp_parameters)} in MTP modules"
    second = [
        f"{cluster.get('num_gpus', 0):,} GPUs in {_name(cluster.get('node'))} on {_name(cluster.get('fabric'))}",
        " ".join([*degrees, *_sharing(parallel), str(parallel.get("schedule", ""))]),
        str(result.scenario.get("precision", {}).get("recipe", "")),
        _recomputed(result.scenario.get("recompute", {}).get("granularity", "none")),
    ]
    batch = f"{training.get('global_batch_size', 0):,} × {training.get('seq_len', 0):,} tokens a step"
    batch += _micro_batches(training, dp)
    stack = f"stack {result.stack}, {result.stack_kind}: {STACK_KINDS[result.stack_kind]}"
    lines = [
        Text.assemble(text(str(result.scenario.get("name", "")), "bold"), f"  {first}"),
        text(" · ".join(part for part in second if part)),
        text(f"{batch} · {stack}", "dim"),
    ]
    placed = placement_line(result)
    if placed:
        lines.append(text(placed, "dim"))
    if result.dropped:
        lines.append(text(f"dropped: {', '.join(result.dropped)}", "yellow"))
    base = result.base
    if base is not None and base.stack_kind != result.stack_kind:
        words = f"not to be compared as it is with {base.scenario}, which rests on {base.stack}, {base.stack_kind}"
        lines.append(text(f"{words}: they differ in kind, not only in hardware (see the warning)", "yellow"))
    return Group(*lines)


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


def run(result: RunResult, width: int) -> Iterable[RenderableType]:
    """GPU-hours, money and days; of a scenario that gives no run length, those of its one step."""
    totals, steady, first = result.totals, result.steady_state, result.phases[0]
    is_one_step = len(result.phases) == 1 and first.steps <= 1
    labels = ["", "GPU-hours", "90 % interval", "wall clock"]
    total = [_estimate(totals.gpu_hours), _range(totals.gpu_hours), numbers.seconds(totals.wall_s.value)]
    steady_wall_s = first.wall_s * steady.gpu_hours / first.gpu_hours if first.gpu_hours else 0.0
    full = [numbers.quantity(steady.gpu_hours), "", numbers.seconds(steady_wall_s)]
    if totals.cost_usd is not None and steady.cost_usd is not None:
        labels[3:3] = ["USD", "90 % interval"]
        total[2:2] = [_estimate(totals.cost_usd), _range(totals.cost_usd)]
        full[2:2] = [numbers.quantity(steady.cost_usd), ""]
    labels[0] = f"{numbers.amount(fsum(phase.tokens for phase in result.phases))} tokens"
    if is_one_step:
        yield grid(width, labels, [["one step", *total]], ["bold"])
        yield text(f"no longer run is given: write {RUN_LENGTH}", "dim")
        yield text(f"or --set '{RUN_LENGTH.replace(': ', '=', 1)}'", "dim")
    else:
        name = "" if len(result.phases) == 1 else f", {shortened(first.name, MAX_NAME_WIDTH)}"
        whole = "with the ramp" if any(phase.ramp for phase in result.phases) else "whole run"
        yield grid(width, labels, [[f"at full batch{name}", *full], [whole, *total]], ["", "bold"])
    yield from _run_notes(result)


def _run_notes(result: RunResult) -> Iterable[RenderableType]:
    per_trillion = numbers.amount(result.steady_state.gpu_hours_per_trillion_tokens)
    notes = [f"{per_trillion} GPU-hours per trillion tokens at full batch"]
    paid = result.totals.gpu_hours_paid
    if paid is not None:
        notes.append(f"{_estimate(paid)} GPU-hours with the idle GPUs that are paid for")
    if result.price is not None:
        sheet = (result.scenario.get("prices") or {}).get("sheet")
        origin = f" (prices of {sheet})" if sheet else ""
        notes.append(f"at {numbers.usd(result.price.usd_per_gpu_hour)} per GPU-hour{origin}")
    if not result.scenario.get("reliability"):
        notes.append("no failures, checkpoints or restarts")
    yield text(" · ".join(notes), "dim")
    full = result.scenario.get("training", {}).get("global_batch_size", 0)
    yield from (text(_ramp_note(phase, full), "dim") for phase in result.phases if phase.ramp is not None)


def _ramp_note(phase: PhaseResult, full: int) -> str:
    """What of the ramp is really run: all of it, or what a short phase has tokens for."""
    ramp = phase.ramp
    assert ramp is not None
    sizes = f"batch {ramp.first_global_batch_size:,} to {ramp.last_global_batch_size:,}"
    words = f"{phase.name}: {sizes} over {numbers.amount(ramp.tokens)} tokens, {numbers.whole(ramp.steps)} steps"
    if ramp.last_global_batch_size < full:
        words += f"; the phase ends inside its ramp: the full batch of {full:,}, whose step is above, is never run"
    words += f"; {len(ramp.points)} batch sizes simulated"
    if ramp.interpolation_error_frac is not None:
        words += f", the others interpolated within {numbers.percent(ramp.interpolation_error_frac)}"
    return words


def assumptions(result: RunResult, width: int) -> Iterable[RenderableType]:
    """The assumptions that move the GPU-hours, strongest first; how many others there are, and how to see theirs."""
    moving = sorted((row for row in result.assumptions if _moves(row, result)), key=_effect_size, reverse=True)
    shown = moving[:NUM_ASSUMPTIONS]
    if shown:
        yield _assumption_table([_assumption_cells(row, result) for row in shown], width)
    notes = []
    if len(moving) > len(shown):
        notes.append(f"{len(moving) - len(shown)} more move less")
    untold = [row.key for row in result.assumptions if row.effect_on_gpu_hours is None]
    if untold:
        keys = ", ".join(untold[:4]) + (", …" if len(untold) > 4 else "")
        words = "has" if len(untold) == 1 else "have"
        notes.append(f"{len(untold)} {words} no computed effect ({keys}): --set assumptions.KEY=VALUE shows it")
    still = len(result.assumptions) - len(moving) - len(untold)
    if still:
        notes.append(f"{still} {'moves' if still == 1 else 'move'} nothing here")
    if notes or shown:
        yield text(" · ".join([*notes, "all with their sources in the result document (--json)"]), "dim")


def _assumption_cells(row: AssumptionRow, result: RunResult) -> tuple[str, str, str, str]:
    """Key, value, range and effect as texts."""
    value = shortened(numbers.by_key(row.key, row.value), MAX_VALUE_WIDTH)
    ends = " to ".join(numbers.by_key(row.key, end) for end in (row.low, row.high) if end is not None)
    effect, total = row.effect_on_gpu_hours, result.totals.gpu_hours.value
    assert effect is not None
    changes = " to ".join(numbers.signed_percent(end / total) for end in (effect.low, effect.high))
    return row.key, value, ends, changes


def _assumption_table(cells: Sequence[tuple[str, str, str, str]], width: int) -> Table:
    """A line each where they fit; else value and range under the key."""
    headers = ("", "value", "range", "effect on GPU-hours")
    if needed_width(list(zip(headers, *cells, strict=True))) <= width:
        table = plain_table(*headers)
        for row in cells:
            table.add_row(*map(text, row))
        return table
    table = plain_table("value (range)", headers[-1])
    for key, value, ends, effect in cells:
        table.add_row(text(key), text(effect))
        table.add_row(text(f"  {value}{f' ({ends})' if ends else ''}", "dim"), "")
    return table


def basis(result: RunResult, width: int) -> Iterable[RenderableType]:
    """Shares of the time by where it comes from."""
    shares = {name: getattr(result.basis, name) for name in BASIS_NAMES if getattr(result.basis, name) > 0}
    percents = [numbers.percent(share) for share in shares.values()]
    words = [BASIS_WORDS[name] for name in shares]
    table = plain_table("", "", "", "")
    table.columns[2].justify = table.columns[3].justify = "left"
    taken = needed_width([list(shares), percents, words, ("",)])
    for name, percent, word, bar in zip(
        shares, percents, words, bars(list(shares.values()), width - taken), strict=True
    ):
        table.add_row(name, percent, text(word, "dim"), bar)
    yield table


def not_modelled(result: RunResult, width: int) -> Iterable[RenderableType]:
    """What a real run has and this result has not."""
    if not result.not_modelled:
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for each in result.not_modelled:
        table.add_row("-", text(each))
    yield table


def _moves(row: AssumptionRow, result: RunResult) -> bool:
    """Whether the effect is more than nothing, as it is printed."""
    effect, total = row.effect_on_gpu_hours, result.totals.gpu_hours.value
    if effect is None or not total:
        return False
    return any(numbers.signed_percent(end / total) != numbers.signed_percent(0.0) for end in (effect.low, effect.high))


def _effect_size(row: AssumptionRow) -> float:
    effect = row.effect_on_gpu_hours
    return 0.0 if effect is None else max(abs(effect.low), abs(effect.high))


def _range(estimate: Estimate) -> str:
    return numbers.amount_range(estimate.low, estimate.high)


def _estimate(estimate: Estimate) -> str:
    """A value with the digits that its interval bears."""
    return numbers.quantity(estimate.value, estimate.interval.width / 2)


def _name(value: Any) -> str:
    """A catalogue name, or the name of an inline mapping."""
    return str(value.get("name", "")) if isinstance(value, dict) else str(value)
