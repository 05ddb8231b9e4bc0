"""What fills each pipeline rank's memory: stacked bars by named tensor, beside what the device holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import plotly.graph_objects as go

from hwprofiles.units import GIGA
from simulator.report import numbers
from simulator.report.figures.literal import literal
from simulator.report.figures.look import mixed, themed
from simulator.report.frames.memory import tensors_of
from simulator.report.memory_words import KIND_WORDS, tensor_words, variant_words
from simulator.report.theme import MEMORY, PAGES, VERDICT, Mode
from simulator.results.memory_variants import MemoryVariants
from simulator.results.step_memory import MEMORY_KINDS, Memory, MemoryKind, StageTensor, Verdict

MAX_NAMES: Final = 9
"""Tensors with a colour of their own; the others of a kind stand together."""
SHADES: Final[Mapping[MemoryKind, tuple[float, float]]] = {
    "weights": (-0.45, 0.1),
    "gradients": (0.0, 0.6),
    "optimizer": (0.0, 0.5),
    "activations": (-0.25, 0.65),
    "buffers": (-0.2, 0.5),
}
"""From the largest tensor of a kind to the smallest: its colour darkened (below 0) or lightened (above)."""
DARK_SHARE: Final = 0.4
"""Of the darkening that is left on a dark page."""
HEADROOM: Final = 1.08
VARIANT_HEADROOM: Final = 1.6
"""Of the device's capacity: longer bars are cut, their words say how long they are."""
CUT: Final = " → beyond the axis"
VARIANT_HEIGHT: Final = 30
VARIANT_FRAME: Final = 70
HEIGHT: Final = 470


def memory_figure(memory: Memory, mode: Mode = "light") -> go.Figure:
    """Stacked bars a pipeline rank, the device's capacity and what of it is usable, what the fullest rank may need."""
    figure = go.Figure()
    ranks = [str(stage.pp_rank) for stage in memory.by_stage]
    for layer in _layers(memory, mode):
        figure.add_trace(
            go.Bar(
                x=ranks,
                y=[size / GIGA for size in layer.sizes],
                name=layer.words,
                customdata=layer.hover,
                hovertemplate="rank %{x}<br><b>%{fullData.name}</b><br>%{customdata}<extra></extra>",
                marker={"color": layer.colour, "line": {"color": PAGES[mode].background, "width": 0.6}},
            )
        )
    _add_need(figure, memory, mode)
    themed(figure, mode, height=HEIGHT)
    _add_limits(figure, memory, mode)
    figure.update_layout(
        barmode="stack", bargap=0.18, legend={"traceorder": "reversed", "x": 1.01, "y": 1, "yanchor": "top"},
        margin={"t": 34},
    )  # fmt: skip
    figure.update_xaxes(title_text="pipeline rank", type="category", showgrid=False, range=[-0.5, len(ranks) - 0.5])
    most = max(memory.capacity_bytes, memory.worst_stage.peak_bytes * (1 + memory.margin.high)) * HEADROOM
    figure.update_yaxes(title_text="GB on each GPU", range=[0, most / GIGA], tickformat=",")
    return figure


