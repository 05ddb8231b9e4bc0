"""The terminal report of a run, in the order of the questions that people ask: does it fit, how long is a step, how
good is that, what holds it back, what does the run cost, what was assumed, how well founded is it, what is left out.

Plain text where the output is no terminal or NO_COLOR is set; never wider than MAX_WIDTH columns; ASCII where the
encoding has nothing else. Numbers come from `report.numbers`; nothing is computed here but shares and sums of what is
printed.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simulator.report import numbers
from simulator.results.interval import Estimate, Interval
from simulator.results.run_result import RunResult
from simulator.results.step_result import BASIS_NAMES, PART_NAMES, AssumptionRow

MAX_WIDTH: Final = 100
MIN_WIDTH: Final = 60
NUM_CATEGORIES: Final = 8
NUM_BINDINGS: Final = 5
NUM_ASSUMPTIONS: Final = 8
BAR_WIDTH: Final = 24
MAX_VALUE_WIDTH: Final = 18

PART_WORDS: Final = {
    "forward_s": "forward",
    "backward_s": "backward",
    "weight_s": "weights",
    "overlapped_f_b_s": "F&B pairs",
    "bubble_s": "bubble",
    "optimizer_s": "optimizer",
    "other_s": "other",
}
MEMORY_WORDS: Final = {
    "weights_bytes": "weights",
    "gradients_bytes": "gradients",
    "optimizer_bytes": "optimizer",
    "activations_bytes": "activations",
    "buffers_bytes": "buffers",
}
ASCII: Final = str.maketrans({"µ": "u", "·": "-", "×": "x", "…": "~", "�": "?", **dict.fromkeys("█▉▊▋▌▍▎▏", "#")})
"""What stands for the report's own characters where the output cannot show them."""


def print_run(result: RunResult, file: TextIO | None = None, width: int | None = None) -> None:
    """Writes the report to `file` (default: standard output), `width` columns wide (default: the terminal's, at most
    100).
    """
    out = sys.stdout if file is None else file
    encoding = getattr(out, "encoding", None) or "utf-8"
    is_terminal = bool(getattr(out, "isatty", lambda: False)())
    columns = width or (shutil.get_terminal_size((MAX_WIDTH, 24)).columns if is_terminal else MAX_WIDTH)
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=min(max(columns, MIN_WIDTH), MAX_WIDTH),
        force_terminal=is_terminal,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(run_report(result))
    lines = (line.rstrip() for line in buffer.getvalue().splitlines())
    text = "\n".join(lines) + "\n"
    if not _can_encode(text, encoding):
        text = text.translate(ASCII).encode(encoding, errors="replace").decode(encoding)
    out.write(text)


def run_report(result: RunResult) -> RenderableType:
    """The whole report as one rich renderable."""
    sections: tuple[tuple[str, Callable[[RunResult], Iterable[RenderableType]]], ...] = (
        ("Memory", _memory),
        ("Step", _step),
        ("Throughput", _throughput),
        ("What binds", _binding),
        ("Run", _run),
        ("Assumptions that matter most", _assumptions),
        ("Where the step time comes from", _basis),
        ("Not modelled", _not_modelled),
    )
    parts: list[RenderableType] = [_heading(result)]
    for title, section in sections:
        body = list(section(result))
        if body:
            parts += [Text(), Text(title, style="bold cyan"), *(Padding(each, (0, 0, 0, 2)) for each in body)]
    return Group(*parts)


