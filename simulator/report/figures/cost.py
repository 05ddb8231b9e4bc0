"""The run in pictures: its phases, the step time while the batch grows, and what the assumptions are worth."""

from __future__ import annotations

from math import fsum
from typing import Final

import plotly.graph_objects as go

from simulator.report import numbers
from simulator.report.figures.literal import literal
from simulator.report.figures.look import mixed, themed
from simulator.report.frames import cost as frames
from simulator.report.theme import PAGES, SERIES, Mode
from simulator.results.run_result import PhaseResult, RunResult

NUM_EFFECTS: Final = 8
BAR_HEIGHT: Final = 34
FRAME_HEIGHT: Final = 76


def phases(result: RunResult, mode: Mode = "light") -> go.Figure:
    """GPU-hours of each phase as a bar, in order."""
    frame = frames.phases(result)
    total = fsum(frame["gpu_hours"])
    texts = [
        f"{numbers.quantity(hours)} GPU-hours, {numbers.percent(hours / total if total else 0.0)}"
        for hours in frame["gpu_hours"]
    ]
    bars = go.Bar(
        y=[f"{place}. {literal(name)}" for place, name in enumerate(frame["phase"], start=1)],
        x=list(frame["gpu_hours"]),
        orientation="h",
        marker={"color": PAGES[mode].accent},
        text=texts,
        textposition="auto",
        customdata=[[text, numbers.seconds(wall)] for text, wall in zip(texts, frame["wall_s"], strict=True)],
        hovertemplate="%{y}: %{customdata[0]}, %{customdata[1]}<extra></extra>",
    )
    figure = themed(go.Figure(bars), mode, height=BAR_HEIGHT * len(frame) + FRAME_HEIGHT)
    figure.update_layout(showlegend=False, bargap=0.3)
    figure.update_xaxes(title="GPU-hours", rangemode="tozero", zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def phases_alt(result: RunResult) -> str:
    """The same in words."""
    found = [f"{literal(each.name)} {numbers.quantity(each.gpu_hours)}" for each in result.phases]
    return f"GPU-hours by phase: {', '.join(found)}."


def ramp(phase: PhaseResult, mode: Mode = "light") -> go.Figure:
    """Step time over the batch while it grows; a line a schedule, a mark where a step was simulated."""
    frame = frames.ramp(phase)
    figure = go.Figure()
    for place, name in enumerate(dict.fromkeys(frame["schedule"])):
        rows = frame[frame["schedule"] == name]
        figure.add_scatter(
            x=list(rows["global_batch_size"]),
            y=list(rows["step_s"]),
            name=literal(name),
            mode="lines+markers",
            line={"color": SERIES[place % len(SERIES)]},
            marker={"size": 8},
            customdata=[[numbers.whole(size), numbers.seconds(step)] for size, step in zip(
                rows["global_batch_size"], rows["step_s"], strict=True)],
            hovertemplate="%{customdata[0]} sequences: %{customdata[1]}<extra></extra>",
        )  # fmt: skip
    themed(figure, mode, height=320)
    figure.update_layout(
        showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    )  # fmt: skip
    figure.update_xaxes(title="batch, in sequences", rangemode="tozero", zeroline=False)
    figure.update_yaxes(title="seconds of a step", rangemode="tozero", zeroline=False)
    return figure


def ramp_alt(phase: PhaseResult) -> str:
    """The same in words."""
    pairs = [
        f"{numbers.whole(each.global_batch_size)} sequences {numbers.seconds(each.step_s)} ({literal(each.schedule)})"
        for each in (phase.ramp.points if phase.ramp else ())
    ]
    return f"Step time while the batch grows: {', '.join(pairs)}."


def effects(result: RunResult, mode: Mode = "light") -> go.Figure:
    """What each assumption alone moves the GPU-hours by: a bar from one end of its effect to the other."""
    frame = frames.effects(result).head(NUM_EFFECTS)
    labels = [literal(key) for key in frame["assumption"]]
    figure = go.Figure()
    ends = (("low_frac", "fewer GPU-hours", SERIES[2]), ("high_frac", "more GPU-hours", SERIES[1]))
    for column, name, colour in ends:
        figure.add_bar(
            y=labels,
            x=list(frame[column]),
            orientation="h",
            name=name,
            marker={"color": colour if mode == "light" else mixed(colour, PAGES[mode].text, 0.15)},
            text=[numbers.signed_percent(end) if end else "" for end in frame[column]],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    themed(figure, mode, height=BAR_HEIGHT * len(frame) + FRAME_HEIGHT)
    most = max(map(abs, [*frame["low_frac"], *frame["high_frac"], 0.001]))
    figure.update_layout(barmode="overlay", bargap=0.3, showlegend=False)
    figure.update_xaxes(title="change of the run's GPU-hours", tickformat="+.0%" if most > 0.02 else "+.1%",
                        range=[-most * 1.35, most * 1.35])  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def effects_alt(result: RunResult) -> str:
    """The same in words."""
    frame = frames.effects(result).head(NUM_EFFECTS)
    found = [
        f"{literal(key)} {numbers.signed_percent_range(low, high)}"
        for key, low, high in zip(frame["assumption"], frame["low_frac"], frame["high_frac"], strict=True)
    ]
    return f"Change of the GPU-hours when one assumption goes to the ends of its range: {', '.join(found)}."