def variants_figure(memory: Memory, variants: MemoryVariants, mode: Mode = "light") -> go.Figure:
    """The fullest rank's peak under each variant, beside what of the device is usable; what cannot be has no bar."""
    page = PAGES[mode]
    rows = [each for each in variants.variants if each.memory is not None]
    labels = [f"{variant_words(each)}{' (as it is)' if each.is_current else ''}" for each in rows]
    peaks = [each.memory.peak_bytes for each in rows if each.memory is not None]
    colours = [_verdict_colour(each.memory.verdict, mode) for each in rows if each.memory is not None]
    verdicts = [each.memory.verdict for each in rows if each.memory is not None]
    longest = VARIANT_HEADROOM * memory.capacity_bytes
    figure = go.Figure(
        go.Bar(
            x=[min(peak, longest) / GIGA for peak in peaks],
            y=labels,
            orientation="h",
            marker={"color": colours},
            text=[
                f"{numbers.amount_of_bytes(peak)}, {verdict}{CUT if peak > longest else ''}"
                for peak, verdict in zip(peaks, verdicts, strict=True)
            ],
            textposition="auto",
            insidetextanchor="start",
            insidetextfont={"color": "#FFFFFF"},
            hovertemplate="%{y}<br>%{text}<extra></extra>",
        )
    )
    themed(figure, mode, height=VARIANT_HEIGHT * len(rows) + VARIANT_FRAME)
    colour = _limit_colour(mode)
    for bytes_held, line in (
        (memory.capacity_bytes, {"width": 2}),
        (memory.usable_bytes, {"width": 1.5, "dash": "dash"}),
    ):
        figure.add_vline(x=bytes_held / GIGA, line={"color": page.background, "width": 5})
        figure.add_vline(x=bytes_held / GIGA, line={"color": colour, **line})
    figure.update_layout(showlegend=False, bargap=0.25)
    figure.update_xaxes(title_text="GB on the fullest GPU (lines: device, usable)", range=[0, longest / GIGA * 1.02])
    figure.update_yaxes(autorange="reversed", showgrid=False, tickfont={"color": page.text})
    return figure


def variants_alt(variants: MemoryVariants) -> str:
    """The same in words."""
    told = [
        f"{variant_words(each)} {numbers.amount_of_bytes(each.memory.peak_bytes)}, {each.memory.verdict}"
        for each in variants.variants
        if each.memory is not None
    ]
    return f"Peak of the fullest rank: {'; '.join(told)}."


def _verdict_colour(verdict: Verdict, mode: Mode) -> str:
    """Dark enough for white words on it."""
    return VERDICT[verdict] if mode == "light" else mixed(VERDICT[verdict], "#FFFFFF", 0.12)


def _limit_colour(mode: Mode) -> str:
    return VERDICT["does not fit"] if mode == "light" else mixed(VERDICT["does not fit"], "#FFFFFF", 0.45)


def alt(memory: Memory) -> str:
    """The figure in words."""
    size, worst = numbers.amount_of_bytes, memory.worst_stage
    largest = ", ".join(f"{tensor_words(tensor.name)} {size(tensor.bytes)}" for tensor in tensors_of(worst)[:3])
    low, high = (size(worst.peak_bytes * (1 + end)) for end in (memory.margin.low, memory.margin.high))
    lowest = min(stage.peak_bytes for stage in memory.by_stage)
    return (
        f"Memory of {len(memory.by_stage)} pipeline ranks by tensor. Peaks from {size(lowest)} to {size(worst.peak_bytes)} "
        f"on rank {worst.pp_rank}; {size(memory.usable_bytes)} of the device's {size(memory.capacity_bytes)} are usable: "
        f"{memory.verdict}. Largest on rank {worst.pp_rank}: {largest}. With its margin that rank needs {low} to {high}."
    )


@dataclass(frozen=True, slots=True)
class _Layer:
    """One colour of the bars. sizes: bytes a rank; hover: texts a rank."""

    words: str
    colour: str
    sizes: tuple[int, ...]
    hover: tuple[str, ...]


def _layers(memory: Memory, mode: Mode) -> list[_Layer]:
    """By kind: the tensors with a colour of their own, largest first, then the others of the kind in one."""
    most: dict[tuple[MemoryKind, str], int] = {}
    for stage in memory.by_stage:
        for tensor in tensors_of(stage):
            key = (tensor.kind, tensor.name)
            most[key] = max(most.get(key, 0), tensor.bytes)
    named = [key for key in most if not key[1].endswith(".small")]
    shown = set(sorted(named, key=lambda key: (-most[key], key))[:MAX_NAMES])
    layers = []
    for kind in MEMORY_KINDS:
        own = sorted((key[1] for key in shown if key[0] == kind), key=lambda name: (-most[kind, name], name))
        rest = {key[1] for key in most if key[0] == kind and key not in shown}
        groups = [({name}, tensor_words(name)) for name in own]
        if len(rest) == 1:
            groups.append((rest, tensor_words(*rest)))
        elif rest:
            groups.append((rest, f"other {KIND_WORDS[kind]}" if own else KIND_WORDS[kind]))
        for place, (names, words) in enumerate(groups):
            found = [[each for each in tensors_of(stage) if each.name in names] for stage in memory.by_stage]
            sizes = tuple(sum(tensor.bytes for tensor in tensors) for tensors in found)
            layers.append(
                _Layer(literal(words), _shade(kind, place, len(groups), mode), sizes, tuple(map(_hover, found)))
            )
    return layers


