"""What the report says of one step: does it fit, how long it takes, how good that is, what holds it back.

Every section takes the result and the columns that it may fill, and gives what rich prints.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from simulator.report import facts, numbers
from simulator.report.layout import bars, grid, needed_width, plain_table, text
from simulator.results.run_result import RunResult
from simulator.results.step_result import PART_NAMES, CategoryTime

NUM_CATEGORIES: Final = 8
NUM_BINDINGS: Final = 5

VERDICT_STYLES: Final = {"fits": "bold green", "marginal": "bold yellow", "does not fit": "bold red"}


def memory(result: RunResult, width: int) -> Iterable[RenderableType]:
    """The verdict, the margin, and what fills the fullest rank."""
    used = result.memory
    worst, margin = used.worst_stage, used.usable_bytes - used.peak_bytes_per_gpu
    verdict = Text(used.verdict, style=VERDICT_STYLES[used.verdict])
    share = numbers.percent(abs(margin) / used.usable_bytes)
    yield Text.assemble(
        verdict,
        f", {numbers.amount_of_bytes(abs(margin))} ({share}) {'to spare' if used.fits else 'too much'}: "
        f"{numbers.amount_of_bytes(worst.peak_bytes)} of {numbers.amount_of_bytes(used.usable_bytes)} usable "
        f"on the fullest rank, {worst.pp_rank}",
    )
    parts = [f"{word} {numbers.amount_of_bytes(getattr(worst, key))}" for key, word in facts.MEMORY_WORDS.items()]
    yield Text(" · ".join(parts), style="dim")
    if used.host_capacity_bytes is not None:
        held, room = used.most_host_bytes, used.host_capacity_bytes
        text = f"the host holds {numbers.amount_of_bytes(held)} for a GPU, whose share of it is {numbers.amount_of_bytes(room)}"
        yield Text(f"{text}: too little" if held > room else text, style="bold red" if held > room else "dim")
    low, high = (numbers.amount_of_bytes(worst.peak_bytes * (1 + end)) for end in (used.margin.low, used.margin.high))
    yield Text(
        f"with the allocator's fragments, libraries and the error of the estimate it needs {low} to {high} of the device's "
        f"{numbers.amount_of_bytes(used.capacity_bytes)}",
        style="dim",
    )


def step(result: RunResult, width: int) -> Iterable[RenderableType]:
    """The step time with its interval, its parts by rank and its time by category."""
    times = result.step
    yield Text.assemble(
        (numbers.step_time(times.step_s, times.interval), "bold"),
        f" for {numbers.amount(times.tokens_per_step)} tokens; 90 % interval in brackets",
    )
    if times.interval.width == 0:
        yield Text("the interval has no width: no range was carried through to it", style="dim")
    for words in (facts.interval_words(times), facts.software_words(times)):
        if words:
            yield Text(words, style="dim")
    names = [name for name in PART_NAMES if any(getattr(rank, name) > 0 for rank in times.by_rank)]
    yield _parts_table(result, names, width)
    legends = [facts.PART_LEGENDS[name] for name in names if name in facts.PART_LEGENDS]
    if times.exposed_comm_s is not None:
        share = numbers.percent(times.exposed_comm_s / times.step_s)
        legends.append(f"exposed communication {numbers.seconds(times.exposed_comm_s)} ({share}), inside these parts")
    if legends:
        yield Text(" · ".join(legends), style="dim")
    if power := facts.power_words(times):
        yield Text(power, style="dim")
    if packed := facts.packed_words(times):
        yield Text(packed, style="dim")
    if uneven := facts.fullest_rank(times):
        yield Text(uneven, style="yellow")
    if times.by_category:
        yield Text()
        yield _category_table(result, width)
        there = [name for name in facts.CATEGORY_LEGENDS if any(each.category == name for each in _largest(result)[0])]
        legends = [f"{name}: {facts.CATEGORY_LEGENDS[name]}" for name in there]
        yield Text(" · ".join(["of a mean rank; sums to the step", *legends]), style="dim")


def _parts_table(result: RunResult, names: list[str], width: int) -> Table:
    """Parts of the step by rank; parts that no rank has are left out."""
    parts, step_s = result.step.parts, result.step.step_s
    unit, _ = numbers.column_of_seconds([], step_s)
    rows = []
    for label, part in (("rank 0", parts.edge), ("middle", parts.middle), ("mean", parts.mean)):
        durations = [*(getattr(part, name) for name in names), step_s]
        rows.append([label, *numbers.column_of_seconds(durations, step_s)[1]])
    shares = [numbers.percent(getattr(parts.mean, name) / step_s) for name in names]
    rows.append(["share", *shares, numbers.percent(1.0)])
    return grid(width, [f"in {unit}", *(facts.PART_WORDS[name] for name in names), "step"], rows, ["", "", "", "dim"])


def _largest(result: RunResult) -> tuple[list[CategoryTime], list[CategoryTime]]:
    """The categories that are shown, the longest first, and the others."""
    ranked = sorted(result.step.by_category, key=lambda each: -each.seconds)
    return ranked[:NUM_CATEGORIES], ranked[NUM_CATEGORIES:]


def _category_table(result: RunResult, width: int) -> Table:
    """Kernel categories with bars, the longest first; what is below the first eight in one row."""
    shown, rest = _largest(result)
    rows = [(each.category, each.seconds, each.share) for each in shown]
    if rest:
        label = f"{len(rest)} more"
        rows.append((label, fsum(each.seconds for each in rest), fsum(each.share for each in rest)))
    unit, durations = numbers.column_of_seconds([duration for _, duration, _ in rows], result.step.step_s)
    headers, shares = ("by category", f"in {unit}", "share", ""), [numbers.percent(share) for _, _, share in rows]
    labels = [label for label, _, _ in rows]
    taken = needed_width([(headers[0], *labels), (headers[1], *durations), (headers[2], *shares), ("",)])
    table = plain_table(*headers)
    table.columns[-1].justify = "left"
    for label, duration, share, bar in zip(
        labels, durations, shares, bars([share for _, _, share in rows], width - taken), strict=True
    ):
        table.add_row(text(label), duration, share, bar)
    return table


def throughput(result: RunResult, width: int) -> Iterable[RenderableType]:
    """Tokens a second, and the model's FLOP under both conventions."""
    times = result.step
    useful = facts.useful_words(times)
    rate = f"{numbers.whole(times.tokens_per_s_per_gpu)} tokens/s/GPU"
    yield Text.assemble((rate, "bold"), f", {useful}" if useful else "")
    rows = [
        [label, numbers.tflops(tflops), numbers.percent(mfu), numbers.flop(flop)]
        for label, tflops, mfu, flop in (
            (
                label,
                getattr(times.tflops, name),
                getattr(times.mfu, f"bf16_dense_{name}"),
                getattr(times.model_flop_per_token, name),
            )
            for label, name in (("causal", "causal"), ("non-causal", "noncausal"), ("inside documents", "attended"))
        )
        if tflops is not None
    ]
    headers = ["attention counted as", "TFLOP/s a GPU", "MFU (dense BF16 peak)", "model FLOP a token"]
    yield grid(width, headers, rows, [""] * len(rows))
    legend = "MFU: the model's own FLOP over what the GPU could do at its peak"
    if result.model.num_mtp_parameters:
        legend += " · MTP left out of both, as DeepSeek counts; its time is in the step"
    yield Text(legend, style="dim")


def binding(result: RunResult, width: int) -> Iterable[RenderableType]:
    """What the step would gain by each thing that holds it back, strongest first."""
    bindings = sorted(result.step.binding, key=lambda each: -each.seconds)[:NUM_BINDINGS]
    if not bindings:
        return
    words = "what the step would gain if this alone were free: a what-if, no part of the step, so not the seconds above"
    yield Text(words, style="dim")
    table = plain_table("", "", "", "")
    table.columns[2].justify = table.columns[3].justify = "left"
    table.columns[3].no_wrap = False
    unit, durations = numbers.column_of_seconds([each.seconds for each in bindings], result.step.step_s)
    for place, (each, duration) in enumerate(zip(bindings, durations, strict=True), start=1):
        what = text(each.what, "bold" if place == 1 else "")
        table.add_row(str(place), f"{duration} {unit}", what, text(each.why))
    yield table
