"""Runs beside a first one: the step from one to the other by category, and results in per cent of the base's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Final

import plotly.graph_objects as go

from simulator.report import numbers
from simulator.report.comparison_text import LABELS, largest_parts, names, step_change
from simulator.report.figures.literal import literal
from simulator.report.figures.look import ink, mixed, themed
from simulator.report.theme import PAGES, SERIES, Mode
from simulator.results.compared_figures import ChangedResult
from simulator.results.comparison import Comparison

NUM_PARTS: Final = 8
"""Categories that have a bar of their own; what is left stands in one."""
ROOM: Final = 0.35
"""Of what the bars span, free below the lowest of them where the axis does not begin at 0."""
FROM_ZERO: Final = 0.35
"""Of the longer step, from which span of the bars on the axis begins at 0."""
RESULTS: Final = (
    "step.step_s", "step.tokens_per_s_per_gpu", "step.mfu.bf16_dense_causal", "memory.peak_bytes_per_gpu", "totals.wall_s",
    "totals.gpu_hours", "totals.cost_usd", "totals.cost_usd_per_trillion_tokens",
)  # fmt: skip
"""Figures that are drawn in per cent of the base's; a base is never 0 in them."""
ALIKE: Final = 0.05
"""In per cent of the base: what differs less is drawn together."""
CUT: Final = 250
"""Per cent at which the axis ends: a run of ten times the length leaves room for the others."""
MAX_NAME: Final = 28


def faster_colour(mode: Mode) -> str:
    """Of what takes less time: blue, which stays apart from `slower_colour` for every reader."""
    return SERIES[0] if mode == "light" else SERIES[5]


def slower_colour(mode: Mode) -> str:
    """Of what takes more time: vermilion."""
    return SERIES[1] if mode == "light" else mixed(SERIES[1], "#FFFFFF", 0.25)


def waterfall_figure(comparison: Comparison, mode: Mode = "light", *, place: int = 0) -> go.Figure:
    """From the base's step to that of one of the others (by its place from 0), category by category, in seconds."""
    page = PAGES[mode]
    base, other = comparison.runs[0], comparison.runs[place + 1]
    parts = largest_parts(comparison.others[place].step_difference, NUM_PARTS)
    base_name, other_name = (_short(name) for name in (names(comparison)[0], names(comparison)[place + 1]))
    size, unit = numbers.time_unit(max(base.step_s, other.step_s))
    labels = [f"{base_name} ", *(words for words, _ in parts), f" {other_name}"]
    values = [base.step_s, *(seconds for _, seconds in parts), other.step_s]
    texts = [
        numbers.seconds(base.step_s),
        *(numbers.signed_seconds(seconds) for _, seconds in parts),
        numbers.seconds(other.step_s),
    ]
    figure = go.Figure(
        go.Waterfall(
            x=labels,
            y=[value / size for value in values],
            measure=["absolute", *["relative"] * len(parts), "total"],
            text=texts,
            textposition="outside",
            textfont={"size": 12},
            constraintext="none",
            cliponaxis=False,
            hovertemplate="%{x}<br><b>%{text}</b><extra></extra>",
            connector={"line": {"color": page.line, "width": 1}},
            increasing={"marker": {"color": slower_colour(mode)}},
            decreasing={"marker": {"color": faster_colour(mode)}},
            totals={"marker": {"color": page.muted}},
        )
    )
    themed(figure, mode)
    low, high = _span([base.step_s, *(seconds for _, seconds in parts)])
    bottom = _bottom(low, high)
    figure.update_layout(showlegend=False, margin={"t": 34, "b": 12}, waterfallgap=0.35)
    figure.update_xaxes(showgrid=False, tickangle=-30 if len(labels) > 5 else 0)
    note = "" if bottom == 0 else " (axis cut)"
    figure.update_yaxes(
        title_text=f"step in {unit}{note}",
        range=[bottom / size, (high + 0.14 * (high - bottom)) / size],
        zeroline=False,
    )
    return figure


def waterfall_alt(comparison: Comparison, place: int = 0) -> str:
    """The waterfall in words."""
    parts = ", ".join(
        f"{words} {numbers.signed_seconds(s)}"
        for words, s in largest_parts(comparison.others[place].step_difference, NUM_PARTS)
    )
    base, other = names(comparison)[0], names(comparison)[place + 1]
    return f"From the step of {base} to that of {other}: {parts or 'no difference'}. {step_change(comparison, place)}"