def _hover(tensors: Sequence[StageTensor]) -> str:
    """Bytes; of several tensors also each."""
    lines = [numbers.amount_of_bytes(sum(tensor.bytes for tensor in tensors))]
    if len(tensors) > 1:
        lines += [f"{literal(tensor_words(tensor.name))} {numbers.amount_of_bytes(tensor.bytes)}" for tensor in tensors]
    return "<br>".join(lines)


def _shade(kind: MemoryKind, place: int, count: int, mode: Mode) -> str:
    """The place-th of `count` shades of a kind's colour; on a dark page none is as dark as the page."""
    first, last = SHADES[kind]
    shade = first + (last - first) * (place / (count - 1) if count > 1 else 0.5)
    if shade < 0 and mode == "dark":
        shade *= DARK_SHARE
    return mixed(MEMORY[kind], "#FFFFFF" if shade > 0 else "#000000", abs(shade))


def _add_need(figure: go.Figure, memory: Memory, mode: Mode) -> None:
    """What the fullest rank may need: its peak with the margin's range."""
    worst, margin = memory.worst_stage, memory.margin
    low, value, high = (worst.peak_bytes * (1 + end) for end in (margin.low, margin.value, margin.high))
    size = numbers.amount_of_bytes
    text = f"{size(value)} ({size(low)} to {size(high)})"
    figure.add_trace(
        go.Scatter(
            x=[str(worst.pp_rank)],
            y=[value / GIGA],
            error_y={
                "type": "data", "symmetric": False, "array": [(high - value) / GIGA],
                "arrayminus": [(value - low) / GIGA], "color": PAGES[mode].text, "thickness": 1.6, "width": 6,
            },
            mode="markers",
            marker={"color": PAGES[mode].text, "size": 7, "symbol": "diamond"},
            name="need of the fullest rank, with range",
            hovertemplate=f"rank {worst.pp_rank}<br><b>need with margin</b><br>{text}<extra></extra>",
        )
    )  # fmt: skip


def _add_limits(figure: go.Figure, memory: Memory, mode: Mode) -> None:
    """The device's capacity, what is usable, and the band between them, which the margin takes."""
    capacity, usable = memory.capacity_bytes / GIGA, memory.usable_bytes / GIGA
    colour = _limit_colour(mode)
    figure.add_hrect(y0=usable, y1=capacity, fillcolor=colour, opacity=0.14, line_width=0, layer="below")
    for height, line in ((capacity, {"width": 2}), (usable, {"width": 1.5, "dash": "dash"})):
        figure.add_hline(y=height, line={"color": PAGES[mode].background, "width": 5})  # stands out from bars behind it
        figure.add_hline(y=height, line={"color": colour, **line})
    size = numbers.amount_of_bytes
    words = f"device {size(memory.capacity_bytes)} · usable {size(memory.usable_bytes)} (dashed)"
    is_left = memory.by_stage.index(memory.worst_stage) * 2 < len(memory.by_stage)  # there the range of the need stands
    figure.add_annotation(
        x=int(is_left), xref="paper", xanchor="right" if is_left else "left", y=capacity, yanchor="bottom",
        text=words, showarrow=False, font={"color": colour, "size": 12}, bgcolor=PAGES[mode].background,
    )  # fmt: skip
