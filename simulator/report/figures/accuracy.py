"""Predicted against measured speeds, and how the errors are spread by GPU."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import plotly.graph_objects as go

from simulator.report import numbers
from simulator.report.accuracy import AccuracyRow, accuracy_of, measured_gpus, units_of
from simulator.report.figures.literal import literal
from simulator.report.figures.look import mixed, themed
from simulator.report.theme import PAGES, SERIES, Mode

SYMBOLS: Final = {
    "tokens/s/GPU": ("circle", "●"),
    "MFU": ("triangle-up", "▲"),
    "steps/s": ("diamond", "◆"),
    "TFLOP/s/GPU": ("square", "■"),
}
"""Unit of a speed → plotly's symbol, and the letter that looks like it."""
BAND: Final = 0.1
HEIGHT: Final = 460
LANE: Final = 44


def scatter_figure(rows: Sequence[AccuracyRow], mode: Mode = "light") -> go.Figure:
    """Predicted against measured speed, each in its own unit, log by log, with 90 % intervals; equality and ±10 % around it."""
    page = PAGES[mode]
    figure = go.Figure()
    if rows:
        _add_band(figure, rows, mode)
    colours = gpu_colours(rows, mode)
    for gpu, colour in colours.items():
        own = [row for row in rows if row.gpu == gpu]
        ends = [row.speeds for row in own]
        figure.add_trace(
            go.Scatter(
                x=[measured for measured, *_ in ends],
                y=[predicted for _, predicted, *_ in ends],
                error_y={
                    "type": "data", "symmetric": False, "array": [high - value for _, value, _, high in ends],
                    "arrayminus": [value - low for _, value, low, _ in ends], "thickness": 1, "width": 0,
                    "color": mixed(colour, page.background, 0.5),
                },
                mode="markers",
                name=gpu,
                marker={
                    "color": colour, "size": 8, "symbol": [SYMBOLS[row.unit][0] for row in own],
                    "line": {"color": page.background, "width": 0.7},
                },
                customdata=[hover(row) for row in own],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )  # fmt: skip
    themed(figure, mode, height=HEIGHT)
    axis = {"type": "log", "exponentformat": "none", "separatethousands": True, "dtick": 1}
    figure.update_xaxes(title_text=f"measured{_axis(rows)}", **axis)
    figure.update_yaxes(title_text="predicted", **axis)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return figure


def scatter_alt(rows: Sequence[AccuracyRow]) -> str:
    """The scatter in words."""
    found = accuracy_of(rows)
    if found is None:
        return "No measured run is chosen."
    near = sum(abs(row.speed_error_frac) <= BAND for row in rows)
    side = "above it (too fast)" if found.bias > 0 else "below it (too slow)"
    return (
        f"Predicted against measured speed of {found.n} runs on {', '.join(gpu_colours(rows, 'light'))}: {near} lie within "
        f"10 % of equality, the others mostly {side}; mean error {numbers.percent(found.mape)}."
    )


def errors_figure(rows: Sequence[AccuracyRow], mode: Mode = "light") -> go.Figure:
    """The error of the speed, a lane a GPU with a point a run, the half between the quartiles boxed, the median marked."""
    page = PAGES[mode]
    figure = go.Figure()
    colours = gpu_colours(rows, mode)
    for gpu, colour in colours.items():
        own = [row for row in rows if row.gpu == gpu]
        figure.add_trace(
            go.Box(
                x=[100 * row.speed_error_frac for row in own],
                y=[f"{gpu} ({len(own)})"] * len(own),
                orientation="h",
                name=gpu,
                boxpoints="all",
                jitter=0.6,
                pointpos=0,
                whiskerwidth=0,
                line={"color": colour, "width": 1.5},
                fillcolor="rgba(0,0,0,0)",
                marker={"color": colour, "size": 5, "opacity": 0.65},
                customdata=[hover(row) for row in own],
                hovertemplate="%{customdata}<extra></extra>",
                hoveron="points",
            )
        )
    themed(figure, mode, height=max(HEIGHT, 90 + LANE * len(colours)))
    figure.add_vline(x=0, line={"color": page.text, "width": 1.5})
    for end in (-100 * BAND, 100 * BAND):
        figure.add_vline(x=end, line={"color": page.muted, "width": 1, "dash": "dot"})
    figure.update_layout(showlegend=False, boxgap=0.25)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(
        title_text="error of the speed in % (right: predicted too fast)", ticksuffix=" %", zeroline=False
    )
    return figure


def errors_alt(rows: Sequence[AccuracyRow]) -> str:
    """The lanes in words."""
    texts = []
    for gpu in gpu_colours(rows, "light"):
        errors = [row.speed_error_frac for row in rows if row.gpu == gpu]
        ends = numbers.signed_percent_range(min(errors), max(errors))
        texts.append(f"{gpu}: {len(errors)} runs, median {numbers.signed_percent(median(errors))}, from {ends}")
    return f"Error of the speed by GPU. {'; '.join(texts) or 'No measured run is chosen'}."


def gpu_colours(rows: Sequence[AccuracyRow], mode: Mode) -> dict[str, str]:
    """A colour a GPU, the GPUs in the order of their names; a GPU has the same one whatever the rows."""
    there = {row.gpu for row in rows}
    names = [*measured_gpus(), *sorted(there - {*measured_gpus()})]
    colours = {name: _colour(place, mode) for place, name in enumerate(names)}
    return {name: colours[name] for name in sorted(there)}


def _colour(place: int, mode: Mode) -> str:
    """The series' colours, then each of them again away from the ground: darker on paper, lighter on a dark page."""
    colour, is_again = SERIES[place % len(SERIES)], place >= len(SERIES)
    if mode == "dark":
        return mixed(colour, "#FFFFFF", 0.6 if is_again else 0.2)
    return mixed(colour, "#000000", 0.45 if is_again else 0.0)


def hover(row: AccuracyRow) -> str:
    """What stands at a point; texts of the file are no markup."""
    measured, predicted, low, high = (numbers.plain(value) for value in row.speeds)
    lines = [
        f"<b>{literal(row.model)}</b> on {literal(row.gpu)} · {literal(row.case)}",
        f"measured {measured}, predicted {predicted} ({low} to {high}) {row.unit}",
        f"error of the speed {numbers.signed_percent(row.speed_error_frac)}",
    ]
    return "<br>".join(lines)


def _axis(rows: Sequence[AccuracyRow]) -> str:
    """'measured, tokens/s/GPU', or of several units the symbols of each."""
    there = units_of(rows)
    if len(there) <= 1:
        return "".join(f", {unit}" for unit in there)
    return ", each in its own unit:<br>" + ", ".join(f"{SYMBOLS[unit][1]} {unit}" for unit in there)


def _add_band(figure: go.Figure, rows: Sequence[AccuracyRow], mode: Mode) -> None:
    """Equality, and the band of ±10 % around it, over all that is drawn."""
    page = PAGES[mode]
    values = [value for row in rows for value in row.speeds]
    low, high = min(values) / 1.3, max(values) * 1.3
    figure.add_trace(
        go.Scatter(
            x=[low, high, high, low], y=[low * (1 - BAND), high * (1 - BAND), high * (1 + BAND), low * (1 + BAND)],
            fill="toself", fillcolor=mixed(page.background, page.muted, 0.22), line={"width": 0}, mode="lines",
            name="within 10 %", hoverinfo="skip",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            line={"color": page.text, "width": 1.2},
            name="equal",
            hoverinfo="skip",
        )
    )