def _heading(result: RunResult) -> RenderableType:
    """Who: model, machines, plan, in two lines."""
    cluster, parallel, training = (result.scenario.get(key, {}) for key in ("cluster", "parallel", "training"))
    axes = [axis for axis in ("tp", "cp", "pp", "vpp", "ep", "etp") if parallel.get(axis, 1) > 1]
    degrees = [f"{axis}{parallel[axis]}" for axis in axes]
    model = result.model
    first = f"{numbers.amount(model.num_parameters)} parameters, {numbers.amount(model.num_active_parameters)} active"
    if model.num_mtp_parameters:
        first += f", {numbers.amount(model.num_mtp_parameters)} in MTP modules"
    second = [
        f"{cluster.get('num_gpus', 0):,} GPUs in {_name(cluster.get('node'))}",
        " ".join([*degrees, str(parallel.get("schedule", ""))]),
        str(result.scenario.get("precision", {}).get("recipe", "")),
        f"{training.get('global_batch_size', 0):,} × {training.get('seq_len', 0):,} tokens a step",
    ]
    title = Text.assemble(_text(str(result.scenario.get("name", "")), "bold"), f"  {first}")
    return Group(title, _text(" · ".join(part for part in second if part)), _text(f"stack {result.stack}", "dim"))


def _memory(result: RunResult) -> Iterable[RenderableType]:
    memory = result.memory
    worst, margin = memory.worst_stage, memory.usable_bytes - memory.peak_bytes_per_gpu
    verdict = Text("fits", style="bold green") if memory.fits else Text("does not fit", style="bold red")
    share = numbers.percent(abs(margin) / memory.usable_bytes)
    line = Text.assemble(
        verdict,
        f", {numbers.amount_of_bytes(abs(margin))} ({share}) {'to spare' if memory.fits else 'too much'}: "
        f"{numbers.amount_of_bytes(worst.peak_bytes)} of {numbers.amount_of_bytes(memory.usable_bytes)} usable "
        f"on the fullest rank, {worst.pp_rank}",
    )
    yield line
    parts = [f"{word} {numbers.amount_of_bytes(getattr(worst, key))}" for key, word in MEMORY_WORDS.items()]
    yield Text(" · ".join(parts), style="dim")


def _step(result: RunResult) -> Iterable[RenderableType]:
    step = result.step
    yield Text.assemble(
        (numbers.step_time(step.step_s, step.interval), "bold"),
        f" for {numbers.amount(step.tokens_per_step)} tokens; 90 % interval in brackets",
    )
    if step.interval.width == 0:
        yield Text("the interval has no width: no range was carried through to it", style="dim")
    yield _parts_table(result)
    if step.exposed_comm_s is not None:
        exposed = f"{numbers.seconds(step.exposed_comm_s)} ({numbers.percent(step.exposed_comm_s / step.step_s)})"
        yield Text(f"exposed communication {exposed}, inside these parts", style="dim")
    if step.by_category:
        yield Text()
        yield _category_table(result)


def _parts_table(result: RunResult) -> Table:
    """Parts of the step by rank; parts that no rank has are left out."""
    step = result.step
    names = [name for name in PART_NAMES if any(getattr(rank, name) > 0 for rank in step.by_rank)]
    rows = (("rank 0", step.parts.edge), ("middle", step.parts.middle), ("mean", step.parts.mean))
    unit, _ = numbers.column_of_seconds([], step.step_s)
    table = _table(f"in {unit}", *(PART_WORDS[name] for name in names), "step")
    for label, part in rows:
        durations = [*(getattr(part, name) for name in names), step.step_s]
        table.add_row(label, *numbers.column_of_seconds(durations, step.step_s)[1])
    shares = [numbers.percent(getattr(step.parts.mean, name) / step.step_s) for name in names]
    table.add_row("share", *shares, numbers.percent(1.0), style="dim")
    return table