def results_figure(comparison: Comparison, mode: Mode = "light") -> go.Figure:
    """Results of the others in per cent of the base's, with their 90 % intervals; a line at 100 %."""
    page = PAGES[mode]
    figure = go.Figure()
    lanes = _lanes(comparison)
    for place, name in enumerate(names(comparison)[1:]):
        ends = [lane.ends[place] for lane in lanes]
        figure.add_trace(
            go.Bar(
                orientation="h",
                name=_short(name),
                y=[lane.label for lane in lanes],
                x=[value for _, value, _ in ends],
                text=[numbers.percent(value / 100) for _, value, _ in ends],
                textposition="auto",
                textangle=0,
                constraintext="none",
                insidetextanchor="start",
                insidetextfont={"color": ink(SERIES[place % len(SERIES)])},
                outsidetextfont={"color": page.text},
                marker={"color": SERIES[place % len(SERIES)]},
                error_x={
                    "type": "data", "symmetric": False, "array": [high - value for _, value, high in ends],
                    "arrayminus": [value - low for low, value, _ in ends], "color": page.text, "thickness": 1, "width": 3,
                },
                hovertemplate="%{y}<br><b>%{text}</b> of the base<extra></extra>",
            )
        )  # fmt: skip
    lines = max((len(lane.keys) for lane in lanes), default=1)
    themed(figure, mode, height=110 + len(lanes) * max(30 * len(comparison.others) + 10, 17 * lines + 8))
    figure.add_vline(x=100, line={"color": page.text, "width": 1.5, "dash": "dash"})
    several = len(comparison.others) > 1
    figure.update_layout(
        barmode="group", bargap=0.3, showlegend=several, margin={"t": 44 if several else 16},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    base, longest = (
        _short(names(comparison)[0]),
        max((end for lane in lanes for each in lane.ends for end in each), default=100),
    )
    cut = f", cut at {CUT}" if longest > CUT else ""
    figure.update_xaxes(title_text=f"% of {base}{cut}", range=[0, min(CUT, 1.05 * longest)])
    return figure


def results_alt(comparison: Comparison) -> str:
    """The bars in words."""
    lanes = _lanes(comparison)
    texts = []
    for place, name in enumerate(names(comparison)[1:]):
        parts = [
            f"{' and '.join(LABELS[key] for key in lane.keys)} {numbers.percent(lane.ends[place][1] / 100)}"
            for lane in lanes
        ]
        texts.append(f"{name}: {', '.join(parts) or 'no figure differs'}")
    return f"Results in per cent of those of {names(comparison)[0]}. {'. '.join(texts)}."


def _span(steps: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest level that the bars reach. steps: the first level, then what each adds."""
    levels = [fsum(steps[: place + 1]) for place in range(len(steps))]
    return min(levels), max(levels)


def _bottom(low: float, high: float) -> float:
    """Where the axis begins: at 0 unless the parts would be slivers then."""
    span = high - low
    return 0.0 if span > FROM_ZERO * high or span == 0 else max(0.0, low - ROOM * span)


@dataclass(frozen=True, slots=True)
class _Lane:
    """Figures that changed alike, in one row of bars. ends: of each of the others (low, value, high) in per cent."""

    keys: tuple[str, ...]
    ends: tuple[tuple[float, float, float], ...]

    @property
    def label(self) -> str:
        """Their names, a line each."""
        return "<br>".join(LABELS[key] for key in self.keys)


def _lanes(comparison: Comparison) -> list[_Lane]:
    """The figures that at least one of the others changed and the base has; those that changed alike together."""
    rows = [{row.key: row for row in beside.results} for beside in comparison.others]
    lanes: list[_Lane] = []
    for key in RESULTS:
        if all(found.get(key) is None or found[key].relative is None for found in rows):
            continue
        ends = tuple(_ends(found.get(key)) for found in rows)
        alike = next((lane for lane in lanes if _is_alike(lane.ends, ends)), None)
        if alike is None:
            lanes.append(_Lane((key,), ends))
        else:
            lanes[lanes.index(alike)] = _Lane((*alike.keys, key), alike.ends)
    return lanes


def _is_alike(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    pairs = [pair for each, same in zip(one, other, strict=True) for pair in zip(each, same, strict=True)]
    return all(abs(a - b) < ALIKE for a, b in pairs)


def _ends(row: ChangedResult | None) -> tuple[float, float, float]:
    """(low, value, high) in per cent of the base's value; 100 where it is the same."""
    if row is None or row.relative is None:
        return 100.0, 100.0, 100.0
    value = 100.0 * row.to / row.from_
    if row.to_interval is None:
        return value, value, value
    return 100.0 * row.to_interval.low / row.from_, value, 100.0 * row.to_interval.high / row.from_


def _short(name: str) -> str:
    """A name that stands under a bar, its end (which may be its number) kept; it is text, never markup."""
    return literal(name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 7]}…{name[-6:]}")