def _category_table(result: RunResult) -> Table:
    """Kernel categories with bars, the longest first; what is below the first eight in one row."""
    ranked = sorted(result.step.by_category, key=lambda each: -each.seconds)
    shown, rest = ranked[:NUM_CATEGORIES], ranked[NUM_CATEGORIES:]
    rows = [(each.category, each.seconds, each.share) for each in shown]
    if rest:
        label = f"{len(rest)} more"
        rows.append((label, sum(each.seconds for each in rest), sum(each.share for each in rest)))
    longest = max(share for _, _, share in rows) or 1.0
    unit, durations = numbers.column_of_seconds([duration for _, duration, _ in rows], result.step.step_s)
    table = _table("by category", f"in {unit}", "share", "")
    table.columns[-1].justify = "left"
    for (category, _, share), duration in zip(rows, durations, strict=True):
        bar = Text(numbers.bar(share / longest, BAR_WIDTH), style="cyan")
        table.add_row(_text(category), duration, numbers.percent(share), bar)
    return table


def _throughput(result: RunResult) -> Iterable[RenderableType]:
    step = result.step
    yield Text.assemble((f"{numbers.plain(step.tokens_per_s_per_gpu)} tokens/s/GPU", "bold"))
    table = _table("attention counted as", "TFLOP/s a GPU", "MFU (dense BF16 peak)", "model FLOP a token")
    for label, tflops, mfu, flop in (
        ("causal", step.tflops.causal, step.mfu.bf16_dense_causal, step.model_flop_per_token.causal),
        ("non-causal", step.tflops.noncausal, step.mfu.bf16_dense_noncausal, step.model_flop_per_token.noncausal),
    ):
        table.add_row(label, numbers.tflops(tflops), numbers.percent(mfu), numbers.flop(flop))
    yield table
    if result.model.num_mtp_parameters:
        yield Text("MTP left out of both, as DeepSeek counts; its time is in the step", style="dim")


def _binding(result: RunResult) -> Iterable[RenderableType]:
    bindings = sorted(result.step.binding, key=lambda each: -each.seconds)[:NUM_BINDINGS]
    if not bindings:
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=2)
    table.add_column(ratio=5)
    unit, durations = numbers.column_of_seconds([each.seconds for each in bindings], result.step.step_s)
    for place, (each, duration) in enumerate(zip(bindings, durations, strict=True), start=1):
        table.add_row(str(place), f"{duration} {unit}", _text(each.what, "bold" if place == 1 else ""), _text(each.why))
    yield table


def _run(result: RunResult) -> Iterable[RenderableType]:
    totals, steady, first = result.totals, result.steady_state, result.phases[0]
    tokens = f"{numbers.amount(sum(phase.tokens for phase in result.phases))} tokens"
    money_headers: tuple[str, ...] = ()
    steady_money: tuple[str, ...] = ()
    total_money: tuple[str, ...] = ()
    if totals.cost_usd is not None and steady.cost_usd is not None:
        money_headers = ("USD", "90 % interval")
        steady_money = (numbers.amount(steady.cost_usd), "")
        total_money = (_estimate(totals.cost_usd), _range(totals.cost_usd))
    table = _table(tokens, "GPU-hours", "90 % interval", *money_headers, "wall clock")
    steady_wall_s = first.wall_s * steady.gpu_hours / first.gpu_hours
    label = "steady state" if len(result.phases) == 1 else f"steady state, {first.name}"
    hours = numbers.amount(steady.gpu_hours)
    table.add_row(_text(label), hours, "", *steady_money, numbers.seconds(steady_wall_s))
    label = "with the ramp" if any(phase.ramp for phase in result.phases) else "whole run"
    hours, wall = _estimate(totals.gpu_hours), numbers.seconds(totals.wall_s.value)
    table.add_row(label, hours, _range(totals.gpu_hours), *total_money, wall, style="bold")
    yield table
    yield from _run_notes(result)


def _run_notes(result: RunResult) -> Iterable[RenderableType]:
    per_trillion = numbers.amount(result.steady_state.gpu_hours_per_trillion_tokens)
    notes = [f"{per_trillion} GPU-hours per trillion tokens in steady state"]
    prices = result.scenario.get("prices") or {}
    if prices.get("usd_per_gpu_hour") is not None:
        notes.append(f"at {numbers.usd(prices['usd_per_gpu_hour'])} per GPU-hour")
    elif prices.get("sheet"):
        notes.append(f"prices of {prices['sheet']}")
    if not result.scenario.get("reliability"):
        notes.append("no failures, checkpoints or restarts")
    yield _text(" · ".join(notes), "dim")
    for phase in result.phases:
        ramp = phase.ramp
        if ramp is None:
            continue
        first, last = ramp.points[0], ramp.points[-1]
        text = (
            f"{phase.name}: batch {first.global_batch_size:,} to {last.global_batch_size:,} over "
            f"{numbers.amount(ramp.tokens)} tokens, {numbers.whole(ramp.steps)} steps, {len(ramp.points)} simulated"
        )
        if ramp.interpolation_error_frac is not None:
            text += f", interpolated within {numbers.percent(ramp.interpolation_error_frac)}"
        yield _text(text, "dim")


def _assumptions(result: RunResult) -> Iterable[RenderableType]:
    ranked = sorted(result.assumptions, key=_effect_size, reverse=True)
    # Those that move nothing (the memory model's move no time) matter least; a run without effects shows the first ones.
    shown = [each for each in ranked if _effect_size(each) != 0.0][:NUM_ASSUMPTIONS]
    if not shown:
        return
    has_effect = any(each.effect_on_gpu_hours for each in shown)
    table = _table("", "value", "range", *(("effect on GPU-hours",) if has_effect else ()))
    for each in shown:
        effect = (_effect(each.effect_on_gpu_hours, result),) if has_effect else ()
        value = _text(_shortened(numbers.by_key(each.key, each.value)))
        ends = (numbers.by_key(each.key, end) for end in (each.low, each.high) if end is not None)
        table.add_row(_text(each.key), value, _text(" to ".join(ends)), *effect)
    yield table
    rest = len(ranked) - len(shown)
    notes = [f"sources{f' and {rest} more' if rest else ''} in the result document"]
    if not has_effect:
        notes.append("effects not computed: in the document's order")
    yield Text(" · ".join(notes), style="dim")


def _basis(result: RunResult) -> Iterable[RenderableType]:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name in BASIS_NAMES:
        share = getattr(result.basis, name)
        if share > 0:
            table.add_row(name, numbers.percent(share), Text(numbers.bar(share, BAR_WIDTH), style="cyan"))
    yield table


def _not_modelled(result: RunResult) -> Iterable[RenderableType]:
    if not result.not_modelled:
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for each in result.not_modelled:
        table.add_row("-", _text(each))
    yield table


def _text(words: str, style: str = "") -> Text:
    """Text from a scenario or a document: without characters that would steer the terminal."""
    return Text("".join(letter if letter.isprintable() else "�" for letter in words), style=style)


def _shortened(words: str) -> str:
    return words if len(words) <= MAX_VALUE_WIDTH else words[: MAX_VALUE_WIDTH - 1] + "…"


def _table(*headers: str) -> Table:
    """A table without lines: first column left, the others right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, header in enumerate(headers):
        table.add_column(header, justify="left" if place == 0 else "right", no_wrap=place > 0)
    return table


def _effect_size(row: AssumptionRow) -> float:
    effect = row.effect_on_gpu_hours
    return -1.0 if effect is None else max(abs(effect.low), abs(effect.high))


def _effect(effect: Interval | None, result: RunResult) -> str:
    if effect is None:
        return ""
    total = result.totals.gpu_hours.value
    return f"{numbers.signed_percent(effect.low / total)} to {numbers.signed_percent(effect.high / total)}"


def _range(estimate: Estimate) -> str:
    return numbers.amount_range(estimate.low, estimate.high)


def _estimate(estimate: Estimate) -> str:
    """A value with the digits that its interval bears."""
    return numbers.amount(estimate.value, estimate.interval.width / 2)


def _name(value: Any) -> str:
    """A catalogue name, or the name of an inline mapping."""
    return str(value.get("name", "")) if isinstance(value, dict) else str(value)


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
